"""From paths to routes."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase
from werkzeug.exceptions import HTTPException
from werkzeug.routing import Map, Rule

from mqsvc.rest.paths import LONGEST_KNOWN, Found, Paths

RULES = [
    *("/", "/v2", "/v2/queues", "/v2/queues/", "/v2/queues/<name>"),
    *("/v2/queues/<name>/stats", "/v2/queues/<name>/messages"),
    *("/v2/queues/<name>/messages/<id>", "/v2/queues/<name>/claims/<id>/renew"),
]

segments = st.sampled_from(
    [*("", "v2", "queues", "messages", "claims", "renew", "stats", "confirm", "q")]
) | st.text("aé%-ny", max_size=5)
paths = st.lists(segments, max_size=7).map(lambda parts: "/" + "/".join(parts))


def routes() -> Map:
    """Some like those of the API."""
    rules = [Rule(rule, endpoint=rule) for rule in RULES]
    return Map(rules, merge_slashes=False)


class PathsTests(SynchronousTestCase):
    """Beside what the map itself says."""

    known = Paths(routes(), b"/v2/confirm")
    direct = routes().bind("localhost")

    def expected(self, path: str) -> Found:
        """What the map says of a path without escapes."""
        if path == "/v2/confirm":
            return Found("", {}, is_aside=True)
        try:
            endpoint, arguments = self.direct.match(path)
        except HTTPException:
            return Found("", {})
        return Found(endpoint, dict(arguments))

    @given(paths)
    @example("/v2/queues/-any-/messages/1")
    @example("/v2/queues/messages/messages/stats")
    @example("/v2/queues/q/messages/-any-")
    def test_like_the_map(self, path: str) -> None:
        """Memory changes nothing, and a doubled slash in front is one."""
        once = path[1:] if path.startswith("//") else path
        for _ in range(2):
            found = self.known.find(path.replace("%", "%25").encode())
            self.assertEqual(self.expected(once), found)

    def test_escapes(self) -> None:
        """An escape stands for its character, and never parts two segments."""
        found = self.known.find(b"/v2/%71ueues/a%20b/messages/%2e")
        self.assertEqual({"name": "a b", "id": "."}, found.arguments)

    def test_long(self) -> None:
        """A path too long to be remembered is found all the same."""
        name = "q" * LONGEST_KNOWN
        found = self.known.find(f"/v2/queues/{name}/messages/1".encode())
        self.assertEqual({"name": name, "id": "1"}, found.arguments)

    def test_no_text(self) -> None:
        """Bytes that are no text are no path, wherever they are."""
        for path in (
            *(b"/v2/\xff", b"/\xff/queues", b"/v2/queues/\xff"),
            *(b"/v2/queues/\xff/stats", b"/v2/queues/%ff"),
        ):
            with self.assertRaises(UnicodeError, msg=path):
                self.known.find(path)

    def test_what_is_given_out(self) -> None:
        """Whoever changes what was found changes nothing for the next one."""
        path = b"/v2/queues/q/messages/1"
        self.known.find(path).arguments.clear()
        self.assertEqual({"name": "q", "id": "1"}, self.known.find(path).arguments)
