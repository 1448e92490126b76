"""From the configuration to the bus of a process and its links."""

from __future__ import annotations

from math import inf
from typing import Any

from attrs import frozen
from twisted.application.service import IService

from mqsvc.bus import Bus
from mqsvc.bus.board import Board, Place
from mqsvc.config import ConfigError, Settings
from mqsvc.links.remote import Line, RemoteLink
from mqsvc.links.unix import UnixLink
from mqsvc.storage.errors import StoreOpenError

NONE = "none"
"""The option that there are to be no links to other servers."""

_EXPECTED = "expected a URI of Redis or MongoDB, 'none', or nothing"


@frozen
class Connected:
    """The bus of a process, and what has to run for it."""

    bus: Bus
    services: tuple[IService, ...]


def make_bus(settings: Settings, place: Place | None, reactor: Any) -> Connected:
    """The bus and its links; nothing runs yet.

    :param place: of this worker; none for a process that is a server by itself.
    :raise ConfigError: the option cannot be used.
    """
    # A catalog that only this server has is changed by nobody else.
    is_shared = bool(settings.drivers.management_store)
    remembered = settings.record_cache_time if is_shared else inf
    bus = Bus(_board(place), reactor, remembered)
    links: list[UnixLink | RemoteLink] = []
    if place is not None:
        links.append(UnixLink(place, bus, reactor))
    line = _line(settings, reactor)
    if line is not None:
        links.append(RemoteLink(line, str(line), bus, reactor))
    for link in links:
        bus.connect(link)
    return Connected(bus, tuple(links))


def _board(place: Place | None) -> Board:
    if place is None:
        return Board.private()
    return Board.open(place.board_path, place.number, place.count)


def _line(settings: Settings, reactor: Any) -> Line | None:
    drivers = settings.drivers
    if drivers.bus == NONE:
        return None
    if drivers.bus:
        return _opened("drivers.bus", drivers.bus, reactor)
    if not drivers.management_store:
        return None
    if _scheme(drivers.message_store) not in {"redis", "mongodb"}:
        return None
    return _opened("drivers.message_store", drivers.message_store, reactor)


def _scheme(uri: str) -> str:
    return uri.partition(":")[0].partition("+")[0]


def _opened(option: str, uri: str, reactor: Any) -> Line:
    try:
        match _scheme(uri):
            case "redis":
                return _redis(uri, reactor)
            case "mongodb":
                return _mongodb(uri, reactor)
    except StoreOpenError as error:
        raise ConfigError(f"{option}: {error}") from error
    except ImportError as error:
        raise ConfigError(
            f"{option}: this needs {error.name}, which is not installed; "
            "docs/dependencies.rst names the extra that brings it"
        ) from error
    raise ConfigError(f"{option}: {_EXPECTED}")


def _redis(uri: str, reactor: Any) -> Line:
    # What connects to Redis imports the reactor.
    from mqsvc.links.redis import RedisLine  # noqa: PLC0415
    from mqsvc.storage.messages.redis_address import parse_address  # noqa: PLC0415

    return RedisLine(parse_address(uri), reactor)


def _mongodb(uri: str, reactor: Any) -> Line:
    # What connects to MongoDB imports the reactor.
    from mqsvc.links.mongodb import MongoLine  # noqa: PLC0415
    from mqsvc.storage.mongodb_uri import read_uri  # noqa: PLC0415

    return MongoLine(read_uri(uri), reactor)
