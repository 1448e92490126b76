"""Who is calling, by what the headers say."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mqsvc.access.gate import Gate
from mqsvc.access.identity import Caller, Headers, project_of
from mqsvc.access.policy import Policy, make_rules
from mqsvc.access.signed_urls import SignedUrls
from mqsvc.messaging.errors import InvalidHeader
from mqsvc.messaging.limits import Limits

exact = settings(deadline=None, derandomize=True)

UUID = "0123456789abcdef0123456789abcdef"
DASHED = "01234567-89ab-cdef-0123-456789abcdef"

STRICT = Limits()
OFF = Limits(client_id_uuid_safe="off")


def headers(**values: str) -> Headers:
    """Headers by name, with underscores for dashes."""
    by_name = {name.replace("_", "-").lower(): v for name, v in values.items()}
    return lambda name: by_name.get(name.lower())


def identify(read: Headers, limits: Limits) -> Caller:
    """The caller of a request, where nobody is asked for credentials."""
    gate = Gate(None, Policy(make_rules({})), SignedUrls(None), limits, lambda: 0)
    return gate.caller(read, None)


def title_of(read: Headers, limits: Limits = STRICT) -> str:
    """The title with which headers are refused; empty when they are fine."""
    try:
        identify(read, limits)
    except InvalidHeader as error:
        if not error.description:
            raise AssertionError("a refusal without words") from error
        return error.title
    return ""


class ClientIdTests(SynchronousTestCase):
    """The Client-ID header."""

    def client_id(self, text: str, limits: Limits = STRICT) -> str:
        """What a Client-ID is known as."""
        return identify(headers(Client_ID=text, X_Project_ID="p"), limits).client_id

    def title(self, limits: Limits = STRICT, **client_id: str) -> str:
        """The title with which a Client-ID is refused."""
        return title_of(headers(X_Project_ID="p", **client_id), limits)

    def test_known(self) -> None:
        """A client that came before is looked up, unless its text takes much memory."""
        for text, is_known in ((DASHED, True), ("-" * 30_000 + UUID, False)):
            first, again = self.client_id(text), self.client_id(text)
            self.assertEqual((UUID, UUID), (first, again))
            self.assertEqual(is_known, first is again)

    def test_forms_of_a_uuid(self) -> None:
        """However a UUID is written, it is the same client."""
        for text in (
            *(UUID, UUID.upper(), DASHED, DASHED.upper(), "{" + DASHED + "}"),
            *(f"urn:uuid:{DASHED}", "{" + UUID + "}"),
        ):
            self.assertEqual(UUID, self.client_id(text), text)

    def test_missing(self) -> None:
        """Without it nobody is let in, in either mode."""
        for limits in (STRICT, OFF):
            self.assertEqual("Missing header value", self.title(limits))

    def test_no_uuid(self) -> None:
        """Anything else is refused while UUIDs are asked for."""
        for text in ("", " ", "x", UUID[:-1], UUID + "0", "g" * 32, "-" * 36, "{}"):
            self.assertEqual("Wrong UUID value", self.title(Client_ID=text), text)

    def test_any_text(self) -> None:
        """Where UUIDs are not asked for, 10 to 36 characters are taken as they are."""
        for text in ("x" * 10, "x" * 36, DASHED, UUID.upper(), "\u00fc" * 20):
            self.assertEqual(text, self.client_id(text, OFF))
        for text in ("", "x" * 9, "x" * 37):
            self.assertEqual("Wrong UUID value", self.title(OFF, Client_ID=text))

    def test_configured_lengths(self) -> None:
        """The lengths are a matter of configuration."""
        limits = Limits(
            client_id_uuid_safe="off", min_length_client_id=3, max_length_client_id=4
        )
        for length in range(1, 6):
            refused = self.title(limits, Client_ID="x" * length) != ""
            self.assertEqual(length not in (3, 4), refused, length)

    @exact
    @given(st.text())
    def test_any(self, text: str) -> None:
        """What is let in is as long as a UUID; all else is refused in so many words."""
        if self.title(Client_ID=text) == "":
            self.assertRegex(self.client_id(text), r"\A[0-9a-f]{32}\Z")


class ProjectTests(SynchronousTestCase):
    """The project headers."""

    def test_newer_name_first(self) -> None:
        """The older name of the header counts only without the newer one."""
        for given_headers, project in (
            ({"X_Project_ID": "a"}, "a"),
            ({"X_Tenant_ID": "b"}, "b"),
            ({"X_Project_ID": "a", "X_Tenant_ID": "b"}, "a"),
        ):
            read = headers(Client_ID=UUID, **given_headers)
            self.assertEqual(project, identify(read, STRICT).project)
            self.assertEqual(project, project_of(read))

    def test_any_text(self) -> None:
        """A project is any text that is not empty."""
        for project in (" ", "a/b.c", "\u00fc", "p" * 1000):
            read = headers(Client_ID=UUID, X_Project_ID=project)
            self.assertEqual(project, identify(read, STRICT).project)

    def test_refused(self) -> None:
        """A missing project and an empty one are told apart."""
        self.assertIsNone(project_of(headers()))
        self.assertEqual("Project-Id Missing", title_of(headers(Client_ID=UUID)))
        for empty in (
            {"X_Project_ID": ""},
            {"X_Tenant_ID": ""},
            {"X_Project_ID": "", "X_Tenant_ID": "b"},
        ):
            self.assertEqual(
                "Empty project header not allowed",
                title_of(headers(Client_ID=UUID, **empty)),
            )

    def test_client_first(self) -> None:
        """Of two things that are wrong the client is told of."""
        self.assertEqual("Missing header value", title_of(headers()))


class RoleTests(SynchronousTestCase):
    """The roles of a caller."""

    def roles(self, text: str | None) -> frozenset[str]:
        """The roles that a header gives."""
        given_headers = {"Client_ID": UUID, "X_Project_ID": "p"}
        if text is not None:
            given_headers["X_Roles"] = text
        return identify(headers(**given_headers), STRICT).roles

    def test_list(self) -> None:
        """Roles come as a list with commas; blanks around them are cut off."""
        for text, roles in (
            (None, set()),
            ("", set()),
            (" , ,", set()),
            ("admin", {"admin"}),
            (" a, b ,a,,c d", {"a", "b", "c d"}),
            ("Admin", {"admin"}),
        ):
            self.assertEqual(roles, self.roles(text), text)
