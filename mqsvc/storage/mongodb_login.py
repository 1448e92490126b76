"""Logging in to MongoDB with SCRAM-SHA-256 (RFC 7677), which txmongo does not know."""

from __future__ import annotations

import hashlib
import hmac
from base64 import b64decode, b64encode
from secrets import token_urlsafe
from typing import Any

from bson.codec_options import DEFAULT_CODEC_OPTIONS
from pymongo.errors import OperationFailure
from pymongo.saslprep import saslprep
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from txmongo.protocol import MongoProtocol, Msg

SCRAM_SHA_256 = "SCRAM-SHA-256"

LEAST_ITERATIONS = 4096
"""A server that asks for fewer is after the password."""


class LoginProtocol(MongoProtocol):  # type: ignore[misc]  # txmongo has no types
    """A connection that logs in by the better way the server has for the user."""

    log = Logger()

    def authenticate(
        self, database: str, username: str, password: str, mechanism: str
    ) -> Deferred[Any]:
        """Log in; fires when the server has accepted it."""
        trial = self._log_in(database, username, password, mechanism)
        return Deferred.fromCoroutine(trial).addErrback(self._refused, username)

    def _refused(self, failure: Any, username: str) -> Any:
        if not self.transport.connected:
            # To be told so would make txmongo use the connection, although it is lost.
            return Deferred()
        # The pool keeps the connection all the same, and says nothing.
        self.log.error(
            "MongoDB does not let user {user} in: {reason}",
            user=username,
            reason=type(failure.value).__name__,
        )
        return failure

    async def _log_in(
        self, database: str, username: str, password: str, mechanism: str
    ) -> None:
        if mechanism == "DEFAULT":
            user = f"{database}.{username}"
            hello = await self._ask("admin", hello=1, saslSupportedMechs=user)
            is_better = SCRAM_SHA_256 in hello.get("saslSupportedMechs", ())
            mechanism = SCRAM_SHA_256 if is_better else "SCRAM-SHA-1"
        if mechanism == SCRAM_SHA_256:
            await self._converse(database, Scram(username, password, token_urlsafe(24)))
        else:
            await super().authenticate(database, username, password, mechanism)

    async def _converse(self, database: str, scram: Scram) -> None:
        start = {"saslStart": 1, "mechanism": SCRAM_SHA_256, "payload": scram.first()}
        options = {"skipEmptyExchange": True}
        reply = await self._ask(database, **start, options=options)
        go_on = {"saslContinue": 1, "conversationId": reply["conversationId"]}
        proof = scram.proof(reply["payload"])
        reply = await self._ask(database, **go_on, payload=proof)
        scram.check(reply["payload"])
        if not reply["done"]:
            await self._ask(database, **go_on, payload=b"")

    async def _ask(self, database: str, **command: Any) -> dict[str, Any]:
        message = Msg.create({**command, "$db": database})
        reply: dict[str, Any] = await self.send_msg(
            message, DEFAULT_CODEC_OPTIONS, None
        )
        return reply


class Scram:
    """What the client says, and what it expects to hear.

    :param nonce: printable, unguessable, and never used before.
    """

    def __init__(self, username: str, password: str, nonce: str) -> None:
        user = username.replace("=", "=3D").replace(",", "=2C")
        self._bare = f"n={user},r={nonce}".encode()
        self._nonce = nonce.encode()
        self._password = saslprep(password).encode()
        self._expected = b""

    def first(self) -> bytes:
        """Who wants to log in."""
        return b"n,," + self._bare

    def proof(self, challenge: bytes) -> bytes:
        """That the client knows the password."""
        asked = _fields(challenge)
        nonce, iterations = asked[b"r"], int(asked[b"i"])
        if not nonce.startswith(self._nonce) or iterations < LEAST_ITERATIONS:
            raise OperationFailure("the server's challenge cannot be trusted")
        salted = hashlib.pbkdf2_hmac(
            "sha256", self._password, b64decode(asked[b"s"]), iterations
        )
        final = b"c=biws,r=" + nonce
        said = b",".join((self._bare, challenge, final))
        key = _hmac(salted, b"Client Key")
        signature = _hmac(hashlib.sha256(key).digest(), said)
        proof = bytes(a ^ b for a, b in zip(key, signature, strict=True))
        self._expected = b64encode(_hmac(_hmac(salted, b"Server Key"), said))
        return final + b",p=" + b64encode(proof)

    def check(self, verdict: bytes) -> None:
        """That the server knows the password too."""
        signature = _fields(verdict).get(b"v", b"")
        if not hmac.compare_digest(signature, self._expected):
            raise OperationFailure("the server does not know the user")


def _fields(text: bytes) -> dict[bytes, bytes]:
    pairs = (field.partition(b"=") for field in text.split(b","))
    return {name: value for name, _, value in pairs}


def _hmac(key: bytes, text: bytes) -> bytes:
    return hmac.digest(key, text, "sha256")
