"""Requests of one connection, without the connection."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.defer import Deferred

from mqsvc.websocket.call import Action, Call, Subscriber
from mqsvc.websocket.envelope import Reply
from mqsvc.websocket.frames import TEXT
from mqsvc.websocket.schema import Schema
from mqsvc.websocket.session import Service, Session
from tests.access.test_guard import GuardCase


class PatienceTests(GuardCase):
    """Requests that wait make room for others, and only those."""

    def is_counted(self, may_wait: bool, wait: Any) -> bool:
        """Whether a request counts as running while it is worked on."""
        done: Deferred[Reply] = Deferred()

        async def work(call: Call) -> Reply:
            return await done

        action = Action(work, Schema.of("", "wait"), "", may_wait=may_wait)
        # No action here subscribes.
        subscriber: Any = None
        connection: Subscriber = subscriber
        service = Service({"work": action}, self.guard, 3)
        session = Session(service, connection, lambda identity: None)
        headers = {"Client-ID": "c", "X-Project-ID": "p"}
        request = {"action": "work", "headers": headers, "body": {"wait": wait}}
        payload = json.dumps(request).encode()
        answering = Deferred.fromCoroutine(session.answer(payload, TEXT))
        is_counted = bool(self.guard.turns._running)
        done.callback(Reply(200, {}))
        self.successResultOf(answering)
        self.look()
        return is_counted

    def test_waiting(self) -> None:
        """One that waits does not count."""
        self.assertFalse(self.is_counted(may_wait=True, wait=5))

    def test_not_waiting(self) -> None:
        """What cannot wait, or does not want to, counts whatever it says."""
        self.assertTrue(self.is_counted(may_wait=False, wait=5))
        self.assertTrue(self.is_counted(may_wait=True, wait=0))
        self.assertTrue(self.is_counted(may_wait=True, wait=-1))
