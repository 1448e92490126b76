"""Query parameters: readings of rest.md 1.6, and links to the next page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl, quote_plus

from mqsvc.messaging.errors import InvalidParameter

_BOOLEANS = {
    **dict.fromkeys(("true", "True", "t", "yes", "y", "1", "on"), True),
    **dict.fromkeys(("false", "False", "f", "no", "n", "0", "off"), False),
}
_MAX_PARAMETERS = 1000


class Query:
    """The parameters of one request. An empty value is as if it were not there."""

    def __init__(self, text: str) -> None:
        """Read a query string.

        :raise InvalidParameter: it has absurdly many parameters.
        """
        self._values: dict[str, list[str]] = {}
        for name, value in _pairs(text) if text else ():
            if value:
                self._values.setdefault(name, []).append(value)

    def text(self, name: str) -> str | None:
        """A single value: the last one of those given."""
        values = self._values.get(name)
        return values[-1].rpartition(",")[2] or None if values else None

    def integer(self, name: str) -> int | None:
        """A number.

        :raise InvalidParameter: it is none.
        """
        value = self.text(name)
        if value is None:
            return None
        try:
            return int(value)
        except ValueError:
            raise InvalidParameter(f"'{name}' must be an integer.") from None

    def boolean(self, name: str) -> bool | None:
        """A flag.

        :raise InvalidParameter: it is none.
        """
        value = self.text(name)
        if value is None:
            return None
        if value not in _BOOLEANS:
            raise InvalidParameter(f"'{name}' must be true or false.")
        return _BOOLEANS[value]

    def items(self, name: str) -> list[str] | None:
        """A list, of comma lists and repetitions; it may come out empty."""
        values = self._values.get(name)
        if values is None:
            return None
        return [item for value in values for item in value.split(",") if item]

    def others(self, known: Iterable[str]) -> dict[str, str]:
        """What is given beside the known parameters, once each.

        :raise InvalidParameter: one is given more than once, or as a comma list.
        """
        others = {k: v for k, v in self._values.items() if k not in set(known)}
        for name, values in others.items():
            if len(values) > 1 or "," in values[0]:
                raise InvalidParameter(f"'{name}' can have one value only.")
        return {name: values[0] for name, values in others.items()}


def _pairs(text: str) -> Iterable[Sequence[str]]:
    """The names and values of a query string.

    :raise InvalidParameter: there are absurdly many.
    """
    if text.count("&") >= _MAX_PARAMETERS:
        raise InvalidParameter("There are too many query parameters.")
    if "%" in text or "+" in text:
        return parse_qsl(text, keep_blank_values=True, errors="replace")
    return [pair.partition("=")[::2] for pair in text.split("&")]


def next_links(path: str, parameters: Mapping[str, Any]) -> list[dict[str, str]]:
    """The ``links`` of a page that is not empty; parameters that are none are left out.

    :param parameters: what the client gave, and the marker.
    """
    given = [
        f"{_escaped(name)}={_escaped(value)}"
        for name, value in parameters.items()
        if value is not None
    ]
    return [{"rel": "next", "href": f"{path}?{'&'.join(given)}"}]


def _escaped(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    text = str(value)
    is_safe = text.isascii() and (text.isalnum() or text.isidentifier())
    return text if is_safe else quote_plus(text)
