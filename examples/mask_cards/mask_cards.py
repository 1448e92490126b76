"""A stage for mqsvc: card numbers in messages are masked before they are stored.

Looked at are the texts of a message. Numbers outside of quotes stay as they are: a
masked one would be no JSON any more, and most of them are something else.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from msgspec.structs import replace

from mqsvc.messaging.model import Destination, NewMessage
from mqsvc.storage.interfaces import IMessageStore
from mqsvc.storage.plugins import PluginError
from mqsvc.storage.stages import MessageFilter

TEXT = re.compile(rb'"(?:[^"\\]|\\.)*"')
"""What stands in quotes in JSON."""

NUMBER = re.compile(rb"(?<!\d)\d(?:[ -]?\d){12,18}(?!\d)")
"""13 to 19 digits, maybe in groups."""


class MaskCards(MessageFilter):
    """Masks card numbers, except for the last digits.

    :param options: ``digits_shown``, 0 to 4; 4.
    :raise PluginError: the options are not those.
    """

    def __init__(self, next_store: IMessageStore, options: Mapping[str, Any]) -> None:
        super().__init__(next_store)
        self._shown = options.get("digits_shown", 4)
        if options.keys() - {"digits_shown"}:
            raise PluginError("the only option is digits_shown")
        if self._shown not in range(5):
            raise PluginError("digits_shown must be a whole number from 0 to 4")

    def on_post(self, destination: Destination, message: NewMessage) -> NewMessage:
        """Mask the texts of a body."""
        return replace(message, body=TEXT.sub(self._masked_text, message.body))

    def _masked_text(self, found: re.Match[bytes]) -> bytes:
        return NUMBER.sub(self._masked_number, found.group())

    def _masked_number(self, found: re.Match[bytes]) -> bytes:
        number = found.group()
        if not is_card(number):
            return number
        hidden = len(number) - self._shown
        return re.sub(rb"\d", b"*", number[:hidden]) + number[hidden:]


def is_card(number: bytes) -> bool:
    """Whether the last digit is the check digit of the others, as on cards."""
    digits = [int(digit) for digit in number.decode() if digit.isdigit()]
    doubled = (sum(divmod(2 * digit, 10)) for digit in digits[-2::-2])
    return (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0
