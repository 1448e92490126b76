"""Options: their sources, their checks, and what is said of wrong ones."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mqsvc.config import (
    GREATEST,
    RESERVED_VARIABLES,
    ConfigError,
    Settings,
    known_options,
    load,
)

CHECKOUT = Path(__file__).parent.parent
SAMPLE = CHECKOUT / "etc" / "mqsvc.toml"
UNIT = CHECKOUT / "etc" / "mqsvc.service"
DOCUMENT = CHECKOUT / "docs" / "configuration.rst"

UNCOMMENTED = re.compile(r"^#(?=[a-z_]+ = )", re.MULTILINE)
ROW = re.compile(r"\* - ``(\w+)``\n +- ``(.*)``\n")
VARIABLE = re.compile(r"\bMQSVC_[A-Z_]*[A-Z]")
SECTION = re.compile(r"^Group ``(\w+)``", re.MULTILINE)


def flattened(document: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a TOML document by the full names of its options."""
    flat: dict[str, Any] = {}
    for name, value in document.items():
        if isinstance(value, dict):
            flat |= {f"{name}.{inner}": each for inner, each in value.items()}
        else:
            flat[name] = value
    return flat


class ConfigTestCase(SynchronousTestCase):
    """Writes files and looks at refusals."""

    def file(self, text: str) -> str:
        """A configuration file with a text."""
        path = Path(self.mktemp())
        path.write_text(text, encoding="utf-8")
        return str(path)

    def refusal(
        self,
        *overrides: str,
        path: str | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> str:
        """The one line by which a configuration is refused."""
        error = self.assertRaises(
            ConfigError, load, path, {} if environ is None else environ, overrides
        )
        self.assertEqual(1, len(str(error).splitlines()))
        return str(error)


class WebSocketPortTests(ConfigTestCase):
    """The port for WebSocket alone."""

    def test_port(self) -> None:
        """By default it is opened if it is free; what is chosen must be; or none is."""
        local = "tcp:9000:interface=127.0.0.1"
        for overrides, endpoint, is_needed in (
            ([], local, False),
            ([f"websocket=if-free:{local}"], local, False),
            ([f"websocket={local}"], local, True),
            (["websocket="], "", True),
        ):
            loaded = load(None, {}, overrides)
            self.assertEqual(endpoint, loaded.websocket_endpoint)
            self.assertEqual(is_needed, loaded.needs_websocket_port)


class SourceTests(ConfigTestCase):
    """Where values come from."""

    def test_nothing_gives_the_defaults(self) -> None:
        """Without any source every option has its default."""
        loaded = load(None, {}, [])
        self.assertEqual(Settings(), loaded)
        self.assertEqual("tcp:8888:interface=127.0.0.1", loaded.http)
        self.assertEqual(3600, loaded.transport.default_message_ttl)
        self.assertIsNone(loaded.signed_url.secret_key)

    def test_file(self) -> None:
        """A file sets options in and outside of groups, with TOML's types."""
        path = self.file(
            'admin_mode = true\nhttp = "tcp:1"\n[transport]\nmax_claim_ttl = 600\n'
            'subscriber_types = ["https"]\n[signed_url]\nsecret_key = "k"\n'
        )
        loaded = load(path, {}, [])
        self.assertIs(True, loaded.admin_mode)
        self.assertEqual("tcp:1", loaded.http)
        self.assertEqual(600, loaded.transport.max_claim_ttl)
        self.assertEqual(("https",), loaded.transport.subscriber_types)
        self.assertEqual("k", loaded.signed_url.secret_key)

    def test_environment(self) -> None:
        """Variables set options, converted to their types; others are not looked at."""
        environ = {
            "MQSVC_ENABLE_CHECKSUM": "true",
            "MQSVC_DATA_DIR": "/d",
            "MQSVC_TRANSPORT__MAX_CLAIM_TTL": "600",
            "MQSVC_TRANSPORT__SUBSCRIBER_TYPES": "http, https",
            "MQSVC_SIGNED_URL__SECRET_KEY": "k",
            "HTTP": "tcp:1",
            "mqsvc_http": "tcp:2",
        }
        loaded = load(None, environ, [])
        self.assertIs(True, loaded.enable_checksum)
        self.assertEqual("/d", loaded.data_dir)
        self.assertEqual(600, loaded.transport.max_claim_ttl)
        self.assertEqual(("http", "https"), loaded.transport.subscriber_types)
        self.assertEqual("k", loaded.signed_url.secret_key)
        self.assertEqual(Settings().http, loaded.http)

    def test_reserved_variables(self) -> None:
        """The variables of the scripts are no options and are passed over."""
        environ = {"MQSVC_CONFIG": "/nowhere", "MQSVC_VENV": "/nowhere"}
        self.assertEqual(Settings(), load(None, environ, []))

    def test_overrides(self) -> None:
        """Overrides set options, converted to their types; the last one wins."""
        loaded = load(
            None,
            {},
            [
                "workers=2",
                "transport.max_claim_ttl=600",
                "--data-dir=/a",
                "data_dir=/b",
            ],
        )
        self.assertEqual((600, 2), (loaded.transport.max_claim_ttl, loaded.workers))
        self.assertEqual("/b", loaded.data_dir)

    def test_value_with_equals_sign(self) -> None:
        """Only the first equals sign of an override ends the name."""
        loaded = load(None, {}, ["http=tcp:1:interface=::1", "signed_url.secret_key=="])
        self.assertEqual("tcp:1:interface=::1", loaded.http)
        self.assertEqual("=", loaded.signed_url.secret_key)

    def test_precedence(self) -> None:
        """The environment wins over the file, and overrides win over both."""
        path = self.file('data_dir = "f"\nhttp = "f"\nwebsocket = "f"\n')
        environ = {"MQSVC_HTTP": "e", "MQSVC_WEBSOCKET": "e"}
        loaded = load(path, environ, ["websocket=o"])
        self.assertEqual(
            ("f", "e", "o"), (loaded.data_dir, loaded.http, loaded.websocket)
        )

    def test_empty_secret_key(self) -> None:
        """An empty secret key is none, so that nothing is ever signed with it."""
        path = self.file('[signed_url]\nsecret_key = ""\n')
        for loaded in (
            load(path, {}, []),
            load(None, {"MQSVC_SIGNED_URL__SECRET_KEY": ""}, []),
            load(None, {}, ["signed_url.secret_key="]),
        ):
            self.assertIsNone(loaded.signed_url.secret_key)

    def test_lists(self) -> None:
        """A list is written with commas outside of a file."""
        path = self.file(
            '[storage]\nmessage_pipeline = ["a", "b"]\n[encryption]\nkeys = ["k:1"]\n'
        )
        environ = {
            "MQSVC_STORAGE__MESSAGE_PIPELINE": "a, b",
            "MQSVC_ENCRYPTION__KEYS": "k:1",
        }
        overrides = ["storage.message_pipeline=a,b", "encryption.keys=k:1"]
        for loaded in (
            load(path, {}, []),
            load(None, environ, []),
            load(None, {}, overrides),
        ):
            self.assertEqual(("a", "b"), loaded.storage.message_pipeline)
            self.assertEqual(("k:1",), loaded.encryption.keys)

    def test_options_of_stages(self) -> None:
        """Tables of stages are taken as they are, and come from the file only."""
        path = self.file(
            "[stages.one]\nx = [1, 2]\n[stages.one.inner]\ny = true\n[stages.two]\n"
        )
        self.assertEqual(
            {"one": {"x": [1, 2], "inner": {"y": True}}, "two": {}},
            load(path, {}, []).stages.by_name,
        )
        self.assertEqual({}, load(None, {}, []).stages.by_name)

    def test_text_that_looks_like_another_type(self) -> None:
        """A text option takes words that mean something else to other types."""
        for word in ("null", "true", "12"):
            loaded = load(
                None, {}, [f"data_dir={word}", f"signed_url.secret_key={word}"]
            )
            self.assertEqual(
                (word, word), (loaded.data_dir, loaded.signed_url.secret_key)
            )


class RefusalTests(ConfigTestCase):
    """What is wrong, and how it is said."""

    def test_unknown_option_suggests_the_nearest(self) -> None:
        """An unknown option is refused with the name that it resembles."""
        path = self.file("[transport]\nmax_clam_ttl = 600\n")
        self.assertEqual(
            f"{path}: there is no option 'transport.max_clam_ttl'; "
            "did you mean transport.max_claim_ttl?",
            self.refusal(path=path),
        )
        self.assertEqual(
            "--set: there is no option 'htp'; did you mean http?", self.refusal("htp=x")
        )

    def test_option_without_its_group(self) -> None:
        """An option of a group that is named alone is found in its group."""
        self.assertEqual(
            "--set: there is no option 'max_claim_ttl'; "
            "did you mean transport.max_claim_ttl?",
            self.refusal("max_claim_ttl=600"),
        )

    def test_unknown_option_that_resembles_nothing(self) -> None:
        """An option like no other is refused with a place to look in."""
        self.assertEqual(
            "--set: there is no option 'zzz'; docs/configuration.rst lists them all",
            self.refusal("zzz=1"),
        )

    def test_unknown_group(self) -> None:
        """A group that does not exist is refused as a whole."""
        path = self.file("[zzz]\nx = 1\n")
        self.assertIn("there is no option 'zzz'", self.refusal(path=path))

    def test_group_as_an_option(self) -> None:
        """The name of a group alone is refused from every source."""
        hint = "it is a group, name one of its options"
        self.assertEqual(
            f"--set: there is no option 'transport'; {hint}",
            self.refusal("transport=1"),
        )
        self.assertEqual(
            f"MQSVC_TRANSPORT: there is no such variable; {hint}",
            self.refusal(environ={"MQSVC_TRANSPORT": "1"}),
        )
        path = self.file("transport = 5\n")
        self.assertEqual(
            f"{path}: transport is a group, expected [transport]",
            self.refusal(path=path),
        )

    def test_options_of_stages_elsewhere(self) -> None:
        """Options of stages are refused outside of the file, and say so."""
        hint = "options of stages stand in the file, as [stages.NAME]"
        self.assertEqual(
            f"--set: there is no option 'stages.one.x'; {hint}",
            self.refusal("stages.one.x=1"),
        )
        self.assertEqual(
            f"MQSVC_STAGES__ONE__X: there is no such variable; {hint}",
            self.refusal(environ={"MQSVC_STAGES__ONE__X": "1"}),
        )

    def test_options_of_stages_of_another_shape(self) -> None:
        """Each stage has a table of its own."""
        path = self.file("stages = 271828\n")
        self.assertEqual(
            f"{path}: stages is a group of groups, expected [stages.NAME]",
            self.refusal(path=path),
        )
        path = self.file("[stages]\none = 271828\n")
        self.assertEqual(
            f"{path}: stages.one is a group, expected [stages.one]",
            self.refusal(path=path),
        )

    def test_option_as_a_group(self) -> None:
        """A table in the place of a value is refused."""
        path = self.file("[http]\nport = 1\n")
        self.assertEqual(
            f"{path}: http: expected a text that is not empty, not {{'port': 1}}",
            self.refusal(path=path),
        )

    def test_unknown_variable(self) -> None:
        """An unknown variable with the program's prefix is refused."""
        self.assertEqual(
            "MQSVC_WORKRES: there is no such variable; did you mean MQSVC_WORKERS?",
            self.refusal(environ={"MQSVC_WORKRES": "1"}),
        )
        self.assertIn(
            "did you mean MQSVC_HTTP?", self.refusal(environ={"MQSVC_HTTp": "tcp:1"})
        )

    def test_unreadable_file(self) -> None:
        """A file that is missing, or no file, is refused with the system's reason."""
        self.assertEqual(
            "/nowhere/mqsvc.toml: cannot be read: No such file or directory",
            self.refusal(path="/nowhere/mqsvc.toml"),
        )
        self.assertEqual("/: cannot be read: Is a directory", self.refusal(path="/"))

    def test_malformed_file(self) -> None:
        """A file that is no TOML is refused with the place of the error."""
        path = self.file("admin_mode = true\nhttp = \n")
        refusal = self.refusal(path=path)
        self.assertTrue(refusal.startswith(f"{path}: is not a TOML file: "), refusal)
        self.assertIn("line 2", refusal)

    def test_file_that_is_no_text(self) -> None:
        """A file with bytes that are not UTF-8 is refused."""
        path = Path(self.mktemp())
        path.write_bytes(b'http = "\xff"\n')
        self.assertIn("is not a TOML file", self.refusal(path=str(path)))

    def test_override_without_value(self) -> None:
        """An override without an equals sign is refused and not repeated."""
        self.assertEqual(
            "--set: expected OPTION=VALUE or GROUP.OPTION=VALUE",
            self.refusal("signed_url.secret_key:hush"),
        )

    def test_wrong_values(self) -> None:
        """Each type says what it expects, and shows what it got."""
        number = f"a whole number from 60 to {GREATEST}"
        for override, expected in {
            "admin_mode=yes": "true or false, not 'yes'",
            "data_dir=": "a text that is not empty, not ''",
            "http=": "a text that is not empty, not ''",
            "workers=0": f"a whole number from 1 to {GREATEST}, not '0'",
            "transport.max_claim_ttl=1h": f"{number}, not '1h'",
            "transport.max_claim_ttl=59": f"{number}, not '59'",
            "transport.max_claim_ttl=2147483648": f"{number}, not '2147483648'",
            "transport.client_id_uuid_safe=on": "'off' or 'strict', not 'on'",
        }.items():
            name = override.partition("=")[0]
            self.assertEqual(
                f"--set: {name}: expected {expected}", self.refusal(override)
            )

    def test_wrong_types_in_a_file(self) -> None:
        """TOML's own types are not converted."""
        for line in (
            'workers = "1"',
            "workers = 1.0",
            "workers = true",
            "admin_mode = 1",
            'admin_mode = "true"',
            "http = 8888",
            "data_dir = 1979-05-27",
        ):
            path = self.file(f"{line}\n")
            name = line.partition(" ")[0]
            self.assertIn(f"{path}: {name}: expected ", self.refusal(path=path))
        path = self.file('[transport]\nsubscriber_types = "http,https"\n')
        self.assertEqual(
            f"{path}: transport.subscriber_types: expected a list of texts, "
            "not 'http,https'",
            self.refusal(path=path),
        )

    def test_origins(self) -> None:
        """A wrong value is blamed on the place it came from."""
        path = self.file('websocket = "w"\n[transport]\nmax_claim_ttl = 1\n')
        environ = {"MQSVC_TRANSPORT__MAX_CLAIM_TTL": "1"}
        option = "transport.max_claim_ttl: expected"
        self.assertIn(f"{path}: {option}", self.refusal(path=path))
        self.assertIn(
            f"MQSVC_TRANSPORT__MAX_CLAIM_TTL: {option}", self.refusal(environ=environ)
        )
        self.assertIn(f"--set: {option}", self.refusal("transport.max_claim_ttl=1"))
        self.assertIn("--workers: workers: expected", self.refusal("--workers=x"))

    def test_wrong_value_that_is_overridden(self) -> None:
        """A wrong value is refused although a later source would win."""
        path = self.file("workers = 0\n")
        self.assertIn(f"{path}: workers", self.refusal("workers=2", path=path))

    def test_defaults_above_their_maximum(self) -> None:
        """A default above its maximum is refused, whichever of them was given."""
        for small, great in (
            ("default_message_ttl", "max_message_ttl"),
            ("default_message_delay", "max_message_delay"),
            ("default_claim_ttl", "max_claim_ttl"),
            ("default_claim_grace", "max_claim_grace"),
            ("min_length_client_id", "max_length_client_id"),
        ):
            given = [f"transport.{small}=62", f"transport.{great}=61"]
            self.assertEqual(
                f"--set: transport.{small} is 62, expected at most "
                f"transport.{great}, which is 61",
                self.refusal(*given),
            )
            load(None, {}, [f"transport.{small}=61", f"transport.{great}=61"])

    def test_variables_of_a_cluster(self) -> None:
        """What Kubernetes tells of a service of this name is no option."""
        names = ("MQSVC_SERVICE_HOST", "MQSVC_PORT", "MQSVC_PORT_8888_TCP_ADDR")
        self.assertEqual(Settings(), load(None, dict.fromkeys(names, "x"), []))

    def test_pair_from_two_places(self) -> None:
        """Two options that do not fit together are blamed on both their places."""
        path = self.file("[transport]\ndefault_claim_ttl = 200\n")
        self.assertEqual(
            f"{path} and --set: transport.default_claim_ttl is 200, expected at most "
            "transport.max_claim_ttl, which is 100",
            self.refusal("transport.max_claim_ttl=100", path=path),
        )
        self.assertEqual(
            "--set: transport.default_claim_ttl is 300, expected at most "
            "transport.max_claim_ttl, which is 100",
            self.refusal("transport.max_claim_ttl=100"),
        )

    def test_authentication_strategy(self) -> None:
        """A strategy is refused without the options that it needs."""
        self.assertEqual("", load(None, {}, ["auth_strategy="]).auth_strategy)
        self.assertEqual(
            "MQSVC_AUTH_STRATEGY: auth_strategy: 'keystone' needs "
            "keystone_authtoken.auth_url, which is not set",
            self.refusal(environ={"MQSVC_AUTH_STRATEGY": "keystone"}),
        )
        url = ["auth_strategy=keystone", "keystone_authtoken.auth_url=http://k/v3"]
        self.assertIn("keystone_authtoken.username,", self.refusal(*url))
        credential = "keystone_authtoken.application_credential_"
        self.assertIn(f"{credential}secret,", self.refusal(*url, f"{credential}id=x"))
        load(None, {}, [*url, f"{credential}id=x", f"{credential}secret=y"])
        self.assertIn("needs token_file,", self.refusal("auth_strategy=token_file"))
        self.assertIn("expected '' or 'keystone'", self.refusal("auth_strategy=x"))

    @settings(deadline=None)
    @given(name=st.sampled_from(sorted(known_options())), text=st.text())
    def test_any_text(self, name: str, text: str) -> None:
        """Whatever text an option is given, it is taken or refused in one line."""
        try:
            taken = load(None, {}, [f"{name}={text}"])
        except ConfigError as error:
            self.assertEqual(1, len(str(error).splitlines()))
        else:
            self.assertIsInstance(taken, Settings)


class SecretTests(ConfigTestCase):
    """What must not be seen."""

    def test_refusals_hide_values(self) -> None:
        """A value in a group of secrets is not part of the line that refuses it."""
        for text in (
            "[signed_url]\nsecret_key = 271828\n",
            "[signed_url]\nsecret_key = ['271828']\n",
            "[signed_url]\nsecretkey = '271828'\n",
            "[drivers]\nmessage_store = ['redis://u:271828@h']\n",
            "[encryption]\nkeys = '271828'\n",
            "[encryption]\nkeys = [271828]\n",
            "signed_url = '271828'\n",
        ):
            self.assertNotIn("271828", self.refusal(path=self.file(text)))
        for override in ("signed_url.secretkey=271828", "signed_url.secret_key:271828"):
            self.assertNotIn("271828", self.refusal(override))
        environ = {"MQSVC_SIGNED_URL__KEY": "271828"}
        self.assertNotIn("271828", self.refusal(environ=environ))

    def test_representations_hide_values(self) -> None:
        """The representation of the settings says only whether a secret is set."""
        loaded = load(
            self.file("[stages.one]\nx = 271828\n[encryption]\nkeys = ['271828']\n"),
            {},
            [
                "signed_url.secret_key=271828",
                "drivers.message_store=redis://u:271828@h",
            ],
        )
        shown = repr(loaded)
        self.assertNotIn("271828", shown)
        self.assertIn("SignedUrl(secret_key=...)", shown)
        self.assertIn("Drivers(bus=unset, message_store=..., ", shown)
        self.assertIn("management_store=unset)", shown)
        self.assertIn("Encryption(keys=...)", shown)


class SampleTests(SynchronousTestCase):
    """The commented sample and the document hold every option at its default."""

    def test_every_option_once_at_its_default(self) -> None:
        """The sample without its comment marks is exactly the defaults."""
        text = UNCOMMENTED.sub("", SAMPLE.read_text(encoding="utf-8"))
        self.assertEqual(set(known_options()), set(flattened(tomllib.loads(text))))
        path = Path(self.mktemp())
        path.write_text(text, encoding="utf-8")
        self.assertEqual(Settings(), load(str(path), {}, []))

    def test_sample_as_it_is(self) -> None:
        """The sample as it is sets nothing."""
        document = tomllib.loads(SAMPLE.read_text(encoding="utf-8"))
        self.assertEqual({}, flattened(document))
        self.assertEqual(Settings(), load(str(SAMPLE), {}, []))

    def test_every_option_is_explained(self) -> None:
        """In the sample a line of explanation stands before each option."""
        lines = SAMPLE.read_text(encoding="utf-8").splitlines()
        options = [index for index, line in enumerate(lines) if UNCOMMENTED.match(line)]
        self.assertEqual(len(known_options()), len(options))
        for index in options:
            self.assertRegex(lines[index - 1], r"^# \S")

    def test_document(self) -> None:
        """The document lists each option with the default of the sample."""
        head, *sections = SECTION.split(DOCUMENT.read_text(encoding="utf-8"))
        documented = dict(ROW.findall(head))
        for group, text in zip(sections[::2], sections[1::2], strict=True):
            documented |= {
                f"{group}.{name}": value for name, value in ROW.findall(text)
            }
        values = {
            name: tomllib.loads(f"x = {v}")["x"] for name, v in documented.items()
        }
        sample = UNCOMMENTED.sub("", SAMPLE.read_text(encoding="utf-8"))
        self.assertEqual(flattened(tomllib.loads(sample)), values)

    def test_variables_that_are_named(self) -> None:
        """Every variable that a file of the project names is known."""
        known = {option.variable for option in known_options().values()}
        placeholders = {"MQSVC_OPTION", "MQSVC_GROUP__OPTION"}
        for path in (SAMPLE, UNIT, DOCUMENT):
            named = set(VARIABLE.findall(path.read_text(encoding="utf-8")))
            self.assertTrue(named)
            self.assertEqual(set(), named - known - RESERVED_VARIABLES - placeholders)
