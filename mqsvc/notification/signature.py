"""Signatures of webhooks by the Standard Webhooks specification, version 1.

A receiver that shares a secret with the subscription (``options.signing_secrets``) can
tell that a notification is genuine and fresh. Two secrets at a time let it change them
without a gap.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from typing import Any

from mqsvc.messaging.errors import InvalidRequest
from mqsvc.messaging.model import JsonObject
from mqsvc.messaging.subscription_options import SECRETS as KEY

PREFIX = "whsec_"

MOST_SECRETS = 2

_SIZES = range(24, 65)
"""Bytes that a secret may have."""


def secrets_of(options: JsonObject) -> list[bytes]:
    """The secrets of a subscription; empty when its notifications are not signed.

    :raise InvalidRequest: they are malformed. The text does not show them.
    """
    given = options.get(KEY)
    if given is None:
        return []
    if not isinstance(given, list) or len(given) > MOST_SECRETS:
        raise InvalidRequest(
            f"'options.{KEY}' must be an array of at most {MOST_SECRETS} secrets."
        )
    return [_secret(text) for text in given]


def signature_headers(
    secrets: list[bytes], delivery_id: str, seconds: int, body: bytes
) -> dict[str, str]:
    """The headers that identify and sign one attempt.

    :param seconds: the moment of the attempt, since the epoch.
    """
    headers = {"webhook-id": delivery_id, "webhook-timestamp": str(seconds)}
    if secrets:
        signed = b"%s.%d.%s" % (delivery_id.encode(), seconds, body)
        marks = (hmac.digest(secret, signed, "sha256") for secret in secrets)
        headers["webhook-signature"] = " ".join(
            f"v1,{base64.b64encode(mark).decode('ascii')}" for mark in marks
        )
    return headers


def _secret(text: Any) -> bytes:
    try:
        if isinstance(text, str) and text.startswith(PREFIX):
            secret = base64.b64decode(text.removeprefix(PREFIX), validate=True)
            if len(secret) in _SIZES:
                return secret
    except (binascii.Error, ValueError):
        pass
    raise InvalidRequest(
        f"Each secret of 'options.{KEY}' must be '{PREFIX}' and the Base64 form of "
        f"{_SIZES.start} to {_SIZES.stop - 1} bytes."
    )
