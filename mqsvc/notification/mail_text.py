"""What a mail looks like (semantics.md 7.5)."""

from __future__ import annotations

import re
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import formatdate
from typing import Any

from attrs import field, frozen

from mqsvc.messaging.errors import InvalidRequest
from mqsvc.messaging.model import JsonObject
from mqsvc.notification.channel import Notice
from mqsvc.notification.mail_address import one_line, parse_address, parse_mailto

_NOT_IN_IDS = re.compile(r"[^A-Za-z0-9.-]")
_HEADERS = {"reply-to": "Reply-To", "keywords": "Keywords"}


@frozen
class Mail:
    """A mail that is ready to be sent.

    :ivar sender: where replies about its delivery go.
    :ivar text: all of it, with CRLF at the end of each line.
    """

    sender: str
    recipient: str
    text: bytes = field(repr=False)


def check_options(options: JsonObject) -> None:
    """Accept ``from`` and ``subject``.

    :raise InvalidRequest: one of them is no text, or ``from`` is no address.
    """
    _text(options, "subject")
    sender = _text(options, "from")
    if sender:
        parse_address(sender, "options.from")


def compose(notice: Notice, sender: str, seconds: float) -> Mail:
    """The mail of a notification.

    :param sender: the service's own address; also the author of mails whose
        subscription names none.
    :param seconds: the moment, since the epoch.
    :raise InvalidRequest: the subscription's address or its options are malformed.
    """
    options = notice.subscription.options
    check_options(options)
    to = parse_mailto(notice.subscription.subscriber)
    own = parse_address(sender, "notification.sender")
    message = EmailMessage(policy=SMTP)
    message["From"] = _author(notice, own)
    message["To"] = to.recipient
    message["Subject"] = _subject(notice, to.fields)
    message["Date"] = formatdate(seconds)
    message["Message-ID"] = _message_id(notice, own)
    # Keeps vacation programs from answering.
    message["Auto-Submitted"] = "auto-generated"
    for name, header in _HEADERS.items():
        if name in to.fields:
            message[header] = to.fields[name]
    message.set_content(_content(notice), charset="utf-8")
    return Mail(own.addr_spec, to.recipient, message.as_bytes())


def _author(notice: Notice, own: Address) -> Address:
    if notice.letter is not None:
        return parse_address(notice.letter.sender, "sender")
    chosen = _text(notice.subscription.options, "from")
    return parse_address(chosen, "options.from") if chosen else own


def _subject(notice: Notice, fields: dict[str, str]) -> str:
    if notice.letter is not None:
        return one_line(notice.letter.subject)
    chosen = fields.get("subject") or _text(notice.subscription.options, "subject")
    return one_line(chosen)


def _message_id(notice: Notice, own: Address) -> str:
    # The same for all attempts, so that a mail that arrives twice is shown once.
    return f"<{_NOT_IN_IDS.sub('-', notice.delivery_id)}@{own.domain}>"


def _content(notice: Notice) -> str:
    if notice.letter is not None:
        return notice.letter.text
    return notice.content.decode()


def _text(options: JsonObject, name: str) -> str:
    value: Any = options.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise InvalidRequest(f"'options.{name}' must be a string.")
    return value
