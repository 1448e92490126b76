"""The commands of ``scripts/``: what they find, install, run and report.

The real tools take minutes to install, so an environment is played by a shell script
that says what it is asked to do. The shell code under test is the real one.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from shutil import which

from twisted.trial.unittest import SynchronousTestCase

from tests.live import CHECKOUT

SCRIPTS = CHECKOUT / "scripts"
NEEDED_TOOLS = [
    "basename",
    "bash",
    "cat",
    "cksum",
    "dirname",
    "id",
    "readlink",
    "sed",
    "tail",
]

# $1 is -c only where the scripts ask which Python this is.
PLAYED_PYTHON = f"""\
#!/bin/sh
case "$*" in
    -c*) exec {sys.executable} "$@" ;;
    *) echo "ran:" "$@" ;;
esac
counts=${{{{*#*--counts }}}}
counts=${{{{counts%% *}}}}
{{}}
"""

SAMPLE_TESTS = """\
import unittest
from twisted.trial.unittest import SynchronousTestCase, SkipTest

class Tests(SynchronousTestCase):
    def test_pass(self): pass
    def test_fail(self): self.fail()
    def test_error(self): raise ValueError
    def test_skip(self): raise SkipTest("why")
    def test_todo(self): self.fail()
    test_todo.todo = "later"
    def test_unexpected(self): pass
    test_unexpected.todo = "later"
    def test_broken_clean_up(self): self.addCleanup(self.fail)

class Standard(unittest.TestCase):
    @unittest.expectedFailure
    def test_expected(self): self.fail()
    def test_subtests(self):
        for number in range(3):
            with self.subTest(number): self.assertEqual(number, 0)
"""


def run(
    command: list[str], environment: Mapping[str, str], directory: Path
) -> subprocess.CompletedProcess[str]:
    """Run a command with no more than the given environment."""
    return subprocess.run(
        command,
        env=dict(environment),
        cwd=directory,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def write_program(path: Path, text: str) -> None:
    """Write an executable file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


class ScriptCase(SynchronousTestCase):
    """A directory of programs that is all of ``PATH``."""

    def setUp(self) -> None:
        """Provide the tools that the scripts need, and no Python."""
        self.directory = Path(self.mktemp()).absolute()
        self.programs = self.directory / "programs"
        self.programs.mkdir(parents=True)
        self.venv = self.directory / "venv"
        for tool in NEEDED_TOOLS:
            (self.programs / tool).symlink_to(str(which(tool)))
        self.environment = {
            "PATH": str(self.programs),
            "MQSVC_VENV": str(self.venv),
        }

    def source(self, commands: str) -> subprocess.CompletedProcess[str]:
        """Run shell commands after scripts/environment.sh."""
        script = f"set -eu; . {SCRIPTS}/environment.sh; {commands}"
        return run(["/bin/bash", "-c", script], self.environment, self.directory)

    def start(self, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run one of the scripts, from another directory than the checkout."""
        command = ["/bin/bash", str(SCRIPTS / name), *arguments]
        return run(command, self.environment, self.directory)

    def play_environment(self, behaviour: str = "") -> None:
        """An environment that is complete and does what it is told by a script."""
        write_program(self.venv / "bin" / "python", PLAYED_PYTHON.format(behaviour))
        stamps = ("", "[test]")
        for stamp in stamps:
            self.source(f'fingerprint >"$venv/.mqsvc-installed{stamp}"')


class FindPythonTests(ScriptCase):
    """Which Python an environment is made with."""

    def test_newest(self) -> None:
        """The newest one that runs is taken; one that does not run is passed over."""
        write_program(self.programs / "python3.14", "#!/bin/sh\nexit 127\n")
        for name in ("python3.12", "python3.11"):
            (self.programs / name).symlink_to(sys.executable)
        found = self.source("find_python").stdout
        self.assertEqual(found, f"{self.programs}/python3.12\n")

    def test_too_old(self) -> None:
        """Where there is only an older one, it is said what to do."""
        write_program(self.programs / "python3", "#!/bin/sh\nexit 1\n")
        ended = self.start("serve")
        self.assertEqual(ended.returncode, 1)
        self.assertIn("no Python 3.11 or newer", ended.stderr)
        self.assertIn("apt-get install python3", ended.stderr)

    def test_without_venv(self) -> None:
        """Where Python cannot make environments, the missing package is named."""
        write_program(
            self.programs / "python3.13",
            '#!/bin/sh\ncase "$2" in *ensurepip*) exit 1 ;; *print*) '
            "echo python3.13-venv ;; esac\n",
        )
        ended = self.start("serve")
        self.assertEqual(ended.returncode, 1)
        self.assertIn("apt-get install python3.13-venv", ended.stderr)


class ServeTests(ScriptCase):
    """``scripts/serve``."""

    def test_starts_the_server(self) -> None:
        """With a complete environment nothing is installed, and twistd is started."""
        self.play_environment()
        ended = self.start("serve", "--data-dir", "/other")
        twistd = f"ran: {self.venv}/bin/twistd --pidfile= --nodaemon mqsvc"
        self.assertEqual(
            ended.stdout,
            f"{twistd} --data-dir {CHECKOUT}/data --data-dir /other\n",
        )
        self.assertIn("http://127.0.0.1:8888", ended.stderr)
        self.assertNotIn("Installing", ended.stderr)

    def test_installs_again(self) -> None:
        """When what is needed has changed, it is installed first."""
        self.play_environment()
        (self.venv / ".mqsvc-installed").write_text("something else\n")
        ended = self.start("serve")
        self.assertIn("Installing", ended.stderr)
        self.assertIn(f"--editable {CHECKOUT}\n", ended.stderr)
        self.assertIn("ran:", ended.stdout)

    def test_failed_installation(self) -> None:
        """An installation that fails is said to have failed, and is not believed."""
        self.play_environment('case "$*" in *install*) exit 1 ;; esac')
        (self.venv / ".mqsvc-installed").write_text("something else\n")
        for _ in range(2):
            ended = self.start("serve")
            self.assertEqual(ended.returncode, 1)
            self.assertIn("the installation failed", ended.stderr)
            self.assertEqual(ended.stdout, "")


class TestTests(ScriptCase):
    """``scripts/test``."""

    def ended(
        self, behaviour: str, *arguments: str
    ) -> subprocess.CompletedProcess[str]:
        """What a run of tests does with tools that behave so."""
        for tool in ("mktemp", "rm"):
            if not (self.programs / tool).exists():
                (self.programs / tool).symlink_to(str(which(tool)))
        self.play_environment(behaviour)
        return self.start("test", *arguments)

    def closing(self, behaviour: str, *arguments: str) -> tuple[str, int]:
        """The last line and the exit code."""
        ended = self.ended(behaviour, *arguments)
        return ended.stdout.splitlines()[-1], ended.returncode

    def parts(self) -> list[str]:
        """The names of the parts of all tests, from what is said of each."""
        ended = self.ended('case "$*" in *run_trial*) echo 1 0 0 >"$counts" ;; esac')
        said = re.findall(r"^(tests[\w.]*): 1 passed", ended.stderr, re.M)
        self.assertEqual(len(said), len(set(said)))
        return said

    def test_every_test(self) -> None:
        """Each module of tests is in one part, alone or with all of its package."""
        parts = self.parts()
        for path in CHECKOUT.glob("tests/**/test_*.py"):
            *packages, name = path.relative_to(CHECKOUT).with_suffix("").parts
            places = {".".join(packages), ".".join((*packages, name))}
            self.assertEqual(len(places.intersection(parts)), 1, path)

    def test_all_good(self) -> None:
        """The counts of all parts of the tests together are the closing line."""
        count = len(self.parts())
        closing = self.closing(
            'case "$*" in *run_trial*) echo 5 0 2 >"$counts" ;; esac'
        )
        expected = f"{5 * count} passed, 0 failed, {2 * count} skipped"
        self.assertEqual(closing, (expected, 0))

    def test_failed_test(self) -> None:
        """A failed test fails the run."""
        count = len(self.parts())
        closing = self.closing(
            'case "$*" in *test_tap*) echo 4 1 2 >"$counts" ;; '
            '*run_trial*) echo 5 0 0 >"$counts" ;; esac'
        )
        self.assertEqual(closing, (f"{5 * count - 1} passed, 1 failed, 2 skipped", 1))

    def test_failed_test_is_shown(self) -> None:
        """What is said of a failed test comes again at the end, and nothing else."""
        ended = self.ended(
            'case "$*" in *test_tap*) echo 4 1 2 >"$counts"; '
            "echo good; echo =========================; echo why ;; "
            '*test_config*) echo crash; exit 139 ;; *run_trial*) echo 5 0 0 >"$counts" '
            ";; esac"
        )
        end = ended.stdout.partition("ran: -m coverage report\n")[2]
        self.assertEqual(
            [
                *("== failed in tests.test_config", "crash"),
                *("== failed in tests.test_tap", "=" * 25, "why"),
            ],
            [line for line in end.splitlines()[:-1] if not line.startswith("ran:")],
        )

    def test_failed_checks(self) -> None:
        """Each check that fails counts as one failed."""
        count = len(self.parts())
        closing = self.closing(
            'case "$*" in *run_trial*) echo 5 0 0 >"$counts" ;; '
            "*mypy* | *ruff*) exit 1 ;; esac"
        )
        self.assertEqual(closing, (f"{5 * count} passed, 3 failed, 0 skipped", 1))

    def test_no_checks_with_names(self) -> None:
        """With names of tests only those tests are run."""
        closing = self.closing(
            'case "$*" in *run_trial*tests.wire) echo 5 0 0 >"$counts" ;; '
            "*) exit 1 ;; esac",
            "tests.wire",
        )
        self.assertEqual(closing, ("5 passed, 0 failed, 0 skipped", 0))

    def test_no_server(self) -> None:
        """Servers that are missing and cannot be installed are named."""
        ended = self.ended('case "$*" in *run_trial*) echo 1 0 0 >"$counts" ;; esac')
        self.assertIn("apt-get install redis-server redis-sentinel", ended.stderr)

    def test_moment_without_network(self) -> None:
        """An installation that fails for a moment is tried again."""
        marker = self.directory / "once"
        self.play_environment(
            f'case "$*" in *install*) [ -f {marker} ] || {{ : >{marker}; exit 1; }} ;; '
            "esac"
        )
        (self.venv / ".mqsvc-installed").write_text("something else\n")
        ended = self.start("serve")
        self.assertTrue(marker.exists())
        self.assertEqual(ended.returncode, 0, ended.stderr)

    def test_no_test(self) -> None:
        """A run without any test fails."""
        closing = self.closing(
            'case "$*" in *run_trial*) echo 0 0 0 >"$counts" ;; esac'
        )
        self.assertEqual(closing, ("0 passed, 0 failed, 0 skipped", 1))

    def test_broken_run(self) -> None:
        """A part that breaks off without counts has failed."""
        count = len(self.parts())
        closing = self.closing('case "$*" in *run_trial*) exit 139 ;; esac')
        self.assertEqual(closing, (f"0 passed, {count} failed, 0 skipped", 1))


class RunTrialTests(SynchronousTestCase):
    """``scripts/run_trial.py``."""

    def counted(
        self,
        *names: str,
        program: tuple[str, ...] = (str(SCRIPTS / "run_trial.py"),),
        **modules: str,
    ) -> tuple[str, int, str]:
        """The counts, the exit code and the output of a run of some modules."""
        directory = Path(self.mktemp()).absolute()
        directory.mkdir()
        for name, text in modules.items():
            (directory / f"{name}.py").write_text(text)
        counts = directory / "counts"
        command = [sys.executable, *program, "--counts", str(counts), *names]
        path = os.pathsep.join(map(str, (directory, SCRIPTS)))
        ended = run(command, {**os.environ, "PYTHONPATH": path}, directory)
        return counts.read_text(), ended.returncode, ended.stdout

    def test_each_test_once(self) -> None:
        """Every way in which a test can end is counted, each test once."""
        counts, code, _ = self.counted("sample", sample=SAMPLE_TESTS)
        self.assertEqual((counts, code), ("3 5 1\n", 1))

    def test_success(self) -> None:
        """The exit code is 0 when all tests passed."""
        text = SAMPLE_TESTS.partition("    def test_fail(")[0]
        counts, code, _ = self.counted("sample", sample=text)
        self.assertEqual((counts, code), ("1 0 0\n", 0))

    def test_broken_module(self) -> None:
        """A module that cannot be imported is a failed test."""
        counts, code, _ = self.counted("sample", sample="import missing_thing")
        self.assertEqual((counts, code), ("0 1 0\n", 1))

    def test_nothing_to_run(self) -> None:
        """A run of no tests at all has failed."""
        counts, code, _ = self.counted("sample", sample="")
        self.assertEqual((counts, code), ("0 0 0\n", 1))

    def test_class_fixture(self) -> None:
        """A class fixture, which trial never calls, is a failure and is named."""
        text = SAMPLE_TESTS.partition("    def test_fail(")[0]
        text += "    @classmethod\n    def setUpClass(cls): raise ValueError\n"
        counts, code, output = self.counted("sample", sample=text)
        self.assertEqual((counts, code), ("1 1 0\n", 1))
        self.assertIn("sample.Tests.setUpClass is never called", output)

    def test_lasting_thread(self) -> None:
        """A thread that a test leaves running is a failure, and ends with the run."""
        text = SAMPLE_TESTS.partition("    def test_fail(")[0]
        text += (
            "    def test_leak(self):\n"
            "        import threading\n"
            "        stuck = threading.Event().wait\n"
            "        threading.Thread(target=stuck, name='stuck').start()\n"
        )
        quick = "import run_trial, sys; run_trial.THREAD_SECONDS = 0; "
        quick += "run_trial.SECONDS_TO_END = 0; sys.exit(run_trial.main(sys.argv[1:]))"
        counts, code, output = self.counted(
            "sample", program=("-c", quick), sample=text
        )
        self.assertEqual((counts, code), ("2 1 0\n", 1))
        self.assertIn("The thread stuck outlives the tests.", output)
