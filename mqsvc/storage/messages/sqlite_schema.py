"""The schema of the embedded message store, as numbered migrations.

A message row is in one of three states. The state in the row may be behind the
clock: a delay or a claim that ended leaves it as it was until :data:`sweep` or the
next claim corrects it. Every statement therefore takes ``state`` together with
``ready_at``; a row whose ``ready_at`` has come counts as ready.

A *run* is a row of messages that one client posted with nobody else in between; its
number is the position of the first one. A list that hides a client's messages leaps
over that client's runs. Clients are kept as 63 bits of a digest of their ids.

Clearing a destination only forgets its row: its messages lose their owner at once,
however many they are, and are deleted in pieces later (table ``cleared``).
"""

from __future__ import annotations

READY = 0
DELAYED = 1
CLAIMED = 2

MIGRATIONS = (
    (
        # AUTOINCREMENT: an id is never used again, so that rows waiting for their
        # deletion can never turn up in another destination.
        """
        CREATE TABLE destinations (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            project TEXT NOT NULL,
            kind TEXT NOT NULL,
            name TEXT NOT NULL,
            next_position INTEGER NOT NULL,
            total INTEGER NOT NULL,
            claimed INTEGER NOT NULL,
            last_client INTEGER NOT NULL,
            run INTEGER NOT NULL,
            UNIQUE (project, kind, name)
        )
        """,
        # No destination that is made again starts below this position.
        "CREATE TABLE positions (floor INTEGER NOT NULL)",
        "INSERT INTO positions VALUES (0)",
        "CREATE TABLE cleared (destination INTEGER PRIMARY KEY)",
        """
        CREATE TABLE messages (
            destination INTEGER NOT NULL,
            position INTEGER NOT NULL,
            random INTEGER NOT NULL,
            state INTEGER NOT NULL,
            ready_at INTEGER NOT NULL,
            expires INTEGER NOT NULL,
            created INTEGER NOT NULL,
            ttl INTEGER NOT NULL,
            client INTEGER NOT NULL,
            run INTEGER NOT NULL,
            claim TEXT,
            claim_count INTEGER NOT NULL,
            body BLOB NOT NULL
        )
        """,
        # Order within a state; the last columns let filters run on the index.
        """
        CREATE INDEX messages_in_order
        ON messages (destination, state, position, expires, client, run)
        """,
        "CREATE INDEX messages_by_run ON messages (destination, state, run)",
        # What becomes ready next, in one destination and in all of them.
        """
        CREATE INDEX messages_waiting
        ON messages (destination, state, ready_at, position, expires, client, run)
        WHERE state <> 0
        """,
        "CREATE INDEX messages_due ON messages (ready_at) WHERE state <> 0",
        "CREATE INDEX messages_by_expiry ON messages (expires, destination)",
        """
        CREATE INDEX messages_by_claim ON messages (claim, position)
        WHERE claim IS NOT NULL
        """,
        """
        CREATE TABLE claims (
            id TEXT PRIMARY KEY,
            destination INTEGER NOT NULL,
            ttl INTEGER NOT NULL,
            created INTEGER NOT NULL,
            expires INTEGER NOT NULL
        ) WITHOUT ROWID
        """,
        "CREATE INDEX claims_by_expiry ON claims (expires)",
    ),
    (
        # Of the bodies of what `total` counts.
        "ALTER TABLE destinations ADD COLUMN bytes INTEGER NOT NULL DEFAULT 0",
        """
        UPDATE destinations SET bytes = coalesce((
            SELECT sum(length(body)) FROM messages INDEXED BY messages_in_order
            WHERE destination = destinations.id AND state IN (0, 1, 2)), 0)
        """,
    ),
)
