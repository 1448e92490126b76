"""The options of a pool, written into the query of its URI."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any
from urllib.parse import parse_qsl, urlencode

from twisted.logger import Logger

log = Logger()


def with_options(
    uri: str, options: Mapping[str, Any], known: Collection[str] | None
) -> str:
    """A URI in whose query options have taken the place of those of the same name.

    Large and small letters of a name mean the same. What is unknown, or no text,
    number or truth value, is left out with a warning.

    :param known: the names that its driver knows, in small letters; none is all.
    """
    texts = {name.lower(): _text(value) for name, value in options.items()}
    usable = {
        name: text
        for name, text in texts.items()
        if text is not None and (known is None or name in known)
    }
    if unusable := sorted(texts.keys() - usable.keys()):
        log.warn(
            "Options of a pool at {scheme}://... are left out, since its driver cannot "
            "use them: {names}",
            scheme=uri.partition(":")[0],
            names=", ".join(unusable),
        )
    return _replaced(uri, usable) if usable else uri


def _text(value: object) -> str | None:
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, str | int | float) else None


def _replaced(uri: str, options: Mapping[str, str]) -> str:
    place, _, query = uri.partition("?")
    if "/" not in place.partition("://")[2]:
        # Some drivers want a path before a query.
        place += "/"
    kept = [
        (name, text)
        for name, text in parse_qsl(query, keep_blank_values=True)
        if name.lower() not in options
    ]
    return f"{place}?{urlencode([*kept, *options.items()])}"
