"""The operations as Lua scripts, sent by their digest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha1
from pathlib import Path
from typing import Any, Protocol

import msgspec
from attrs import frozen
from twisted.internet.defer import Deferred, fail, succeed

from mqsvc.messaging.errors import StoreUnavailable

Argument = str | bytes | int

FOLDER = Path(__file__).with_name("redis")

READING = frozenset(
    {"get", "get_claim", "next_ready", "page", "stats", "stored", "stored_bytes"}
)
"""The scripts that change nothing."""

FORGET_TOGETHER = 50
"""Answered operations that Redis is told to forget in one command."""


class UnknownScript(Exception):
    """The server does not know a script by its digest."""


class Connection(Protocol):
    """Sends commands to a server."""

    def start(self) -> None:
        """Begin to connect."""

    async def stop(self) -> None:
        """Close, then fire."""

    async def command(self, *words: Argument, changes: bool = False) -> Any:
        """The answer to one command, which may be sent more than once.

        :raise UnknownScript: the command names a script that is not loaded.
        :raise StoreUnavailable: there is no answer.
        """


@frozen
class Script:
    """A Lua script and the digest that Redis knows it by."""

    text: bytes
    digest: str
    changes: bool


def load_scripts() -> Mapping[str, Script]:
    """All scripts by name; blocks while it reads them."""
    common = (FOLDER / "common.lua").read_bytes()
    names = {path.stem for path in FOLDER.glob("*.lua")} - {"common"}
    return {name: _script(name, common) for name in names}


def _script(name: str, common: bytes) -> Script:
    text = common + (FOLDER / f"{name}.lua").read_bytes()
    digest = sha1(text, usedforsecurity=False).hexdigest()
    return Script(text, digest, name not in READING)


class Scripts:
    """Runs scripts on a connection, while it is started."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._scripts = load_scripts()
        self._encode = msgspec.msgpack.Encoder().encode
        self._is_running = False
        self._underway: set[Deferred[Any]] = set()
        self._answered: list[str] = []
        self._idle: Deferred[None] = succeed(None)

    def start(self) -> None:
        """Take calls from now on."""
        self._is_running = True
        self._connection.start()

    async def stop(self) -> None:
        """Take no more calls, let those underway end, then close the connection."""
        self._is_running = False
        if self._underway:
            self._idle = Deferred()
            await self._idle
        await self._connection.stop()

    def ping(self) -> Deferred[None]:
        """Fire when the server answers."""
        return self._track(self._ping())

    def run(
        self,
        name: str,
        keys: Sequence[str],
        parameters: Mapping[str, Any],
        texts: Sequence[bytes] = (),
    ) -> Deferred[bytes]:
        """Fire with what a script gives.

        :param parameters: with a ``token`` the script remembers its answer under that
            key, so that it can be sent again; once answered it may forget it.
        :param texts: further arguments, which need not be copied.
        """
        head: list[Argument] = [len(keys), *keys, self._encode(parameters)]
        words = [*head, *texts]
        answer = self._track(self._run(self._scripts[name], words))
        if "token" in parameters:
            answer.addCallback(self._forget, parameters["token"])
        return answer

    def _forget(self, answer: bytes, token: str) -> bytes:
        """Free what is remembered of operations that will not be sent again."""
        self._answered.append(token)
        if len(self._answered) >= FORGET_TOGETHER:
            tokens, self._answered = self._answered, []
            forgotten = self._track(self._connection.command("UNLINK", *tokens))
            # What is not forgotten now is forgotten a minute later.
            forgotten.addErrback(lambda failure: failure.trap(StoreUnavailable))
        return answer

    def _track(self, coroutine: Any) -> Deferred[Any]:
        if not self._is_running:
            coroutine.close()
            return fail(StoreUnavailable())
        outcome: Deferred[Any] = Deferred.fromCoroutine(coroutine)
        self._underway.add(outcome)
        return outcome.addBoth(self._end, outcome)

    def _end(self, result: Any, outcome: Deferred[Any]) -> Any:
        self._underway.discard(outcome)
        if not self._underway and not self._idle.called:
            self._idle.callback(None)
        return result

    async def _ping(self) -> None:
        await self._connection.command("PING")

    async def _run(self, script: Script, words: Sequence[Argument]) -> Any:
        command, changes = self._connection.command, script.changes
        try:
            return await command("EVALSHA", script.digest, *words, changes=changes)
        except UnknownScript:
            # This also loads it.
            return await command("EVAL", script.text, *words, changes=changes)
