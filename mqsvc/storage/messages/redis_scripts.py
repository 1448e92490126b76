"""The operations as Lua scripts, sent by their digest."""

from __future__ import annotations

import re
from collections.abc import (
    Callable,
    Collection,
    Hashable,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from functools import partial
from hashlib import sha1
from pathlib import Path
from typing import Any, Protocol

import msgspec
from attrs import frozen
from twisted.internet.defer import Deferred, fail
from twisted.python.failure import Failure

from mqsvc.messaging.errors import StoreUnavailable
from mqsvc.storage.messages.redis_joint import Joint, Operation, Part

Argument = str | bytes | int
Read = Callable[[Any], Any]
"""Makes a value of an answer."""

FOLDER = Path(__file__).with_name("redis")

_NEEDS = re.compile(rb"^-- needs: (.+)$", re.MULTILINE)
_NEEDS_HERE = re.compile(rb"^ +-- needs: (.+)\n", re.MULTILINE)
"""What a part of a function needs, and nothing else."""

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

    def command(self, *words: Argument, changes: bool = False) -> Deferred[Any]:
        """The answer to one command, which may be sent more than once.

        :raise UnknownScript: the command names a script that is not loaded.
        :raise StoreUnavailable: there is no answer.
        """

    def later(
        self, words: Callable[[], Sequence[Argument]], changes: bool = False
    ) -> Deferred[Any]:
        """Like :meth:`command`; its words are asked for when it is sent.

        :param words: gives the same each time.
        """


@frozen
class Script:
    """A Lua script and the digest that Redis knows it by."""

    text: bytes
    digest: bytes
    changes: bool


def load_scripts() -> Mapping[str, Script]:
    """All scripts by name; blocks while it reads them."""
    texts = {path.stem: path.read_bytes() for path in FOLDER.glob("*.lua")}
    return {name: _script(name, texts) for name in texts if not name.startswith("_")}


def _script(name: str, texts: Mapping[str, bytes]) -> Script:
    text = _joined(["_common", *_needed(texts[name], texts), name], (), texts)
    digest = sha1(text, usedforsecurity=False).hexdigest().encode()
    return Script(text, digest, name not in READING)


def _joined(
    names: Iterable[str], known: Collection[str], texts: Mapping[str, bytes]
) -> bytes:
    """Parts in the order in which they are needed, each once, without those known.

    What is needed at a place within them is put there.
    """
    parts = [name for name in dict.fromkeys(names) if name not in known]

    def here(found: re.Match[bytes]) -> bytes:
        return _joined(_parts(found[1], texts), {*known, *parts}, texts)

    return b"".join(_NEEDS_HERE.sub(here, texts[part]) for part in parts)


def _needed(text: bytes, texts: Mapping[str, bytes]) -> Iterator[str]:
    """The parts that a script or a part says it needs, behind what they need."""
    for line in _NEEDS.findall(text):
        yield from _parts(line, texts)


def _parts(line: bytes, texts: Mapping[str, bytes]) -> Iterator[str]:
    for part in line.decode().split():
        yield from _needed(texts[f"_{part}"], texts)
        yield f"_{part}"


class Scripts:
    """Runs scripts on a connection, while it is started."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._scripts = load_scripts()
        self._encode = msgspec.msgpack.Encoder().encode
        self._is_running = False
        self._underway = 0
        self._answered: list[str] = []
        self._open: dict[Hashable, Joint] = {}
        self._idle: Deferred[None] | None = None

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
            self._idle = None
        await self._connection.stop()

    def ping(self) -> Deferred[None]:
        """Fire when the server answers."""
        if not self._is_running:
            return fail(StoreUnavailable())
        return self._track(self._connection.command(b"PING"), _nothing)

    def run(
        self,
        name: str,
        keys: Sequence[str],
        parameters: Mapping[str, Any],
        read: Read,
        texts: Sequence[bytes] = (),
    ) -> Deferred[Any]:
        """Fire with what a script gives.

        :param parameters: with a ``token`` the script remembers its answer under that
            key, so that it can be sent again; once answered it may forget it.
        :param read: makes of its answer what to fire with.
        :param texts: further arguments, which need not be copied.
        """
        if not self._is_running:
            return fail(StoreUnavailable())
        script, command = self._scripts[name], self._connection.command
        words: tuple[Argument, ...]
        words = (b"%d" % len(keys), *keys, self._encode(parameters), *texts)
        answer = command(b"EVALSHA", script.digest, *words, changes=script.changes)
        answer.addErrback(self._load, script, words)
        return self._track(answer, read, parameters.get("token"))

    def join(
        self,
        operation: Operation,
        keys: Sequence[str],
        parameters: Mapping[str, Any],
        part: Part,
    ) -> Deferred[Any]:
        """Like :meth:`run`, but parts alike that are to be sent together are one call.

        Each has its own result, or the failure of the call.

        :param keys: the same for all parts that are alike.
        :param parameters: those that a new call has besides its parts.
        """
        if not self._is_running:
            return fail(StoreUnavailable())
        like = operation, part.like
        joint = self._open.get(like)
        if joint is not None and joint.has_room(part):
            return joint.add(part)
        joint = Joint(operation, like, keys, parameters)
        answer = joint.add(part)
        self._open[like] = joint
        self._call(joint, parameters.get("token"))
        return answer

    def _call(self, joint: Joint, token: str | None) -> None:
        script = self._scripts[joint.operation.script]
        words = partial(self._words, joint, script)
        answer = self._connection.later(words, changes=script.changes)
        answer.addErrback(lambda f: self._load(f, script, joint.words()))
        self._track(answer, joint.deal, token).addErrback(self._give_up, joint)

    def _give_up(self, failure: Failure, joint: Joint) -> None:
        # Maybe it was never sent.
        self._close(joint)
        joint.fail(failure)

    def _words(self, joint: Joint, script: Script) -> Sequence[Argument]:
        """The command of a call, which others cannot join any more."""
        self._close(joint)
        return (b"EVALSHA", script.digest, *joint.words())

    def _close(self, joint: Joint) -> None:
        if self._open.get(joint.like) is joint:
            del self._open[joint.like]

    def _load(
        self, failure: Failure, script: Script, words: Sequence[Argument]
    ) -> Deferred[Any]:
        """Run a script that the server does not know yet."""
        failure.trap(UnknownScript)
        # This also loads it.
        return self._connection.command(
            b"EVAL", script.text, *words, changes=script.changes
        )

    def _track(
        self, answer: Deferred[Any], read: Read, token: str | None = None
    ) -> Deferred[Any]:
        """Let the connection stay open until this is answered."""
        self._underway += 1
        return answer.addBoth(self._end, read, token)

    def _end(self, answer: Any, read: Read, token: str | None) -> Any:
        is_answered = not isinstance(answer, Failure)
        if token is not None and is_answered:
            self._forget(token)
        self._underway -= 1
        if self._idle is not None and not self._underway:
            self._idle.callback(None)
        return read(answer) if is_answered else answer

    def _forget(self, token: str) -> None:
        """Free what is remembered of operations that will not be sent again."""
        self._answered.append(token)
        if len(self._answered) < FORGET_TOGETHER:
            return
        tokens, self._answered = self._answered, []
        forgotten = self._track(self._connection.command(b"UNLINK", *tokens), _nothing)
        # What is not forgotten now is forgotten a minute later.
        forgotten.addErrback(lambda failure: failure.trap(StoreUnavailable))


def _nothing(_: object) -> None:
    """The answer says nothing."""
