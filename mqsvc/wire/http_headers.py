"""The headers of an answer, set for less than twisted.web's take."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from twisted.web.http_headers import Headers

NAMES_KNOWN = 1000
"""Far more than a service sets."""


class AnswerHeaders(Headers):
    """Headers as everywhere; one that is bytes and clean is set without detours."""

    __slots__ = ()

    def setRawHeaders(self, name: str | bytes, values: Sequence[str | bytes]) -> None:
        """See :class:`twisted.web.http_headers.Headers`."""
        if len(values) == 1 and isinstance(name, bytes):
            value = values[0]
            if isinstance(value, bytes) and b"\n" not in value and b"\r" not in value:
                self._rawHeaders[_canonical(name)] = [value]
                return
        super().setRawHeaders(name, values)

    def value(self, canonical: bytes) -> bytes | None:
        """The first value of a header.

        :param canonical: its name as it is sent, for example ``Content-Length``.
        """
        values = self._rawHeaders.get(canonical)
        return values[0] if values else None


@lru_cache(NAMES_KNOWN)
def _canonical(name: bytes) -> bytes:
    """A name as twisted.web sends it."""
    ((canonical, _),) = Headers({name: [b""]}).getAllRawHeaders()
    return canonical
