"""The headers of answers are those of twisted.web."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.http_headers import Headers, InvalidHeaderName

from mqsvc.wire.http_headers import AnswerHeaders

NAMES = st.one_of(
    st.sampled_from([b"etag", b"content-length", b"X-PROJECT-ID", "www-authenticate"]),
    st.binary(max_size=5),
)
VALUES = st.lists(
    st.one_of(st.binary(max_size=9), st.sampled_from([b"a\r\nb", b"\n", "text", "é\r"]))
)


def outcome(headers: Headers, name: str | bytes, values: list[str | bytes]) -> object:
    """What becomes of headers, or why it does not."""
    try:
        headers.setRawHeaders(name, values)
    except (InvalidHeaderName, TypeError) as error:
        return type(error)
    return dict(headers.getAllRawHeaders())


class AnswerHeadersTests(SynchronousTestCase):
    """Beside the class that they are in the place of."""

    @given(NAMES, VALUES)
    def test_same(self, name: str | bytes, values: list[str | bytes]) -> None:
        """Whatever is set reads the same, also where line ends are in it."""
        wanted = outcome(Headers({b"Age": [b"1"]}), name, values)
        self.assertEqual(wanted, outcome(AnswerHeaders({b"Age": [b"1"]}), name, values))

    def test_value(self) -> None:
        """One value can be asked for, or that there is none."""
        headers = AnswerHeaders()
        self.assertIsNone(headers.value(b"Content-Length"))
        headers.setRawHeaders(b"content-length", [b"3"])
        self.assertEqual(b"3", headers.value(b"Content-Length"))

    def test_nothing_left_over(self) -> None:
        """A header that is set again has only its last value."""
        headers = AnswerHeaders()
        headers.setRawHeaders("vary", ["Accept", "Origin"])
        headers.setRawHeaders(b"vary", [b"Origin"])
        self.assertEqual([b"Origin"], headers.getRawHeaders(b"Vary"))
