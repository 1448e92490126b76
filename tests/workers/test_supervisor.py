"""The supervisor, in the process of the test, and the workers that it starts."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from typing import Any

from twisted.internet import reactor
from twisted.internet.error import ProcessDone, ProcessTerminated
from twisted.internet.protocol import ServerFactory
from twisted.internet.task import deferLater
from twisted.logger import eventAsText, globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase
from twisted.web.client import Agent, HTTPConnectionPool

from mqsvc.config import ConfigError, Settings, load
from mqsvc.service import DataDirectory
from mqsvc.tap import Options, makeService
from mqsvc.workers.lifeline import Lifeline
from mqsvc.workers.process import WorkerProcess
from mqsvc.workers.supervisor import make_supervisor
from tests.workers.test_assignment import assignment

LOOPBACK = "tcp:0:interface=127.0.0.1"


class SupervisorTestCase(TestCase):
    """Has a data directory of its own."""

    timeout = 120

    def settings(self, *overrides: str) -> Settings:
        """Settings for two workers."""
        self.data_dir = os.path.abspath(self.mktemp())
        first = [f"data_dir={self.data_dir}", f"http={LOOPBACK}", "workers=2"]
        return load(None, {}, [*first, "websocket=", *overrides])


class RefusalTests(SupervisorTestCase):
    """What ends the start."""

    def refusal(self, *overrides: str) -> str:
        """The line with which the start ends."""
        error = self.assertRaises(
            ConfigError, make_supervisor, self.settings(*overrides), reactor
        )
        self.assertEqual(1, len(str(error).splitlines()))
        return str(error)

    def test_endpoints(self) -> None:
        """Endpoints that are none or cannot be shared are refused before all else."""
        self.assertIn(
            "http: workers cannot share 'stdio:'", self.refusal("http=stdio:")
        )
        self.assertIn("websocket: 'tcp:x'", self.refusal("websocket=tcp:x"))
        self.assertFalse(os.path.exists(self.data_dir))

    def test_one_line(self) -> None:
        """What no worker could open ends the process with one line, nothing locked."""
        options = Options()
        options.settings = self.settings("drivers.message_store=zzz://host")
        line = str(self.assertRaises(SystemExit, makeService, options).code)
        self.assertTrue(line.startswith("mqsvc: drivers.message_store: "), line)
        self.assertEqual(1, len(line.splitlines()))
        directory = DataDirectory(self.data_dir)
        directory.acquire()
        directory.release()


class RunningTests(SupervisorTestCase):
    """A supervisor with two workers."""

    async def test_life(self) -> None:
        """It prepares the stores, starts workers that serve, and stops them."""
        lasts: list[Callable[[], None]] = []
        settings = self.settings(f"websocket=if-free:{LOOPBACK}")
        made = make_supervisor(settings, reactor, lasts.append)
        files = os.listdir(self.data_dir)
        self.assertIn("messages.db", files)
        self.assertNotIn("workers", files)
        lines: list[str] = []

        def observe(event: dict[str, Any]) -> None:
            lines.append(eventAsText(event, includeTimestamp=False))

        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)
        made.privilegedStartService()
        made.startService()
        self.assertIn("mqsvc.workers.supervisor#info] mqsvc", lines[-1])
        self.assertIn(": 2 workers, HTTP on 127.0.0.1:", lines[-1])
        self.assertIn(", WebSocket on 127.0.0.1:", lines[-1])
        port = int(lines[-1].partition("127.0.0.1:")[2].partition(",")[0])
        agent = Agent(reactor, pool=HTTPConnectionPool(reactor, persistent=False))
        response = await agent.request(b"GET", b"http://127.0.0.1:%d/" % port)
        self.assertEqual(300, response.code)
        for number in range(2):
            while not any(
                line.startswith(f"[worker {number}, mqsvc") for line in lines
            ):
                await deferLater(reactor, 0.01)
        await made.stopService()
        self.assertEqual(1, len(lasts))
        # Nobody has the stores any more.
        database = sqlite3.connect(os.path.join(self.data_dir, "messages.db"))
        database.execute("PRAGMA journal_mode = DELETE")
        database.close()


class TakenPortTests(SupervisorTestCase):
    """A port for WebSocket that another program has."""

    async def test_without(self) -> None:
        """Workers are told that there is none, and so do not try to have it."""
        other = reactor.listenTCP(0, ServerFactory(), interface="127.0.0.1")
        self.addCleanup(other.stopListening)
        taken = f"tcp:{other.getHost().port}:interface=127.0.0.1"
        wanted = self.settings(f"websocket=if-free:{taken}")
        made = make_supervisor(wanted, reactor, lambda _: None)
        self.addCleanup(made.stopService)
        made.privilegedStartService()
        told = made.assignment(0, 3, 4)
        self.assertEqual({"http": 4}, told.sockets)
        self.assertEqual("", told.settings.websocket)


class LifelineTests(SynchronousTestCase):
    """A pipe whose end a worker watches."""

    def test_end(self) -> None:
        """The end comes when the other side lets go, not when it says something."""
        ours, theirs = os.pipe()
        self.addCleanup(os.close, ours)
        ends: list[str] = []
        lifeline = Lifeline(ours, lambda: ends.append("end"))
        self.assertEqual(ours, lifeline.fileno())
        os.write(theirs, b"x")
        self.assertIsNone(lifeline.doRead())
        os.close(theirs)
        lifeline.connectionLost(Failure(lifeline.doRead()))
        self.assertEqual(["end"], ends)


class EndTests(SynchronousTestCase):
    """How a worker ended."""

    def test_words(self) -> None:
        """It is said so that an operator knows where to look."""
        for reason, words in (
            (ProcessDone(0), "it stopped by itself"),
            (ProcessTerminated(exitCode=3), "exit status 3"),
            (ProcessTerminated(signal=9), "signal 9"),
        ):
            worker = WorkerProcess(assignment(load(None, {}, [])))
            worker.processEnded(Failure(reason))
            self.assertEqual(words, self.successResultOf(worker.ended))
