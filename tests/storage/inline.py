"""Jobs of an SQLite store without threads: each runs at once, in the caller's."""

from __future__ import annotations

import sqlite3

from twisted.internet.defer import Deferred, execute, succeed

from mqsvc.storage.sqlite import Item, Job, Joint, Result, connect


class InlineWorker:
    """A :class:`~mqsvc.storage.sqlite.Worker` whose Deferreds have fired already.

    :param path: the file; its schema must be there before the first job.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None

    def start(self) -> None:
        """Open the file."""
        self._connection = connect(self._path)
        # Whoever runs jobs inline survives no power cut and needs no waiting for one.
        self._connection.execute("PRAGMA synchronous = OFF")

    def stop(self) -> Deferred[None]:
        """Close the file."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        return succeed(None)

    def run(self, job: Job[Result]) -> Deferred[Result]:
        """Fire with what the job returns, or fail with what it raises."""
        return execute(self._transact, job)

    def join(self, job: Joint[Item, Result], item: Item) -> Deferred[Result]:
        """Each item is a job of its own."""
        return self.run(lambda connection: job(connection, [item])[0])

    def _transact(self, job: Job[Result]) -> Result:
        if self._connection is None:
            raise RuntimeError("start the worker before it is given a job")
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            result = job(self._connection)
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")
        return result
