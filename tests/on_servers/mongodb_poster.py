"""A process of its own that posts to a MongoDB store: started by tests.

``python -m tests.on_servers.mongodb_poster URI NAME BATCHES`` posts so many batches of
three messages, some at the same time, and prints the ids of each, a batch a line.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from twisted.internet import task
from twisted.internet.defer import Deferred, gatherResults

from mqsvc.messaging.model import NewMessage, Posting
from mqsvc.storage.messages.mongodb import open_mongodb_messages
from tests.storage.also_contract import OUTBOX
from tests.storage.contract import ORDERS

POSTERS = 6
"""How many post at the same time, so that their posts are stored together."""


async def post(reactor: Any, uri: str, name: str, batches: str) -> None:
    """Post everything."""
    store = open_mongodb_messages(uri, reactor)
    store.startService()
    numbers = iter(range(int(batches)))

    async def post_some(poster: int) -> None:
        for number in numbers:
            bodies = [json.dumps([name, number, part]).encode() for part in range(3)]
            new = [NewMessage(body, 3600) for body in bodies]
            now = int(time.time() * 1000)
            also = Posting(OUTBOX, new)
            ids = await store.post(ORDERS, new, f"{name} {poster}", now, also)
            sys.stdout.write(json.dumps(ids) + "\n")

    await gatherResults(
        [Deferred.fromCoroutine(post_some(poster)) for poster in range(POSTERS)]
    )
    await store.stopService()


if __name__ == "__main__":
    task.react(post, sys.argv[1:])
