"""A process of its own that posts to a MongoDB store: started by tests.

``python -m tests.on_servers.mongodb_poster URI NAME BATCHES`` posts so many batches of
three messages, one after the other, and prints the ids of each, a batch a line.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from twisted.internet import task

from mqsvc.messaging.model import NewMessage
from mqsvc.storage.messages.mongodb import open_mongodb_messages
from tests.storage.contract import ORDERS


async def post(reactor: Any, uri: str, name: str, batches: str) -> None:
    """Post everything."""
    store = open_mongodb_messages(uri, reactor)
    store.startService()
    for number in range(int(batches)):
        new = [
            NewMessage(json.dumps([name, number, part]).encode(), 3600)
            for part in range(3)
        ]
        now = int(time.time() * 1000)
        sys.stdout.write(json.dumps(await store.post(ORDERS, new, name, now)) + "\n")
    await store.stopService()


if __name__ == "__main__":
    task.react(post, sys.argv[1:])
