"""What Linux tells of processes and of who has a connection."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

from tests.integration.traffic import ANSWER_SECONDS, Connection

ESTABLISHED = "01"


def children(process: int) -> list[int]:
    """The processes that a process has started and that run, oldest first."""
    try:
        listed = Path(f"/proc/{process}/task/{process}/children").read_text()
    except OSError:
        return []
    return sorted(int(child) for child in listed.split() if is_alive(int(child)))


def is_alive(process: int) -> bool:
    """Whether a process runs, and is not only waited for."""
    try:
        stat = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def connections(port: int, client: int | None = None) -> dict[str, int]:
    """The connections of a server by the number of their inode, with the clients' port.

    :param port: of the server.
    :param client: only those to this port.
    """
    found = {}
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, remote, state, *rest = line.split()
        there = int(remote.partition(":")[2], 16)
        is_ours = int(local.partition(":")[2], 16) == port and state == ESTABLISHED
        if is_ours and client in (None, there):
            found[rest[5]] = there
    return found


def sockets(process: int) -> set[str]:
    """The inodes of the sockets that a process has."""
    directory = f"/proc/{process}/fd"
    targets = []
    for name in os.listdir(directory):
        try:
            targets.append(os.readlink(f"{directory}/{name}"))
        except OSError:
            continue
    return {
        target.removeprefix("socket:[").removesuffix("]")
        for target in targets
        if target.startswith("socket:")
    }


def wait_until(is_so: Callable[[], object], what: str) -> None:
    """Return when something is so; fail when it takes too long."""
    deadline = time.monotonic() + ANSWER_SECONDS
    pause = threading.Event()
    while not is_so():
        if time.monotonic() > deadline:
            raise AssertionError(f"It never came to this: {what}")
        pause.wait(0.01)


def connections_to_each(port: int, processes: list[int]) -> list[Connection]:
    """A connection to each of the processes that serve at a port."""
    by_process: dict[int, Connection] = {}
    spare = []
    while len(by_process) < len(processes):
        connection = Connection(port)
        connection.ask("GET", "/healthz")
        [inode] = connections(port, connection.port)
        [owner] = [each for each in processes if inode in sockets(each)]
        if by_process.setdefault(owner, connection) is not connection:
            spare.append(connection)
    for connection in spare:
        connection.close()
    return [by_process[process] for process in processes]
