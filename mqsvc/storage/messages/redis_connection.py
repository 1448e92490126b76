"""One connection to Redis that is made again when it is lost.

Of txredisapi only the protocol is used: its pools wait without bound for a server that
is away, and give up after a refused password.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from attrs import define
from twisted.internet.defer import CancelledError, Deferred, TimeoutError, succeed
from twisted.internet.endpoints import HostnameEndpoint, UNIXClientEndpoint
from twisted.internet.error import ConnectingCancelledError
from twisted.internet.interfaces import IProtocolFactory, IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from mqsvc.messaging.errors import StoreUnavailable
from mqsvc.storage.messages.redis_address import Address
from mqsvc.storage.messages.redis_protocol import (
    Command,
    Disconnected,
    RedisProtocol,
    Unanswered,
)
from mqsvc.storage.messages.redis_scripts import Argument, UnknownScript
from mqsvc.storage.messages.redis_server import (
    Info,
    UnusableServer,
    check_server,
    parse_info,
    persistence_warning,
)
from mqsvc.storage.messages.redis_wire import Refusal, encode_command

FIRST_PAUSE = 0.05
LONGEST_PAUSE = 1.0
"""Seconds between attempts to connect; how long they last is bounded as well."""

TRIES = 3
"""How often a command is sent when the connection breaks before its answer."""

_NOT_NOW = ("READONLY", "LOADING", "MASTERDOWN")
"""Refusals that another connection may not meet, since it goes to another server."""


@define
class _ProtocolFactory(Factory):
    """Makes protocols."""

    reactor: Any
    timeout: float
    noisy = False

    def buildProtocol(self, _: object) -> RedisProtocol:
        return RedisProtocol(self.reactor, self.timeout)


@implementer(IStreamClientEndpoint)
@define
class _SentinelEndpoint:
    """Asks the Sentinels, one after the other, which server is the master."""

    address: Address
    reactor: Any

    def connect(self, factory: IProtocolFactory) -> Deferred[Any]:
        return Deferred.fromCoroutine(self._connect(factory))

    async def _connect(self, factory: IProtocolFactory) -> Any:
        for host, port in self.address.hosts:
            try:
                found = await self._ask(host, port)
            except (CancelledError, ConnectingCancelledError):
                raise
            except Exception:  # noqa: BLE001, S112 - the next one may answer
                continue
            if found:
                master = self._endpoint(found[0].decode(), int(found[1]))
                return await master.connect(factory)
        raise UnusableServer("none of the Sentinels knows it: is its name right?")

    async def _ask(self, host: str, port: int) -> list[bytes] | None:
        """The host and port of the master."""
        timeout = self.address.socket_timeout
        factory = _ProtocolFactory(self.reactor, timeout)
        protocol = await _open(self._endpoint(host, port), factory)
        try:
            await _log_in(
                protocol, self.address.sentinel_username, self.address.sentinel_password
            )
            found: list[bytes] | None = await protocol.execute_command(
                "SENTINEL", "get-master-addr-by-name", self.address.master
            )
            return found
        finally:
            protocol.abort()

    def _endpoint(self, host: str, port: int) -> HostnameEndpoint:
        return HostnameEndpoint(
            self.reactor, host, port, timeout=self.address.socket_timeout
        )


async def _open(
    endpoint: IStreamClientEndpoint, factory: _ProtocolFactory
) -> RedisProtocol:
    protocol: Any = await endpoint.connect(factory)
    opened: RedisProtocol = protocol
    return opened


async def _log_in(protocol: RedisProtocol, username: str, password: str) -> None:
    if password:
        user = [username] if username else []
        await protocol.execute_command("AUTH", *user, password)


def endpoint_of(address: Address, reactor: Any) -> IStreamClientEndpoint:
    """Where to connect to, asking the Sentinels each time if there are any."""
    if address.path:
        return UNIXClientEndpoint(reactor, address.path, timeout=address.socket_timeout)
    if address.master:
        return _SentinelEndpoint(address, reactor)
    host, port = address.hosts[0]
    return HostnameEndpoint(reactor, host, port, timeout=address.socket_timeout)


class RedisConnection:
    """Sends commands while it is started; keeps itself connected.

    :param reactor: connects, and tells the time.
    """

    log = Logger()

    def __init__(self, address: Address, reactor: Any) -> None:
        self._address = address
        self._reactor = reactor
        self._endpoint = endpoint_of(address, reactor)
        self._protocol: RedisProtocol | None = None
        self._waiting: list[Deferred[Any]] = []
        self._is_running = False
        self._staying: Deferred[None] = succeed(None)
        self._last_said = ""

    def start(self) -> None:
        """Begin to connect."""
        self._is_running = True
        self._staying = Deferred.fromCoroutine(self._stay_connected())

    async def stop(self) -> None:
        """Close the connection, then fire; to be called when no command runs."""
        self._is_running = False
        # What keeps the connection may be just what called this.
        await deferLater(self._reactor, 0)
        self._staying.cancel()
        await self._staying

    def command(self, *words: Argument, changes: bool = False) -> Deferred[Any]:
        """The answer to one command.

        It is sent again when the connection breaks before the answer, so doing it
        twice must be harmless.

        :param changes: wait until as many replicas as configured have the change.
        :raise UnknownScript: the command was ``EVALSHA``, and the script is not loaded.
        :raise StoreUnavailable: there is no connection, no answer or a refusal.
        """
        return self._ask(encode_command(words), changes)

    def later(
        self, words: Callable[[], Sequence[Argument]], changes: bool = False
    ) -> Deferred[Any]:
        """Like :meth:`command`; its words are asked for when it is sent."""
        return self._ask(lambda: encode_command(words()), changes)

    def _ask(self, data: Command, changes: bool) -> Deferred[Any]:
        replicas = self._address.wait_replicas if changes else 0
        protocol = self._protocol
        if protocol is None or replicas:
            return Deferred.fromCoroutine(self._insist(data, replicas, TRIES))
        return protocol.ask(data).addErrback(self._failed, protocol, data)

    def _failed(
        self, failure: Failure, protocol: RedisProtocol, data: Command
    ) -> Deferred[Any] | Failure:
        """The answer to a command whose first try had none."""
        if failure.check(Disconnected):
            return Deferred.fromCoroutine(self._insist(data, 0, TRIES - 1))
        error = failure.value
        if isinstance(error, Unanswered | Refusal):
            raise self._trouble(protocol, error) from error
        return failure

    async def _insist(self, data: Command, replicas: int, tries: int) -> Any:
        """The answer to a command, on any connection that there is until then."""
        for _ in range(tries):
            protocol = await self._connected()
            try:
                return await self._converse(protocol, data, replicas)
            except Disconnected:
                continue
            except (Unanswered, Refusal) as error:
                raise self._trouble(protocol, error) from error
        raise StoreUnavailable

    async def _converse(
        self, protocol: RedisProtocol, data: Command, replicas: int
    ) -> Any:
        answer = await protocol.ask(data)
        if replicas:
            # On the same connection: it waits for what this one wrote.
            longest = int(self._address.socket_timeout * 500)
            reached = await protocol.execute_command("WAIT", replicas, longest)
            if reached < replicas:
                raise StoreUnavailable
        return answer

    def _trouble(self, protocol: RedisProtocol, error: Exception) -> Exception:
        """What to tell who asked."""
        if isinstance(error, Refusal):
            return self._refused(protocol, str(error))
        self._give_up(protocol)
        return StoreUnavailable()

    def _refused(self, protocol: RedisProtocol, reason: str) -> Exception:
        if reason.startswith("NOSCRIPT"):
            return UnknownScript()
        self.log.error("{where}: {reason}", where=self._address, reason=reason)
        if reason.startswith(_NOT_NOW):
            self._give_up(protocol)
        return StoreUnavailable()

    def _give_up(self, protocol: RedisProtocol) -> None:
        """Lend this connection to nobody any more."""
        if self._protocol is protocol:
            self._protocol = None
        protocol.abort()

    async def _connected(self) -> Any:
        """A connection that may be used; fails with the next attempt to make one."""
        if self._protocol is not None:
            return self._protocol
        connected: Deferred[Any] = Deferred()
        self._waiting.append(connected)
        connected.addTimeout(self._address.socket_timeout, self._reactor)
        try:
            return await connected
        except TimeoutError as error:
            raise StoreUnavailable from error

    def _tell(self, outcome: Any) -> None:
        """Let those that wait for a connection know."""
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            if isinstance(outcome, Exception):
                each.errback(outcome)
            else:
                each.callback(outcome)

    async def _stay_connected(self) -> None:
        """Until it is cancelled."""
        pause = FIRST_PAUSE
        while self._is_running:
            try:
                await self._use(await self._connect())
                pause = FIRST_PAUSE
            except Exception as error:  # noqa: BLE001 - whatever it was may pass
                if self._is_running:
                    self._say(f"cannot be used: {error or repr(error)}")
                    self._tell(StoreUnavailable())
            await self._rest(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    async def _rest(self, seconds: float) -> None:
        """Wait, unless it is stopped meanwhile."""
        if self._is_running:
            with suppress(CancelledError):
                await deferLater(self._reactor, seconds)

    async def _use(self, protocol: RedisProtocol) -> None:
        """Lend a connection to all commands until it is lost, or this is cancelled."""
        lost = protocol.whenDisconnected()
        try:
            # It may have been stopped when there was nothing to cancel.
            if self._is_running:
                self.log.info("{where} is connected", where=self._address)
                self._protocol = protocol
                self._tell(protocol)
                await lost
        finally:
            self._protocol = None
            if protocol.connected:
                lost = protocol.whenDisconnected()
                protocol.abort()
                await lost

    async def _connect(self) -> Any:
        timeout = self._address.socket_timeout
        factory = _ProtocolFactory(self._reactor, timeout)
        protocol = await _open(self._endpoint, factory)
        if not self._address.path:
            # What is sent in two pieces, or in two turns, is not held back in between.
            protocol.transport.setTcpNoDelay(True)
        try:
            await self._prepare(protocol)
        except BaseException:
            protocol.abort()
            raise
        return protocol

    async def _prepare(self, protocol: RedisProtocol) -> None:
        address = self._address
        await _log_in(protocol, address.username, address.password)
        if address.database:
            await protocol.execute_command("SELECT", address.database)
        info = parse_info(await protocol.execute_command("INFO"))
        check_server(info)
        warning = persistence_warning(info, await self._save_points(protocol, info))
        if warning:
            self._say(f"is not safe: {warning}")
        else:
            self._last_said = ""

    async def _save_points(self, protocol: RedisProtocol, info: Info) -> str | None:
        """When it saves snapshots; empty is never, none is unknown."""
        try:
            _, value = await protocol.execute_command("CONFIG", "GET", "save")
        except (Refusal, ValueError):
            return None
        return str(value.decode())

    def _say(self, text: str) -> None:
        """Tell the operator, once for each time that something is wrong."""
        if text != self._last_said:
            self._last_said = text
            self.log.warn("{where} {text}", where=self._address, text=text)
