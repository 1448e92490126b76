"""Run tests with trial and count them: ``run_trial.py [--counts FILE] NAME...``.

Plain ``trial`` runs the same tests; this adds what a closing line needs. Each test
counts once, as failed when anything at all went wrong with it: an error in a
clean-up after it passed, a failed subtest, a success that was not expected, a module
that cannot be imported.
"""

from __future__ import annotations

import argparse
import os
import sys
import threading
import time
import unittest
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from twisted.python.failure import Failure
from twisted.trial.reporter import TreeReporter
from twisted.trial.runner import TestLoader, TrialRunner

# How long a thread may take to end after the tests, and the process to end at all.
THREAD_SECONDS = 5
SECONDS_TO_END = 20


class Counts(NamedTuple):
    """How many tests ended in which way."""

    passed: int
    failed: int
    skipped: int


class CountingReporter(TreeReporter):
    """Trial's usual report that also remembers which tests passed."""

    def __init__(self, *arguments: object, **options: object) -> None:
        super().__init__(*arguments, **options)
        self.passed: list[unittest.TestCase] = []

    def addSuccess(self, test: unittest.TestCase) -> None:
        super().addSuccess(test)
        self.passed.append(test)

    def addExpectedFailure(
        self, test: unittest.TestCase, error: Any, todo: Any = None
    ) -> None:
        # What unittest.expectedFailure gives would break the report at its end.
        if isinstance(error, tuple):
            error = Failure(error[1], error[0], error[2])
        super().addExpectedFailure(test, error, todo)

    def counts(self) -> Counts:
        """The tests by outcome, each once."""
        failed = _names(
            [*self.failures, *self.errors, *self.unexpectedSuccesses],
        )
        skipped = _names(self.skips) - failed
        passed = _names([(test,) for test in self.passed])
        passed |= _names(self.expectedFailures)
        return Counts(len(passed - failed - skipped), len(failed), len(skipped))


def _names(outcomes: Sequence[tuple[object, ...]]) -> set[str]:
    """The ids of tests; a subtest is its test."""
    tests = (getattr(test, "test_case", test) for test, *_ in outcomes)
    return {test.id() for test in tests}


def tests_in(suite: unittest.TestSuite | unittest.TestCase) -> Iterator[object]:
    """Every test of a suite."""
    if isinstance(suite, unittest.TestSuite):
        for part in suite:
            yield from tests_in(part)
    else:
        yield suite


def ignored_fixtures(suite: unittest.TestSuite) -> list[str]:
    """Classes with a fixture that trial would pass over in silence."""
    classes = {type(test) for test in tests_in(suite)}
    return sorted(
        f"{case.__module__}.{case.__qualname__}.{name}"
        for case in classes
        for name in ("setUpClass", "tearDownClass")
        if getattr(case, name, None) is not None
        and getattr(case, name).__func__
        is not getattr(unittest.TestCase, name).__func__
    )


def run(names: Sequence[str], directory: str) -> Counts:
    """Run the named tests, report on standard output, and count."""
    suite = TestLoader().loadByNames(list(names), recurse=True)
    ignored = ignored_fixtures(suite)
    result = TrialRunner(CountingReporter, workingDirectory=directory).run(suite)
    complaints = [
        *(f"{name} is never called by trial: use setUp instead." for name in ignored),
        *(f"The thread {name} outlives the tests." for name in lasting_threads()),
    ]
    sys.stdout.write("".join(f"{complaint}\n" for complaint in complaints))
    # A process that is ended in spite of its threads flushes nothing.
    sys.stdout.flush()
    counts = result.counts()
    return counts._replace(failed=counts.failed + len(complaints))


def lasting_threads() -> list[str]:
    """Threads that would keep the process from ending."""
    lasting = []
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join(THREAD_SECONDS)
            if thread.is_alive():
                lasting.append(thread.name)
    return lasting


def end_in_spite_of_threads(code: int) -> None:
    """End the process soon, also when a thread that a test left would keep it.

    Not at once: what measures this run is still to write down what it measured.
    """

    def end() -> None:
        time.sleep(SECONDS_TO_END)
        os._exit(code)

    threading.Thread(target=end, daemon=True).start()


def main(arguments: Sequence[str]) -> int:
    """Run, write the counts where asked, and say by the exit code how it went."""
    parser = argparse.ArgumentParser(description="Run tests with trial, counted.")
    parser.add_argument("--counts", type=Path, help="where to write the three numbers")
    parser.add_argument(
        "--directory", default="_trial_temp", help="where tests keep their files"
    )
    parser.add_argument("names", nargs="+", help="packages, modules, classes, tests")
    options = parser.parse_args(arguments)
    counts_file = options.counts and options.counts.absolute()
    counts = run(options.names, options.directory)
    if counts_file:
        counts_file.write_text("{} {} {}\n".format(*counts))
    code = 0 if counts.passed and not counts.failed else 1
    end_in_spite_of_threads(code)
    return code


if __name__ == "__main__":
    # The checkout, from which the tests are named, as trial itself does it.
    sys.path.insert(0, str(Path.cwd()))
    sys.exit(main(sys.argv[1:]))
