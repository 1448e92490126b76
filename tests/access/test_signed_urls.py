"""Pre-signed URLs: what is granted, and what is granted to nobody."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mqsvc.access.identity import Headers
from mqsvc.access.signed_urls import Grant, SignedUrls, sign
from mqsvc.messaging.errors import InvalidBody, InvalidRequest, UnknownRoute
from mqsvc.messaging.model import Destination, Kind

exact = settings(deadline=None, derandomize=True)

SECRET = "secretkey"
NOW = 1_800_000_000_000
QUEUE = Destination("p1", Kind.QUEUE, "shq")
MESSAGES = "/v2/queues/shq/messages"
LATER = "2100-01-01T00:00:00"

NAMES = ("URL-Signature", "URL-Expires", "URL-Methods", "URL-Paths", "X-Project-ID")

Sent = dict[str, str]


def sent_with(grant: Grant) -> Sent:
    """The headers that a client sends with a grant."""
    values = (
        *(grant.signature, grant.expires),
        *(",".join(grant.methods), ",".join(grant.paths), grant.project),
    )
    return dict(zip(NAMES, values, strict=True))


def signed(
    paths: list[str], methods: list[str], project: str = "p1", expires: str = LATER
) -> Sent:
    """The headers of a grant that was signed as it is."""
    signature = sign(SECRET, paths, methods, project, expires)
    return sent_with(Grant(paths, methods, project, expires, signature))


def passes(
    sent: Sent,
    method: str = "GET",
    path: str = MESSAGES,
    now: int = NOW,
    secret: str | None = SECRET,
) -> bool:
    """Whether a request is let through."""
    read: Headers = sent.get
    try:
        SignedUrls(secret).check(read, method, path, now)
    except UnknownRoute as error:
        if error.description:
            raise AssertionError("a refusal that says why") from error
        return False
    return True


class SignTests(SynchronousTestCase):
    """The signature itself."""

    def test_known_signatures(self) -> None:
        """Signatures are those that other implementations make."""
        others = ["/v2/queues/shq/claims", "/v2/queues/shq/subscriptions"]
        for paths, methods, signature in (
            (
                [MESSAGES],
                ["GET"],
                "3b37861ee8da7d5d299a5f9fa781566f8efee4917b5295ddf0134f23141f616d",
            ),
            (
                [MESSAGES, *others],
                ["POST", "GET"],
                "c94dcc21f611d36081f26bfa54de1861acbe936cb829f949f424cbbeb502988f",
            ),
        ):
            self.assertEqual(signature, sign(SECRET, paths, methods, "p1", LATER))

    def test_everything_counts(self) -> None:
        """A signature depends on each of its parts, and not on their order."""
        paths, methods = ["/a", "/b"], ["GET", "PUT"]
        usual = sign(SECRET, paths, methods, "p", LATER)
        self.assertEqual(usual, sign(SECRET, paths[::-1], methods[::-1], "p", LATER))
        others = {
            sign("other", paths, methods, "p", LATER),
            sign(SECRET, ["/a"], methods, "p", LATER),
            sign(SECRET, paths, ["GET"], "p", LATER),
            sign(SECRET, paths, methods, "q", LATER),
            sign(SECRET, paths, methods, None, LATER),
            sign(SECRET, paths, methods, "p", "2100-01-01T00:00:01"),
        }
        self.assertEqual(6, len(others - {usual}))


class ShareTests(SynchronousTestCase):
    """What can be granted."""

    def share(self, document: Any, now: int = NOW) -> Grant:
        """A grant for a queue."""
        return SignedUrls(SECRET).share(QUEUE, document, now)

    def refused(self, document: Any) -> InvalidRequest:
        """Why a grant is refused."""
        with self.assertRaises(InvalidRequest, msg=document) as caught:
            self.share(document)
        self.assertTrue(caught.exception.description)
        return caught.exception

    def test_defaults(self) -> None:
        """Without wishes messages may be read for a day."""
        nothing = {"paths": None, "methods": None, "expires": None}
        for document in ({}, nothing, {"paths": [], "methods": []}):
            grant = self.share(document)
            self.assertEqual(([MESSAGES], ["GET"]), (grant.paths, grant.methods))
            self.assertEqual("2027-01-16T08:00:00", grant.expires)
            self.assertEqual("p1", grant.project)
            self.assertTrue(passes(sent_with(grant)))

    def test_sorted(self) -> None:
        """Paths and methods are given back in order, as often as they were named."""
        grant = self.share(
            {
                "paths": ["subscriptions", "claims", "messages", "claims"],
                "methods": ["PUT", "DELETE", "PUT"],
            }
        )
        base = "/v2/queues/shq"
        names = ["claims", "claims", "messages", "subscriptions"]
        self.assertEqual([f"{base}/{name}" for name in names], grant.paths)
        self.assertEqual(["DELETE", "PUT", "PUT"], grant.methods)
        self.assertTrue(passes(sent_with(grant), "PUT", f"{base}/claims"))

    def test_expiry(self) -> None:
        """An expiry is a date or a time of ISO 8601, in any zone, cut to the second."""
        for text, expires in (
            (LATER, LATER),
            ("2100-01-01", LATER),
            ("2100-01-01 00:00", LATER),
            ("2100-01-01T00:00:00Z", LATER),
            ("2100-01-01T02:00:00+02:00", LATER),
            ("2100-01-01T00:00:00.999999", LATER),
            (" 2100-01-01T00:00:00\n", LATER),
            ("2027-01-15T08:00:00", "2027-01-15T08:00:00"),
            ("9999-12-31T23:59:59.9", "9999-12-31T23:59:59"),
        ):
            self.assertEqual(expires, self.share({"expires": text}).expires, text)

    def test_refused_expiry(self) -> None:
        """The past, digits and anything that is no text are refused."""
        self.assertNotIsInstance(
            self.refused({"expires": "2027-01-15T07:59:59"}), InvalidBody
        )
        for value in (
            *("", "tomorrow", "20990101", "2099", "2099-13-01", "0001-01-01T00:00+02"),
            *("9999-12-31T23:59:59-01:00", 4_000_000_000, 1.5, True, [], {}),
        ):
            self.refused({"expires": value})

    def test_refused(self) -> None:
        """Whatever is not a wish that can be granted is refused."""
        for document in (
            *(None, [], "x", 5),
            *({"paths": 5}, {"paths": "messages"}, {"paths": [5]}, {"paths": {}}),
            *({"paths": ["stats"]}, {"paths": ["messages", ""]}, {"paths": [None]}),
            *({"paths": ["../other/messages"]}, {"paths": ["messages/x"]}),
            *({"methods": "GET"}, {"methods": [5]}, {"methods": [None]}),
            *({"other": 1}, {"paths": ["messages"], "project": "p2"}),
        ):
            self.refused(document)
        self.assertIn("a, b", self.refused({"b": 1, "a": 1}).description)

    def test_methods_that_continue_the_text(self) -> None:
        """A method cannot carry more methods or paths into what is signed."""
        for method in (
            r"x,/v2/queues/zoo\nDELETE",
            "GET,PUT",
            r"GET\n",
            "G T",
            "",
            "1",
        ):
            self.refused({"methods": ["GET", method]})

    def test_no_secret(self) -> None:
        """A server without a secret grants nothing."""
        with self.assertRaises(InvalidRequest) as caught:
            SignedUrls(None).share(QUEUE, {}, NOW)
        self.assertIn("no secret", caught.exception.description)


class CheckTests(SynchronousTestCase):
    """What a grant lets through."""

    def test_path(self) -> None:
        """A path grants itself and what is below it, and nothing that looks alike."""
        sent = signed(["/v2/queues/a.b/messages", "/v2/queues/c/claims"], ["GET"])
        for path in (
            *("/v2/queues/a.b/messages", "/v2/queues/a.b/messages/1"),
            *("/v2/queues/c/claims", "/v2/queues/c/claims/"),
        ):
            self.assertTrue(passes(sent, path=path), path)
        for path in (
            *("/v2/queues/aXb/messages", "/v2/queues/a.b", "/v2/queues/a.b/messagesx"),
            *("/v2/queues/a.b/claims", "/v2/queues/c/messages", "", "/", "/v2"),
            *("/x/v2/queues/c/claims", "v2/queues/c/claims"),
        ):
            self.assertFalse(passes(sent, path=path), path)

    def test_method(self) -> None:
        """Only the methods named are granted, by their exact name."""
        sent = signed([MESSAGES], ["GET", "POST"])
        self.assertTrue(passes(sent, "POST"))
        for method in ("DELETE", "get", "GET,POST", "", "HEAD"):
            self.assertFalse(passes(sent, method), method)

    def test_expiry(self) -> None:
        """A grant ends with the second that it names."""
        moment = int(datetime(2100, 1, 1, tzinfo=UTC).timestamp()) * 1000
        sent = signed([MESSAGES], ["GET"])
        self.assertTrue(passes(sent, now=moment - 1))
        self.assertFalse(passes(sent, now=moment))

    def test_forms_of_the_expiry(self) -> None:
        """The same moment may be written in another way, and must be given."""
        sent = signed([MESSAGES], ["GET"])
        for text in (f"{LATER}Z", f"{LATER}.5", "2100-01-01", f" {LATER} "):
            self.assertTrue(passes({**sent, "URL-Expires": text}), text)
        for text in ("", "21000101", "tomorrow", "2100-01-01T00:00:01", "9" * 50):
            self.assertFalse(passes({**sent, "URL-Expires": text}), text)

    def test_nothing_named(self) -> None:
        """An empty path grants nothing, even if it is signed."""
        for paths in ([""], ["", ""], []):
            sent = signed(paths, ["GET"])
            for path in (MESSAGES, "/", ""):
                self.assertFalse(passes(sent, path=path), (paths, path))

    def test_separator_inside_of_a_part(self) -> None:
        """What could be cut in another way is worth nothing, even if it is signed."""
        paths, methods = [MESSAGES, r"/v2/x\ny"], ["GET"]
        self.assertFalse(passes(signed(paths, methods)))
        self.assertFalse(passes(signed([MESSAGES], ["GET", r"x\ny"])))
        project = r"a project\nwith a separator"
        self.assertTrue(passes(signed([MESSAGES], methods, project)))

    def test_missing_headers(self) -> None:
        """Without any one of the headers nothing is granted."""
        sent = signed([MESSAGES], ["GET"])
        self.assertTrue(passes(sent))
        for name in NAMES:
            rest = {key: value for key, value in sent.items() if key != name}
            self.assertFalse(passes(rest), name)
            self.assertFalse(passes({**sent, name: ""}), name)

    def test_older_header(self) -> None:
        """The project may come by the older name of its header."""
        sent = signed([MESSAGES], ["GET"])
        sent["X-Tenant-ID"] = sent.pop("X-Project-ID")
        self.assertTrue(passes(sent))

    def test_form_of_the_signature(self) -> None:
        """A signature is compared exactly, and may be any text without harm."""
        sent = signed([MESSAGES], ["GET"])
        for signature in (
            sent["URL-Signature"].upper(),
            sent["URL-Signature"][:-1],
            sent["URL-Signature"] + "0",
            " " + sent["URL-Signature"],
            "\u00fc",
            "\x00",
        ):
            self.assertFalse(passes({**sent, "URL-Signature": signature}), signature)

    def test_secret(self) -> None:
        """A signature of another secret does not hold, nor any without a secret."""
        sent = signed([MESSAGES], ["GET"])
        for secret in ("other", "", None):
            self.assertFalse(passes(sent, secret=secret))


documents = st.fixed_dictionaries(
    {},
    optional={
        "paths": st.lists(st.sampled_from(["messages", "claims", "subscriptions"])),
        "methods": st.lists(st.sampled_from(["GET", "POST", "PUT", "DELETE"])),
        "expires": st.integers(NOW // 1000 + 86_400, 250_000_000_000).map(
            lambda seconds: datetime.fromtimestamp(seconds, UTC).isoformat()
        ),
    },
)
destinations = st.builds(
    Destination,
    st.text(min_size=1),
    st.just(Kind.QUEUE),
    st.text("abc.-_0", min_size=1, max_size=9),
)
changes = st.sampled_from(
    [
        lambda text: text + "x",
        lambda text: text[:-1],
        lambda text: "x" + text,
        lambda text: text.swapcase(),
        lambda text: text + "," + text,
        lambda text: text.replace("0", "1"),
        lambda text: "",
    ]
)


class PropertyTests(SynchronousTestCase):
    """Grants of all kinds."""

    @exact
    @given(documents, destinations)
    def test_what_is_granted_passes(
        self, document: dict[str, Any], destination: Destination
    ) -> None:
        """Whatever is shared can be used, with its lists in any order."""
        grant = SignedUrls(SECRET).share(destination, document, NOW)
        sent = sent_with(grant)
        sent["URL-Methods"] = ",".join(reversed(grant.methods))
        sent["URL-Paths"] = ",".join(reversed(grant.paths))
        for path in grant.paths:
            for method in grant.methods:
                self.assertTrue(passes(sent, method, path))
                self.assertTrue(passes(sent, method, f"{path}/x"))
                self.assertFalse(passes(sent, method, f"{path}x"))

    @exact
    @given(documents, destinations, st.sampled_from(NAMES), changes)
    def test_what_is_changed_fails(
        self,
        document: dict[str, Any],
        destination: Destination,
        name: str,
        change: Any,
    ) -> None:
        """A change of any header makes a grant worthless, unless it means the same."""
        grant = SignedUrls(SECRET).share(destination, document, NOW)
        sent = sent_with(grant)
        changed = {**sent, name: change(sent[name])}
        if changed != sent and not is_same_moment(sent, changed):
            for path in grant.paths:
                for method in grant.methods:
                    self.assertFalse(passes(changed, method, path), changed)

    @exact
    @given(documents, destinations, destinations)
    def test_other_queues(
        self, document: dict[str, Any], granted: Destination, other: Destination
    ) -> None:
        """A grant for one queue is none for another one, nor for another project."""
        grant = SignedUrls(SECRET).share(granted, document, NOW)
        sent = sent_with(grant)
        path, method = grant.paths[0], grant.methods[0]
        if other.name != granted.name:
            foreign = path.replace(f"/{granted.name}/", f"/{other.name}/")
            self.assertFalse(passes(sent, method, foreign))
        if other.project != granted.project:
            changed = {**sent, "X-Project-ID": other.project}
            self.assertFalse(passes(changed, method, path))


def is_same_moment(sent: Sent, changed: Sent) -> bool:
    """Whether the expiry is only written in another way."""
    try:
        moments = {
            datetime.fromisoformat(each["URL-Expires"]).replace(microsecond=0)
            for each in (sent, changed)
        }
    except ValueError:
        return False
    others = ({**each, "URL-Expires": ""} for each in (sent, changed))
    return len(moments) == 1 and next(others) == next(others)
