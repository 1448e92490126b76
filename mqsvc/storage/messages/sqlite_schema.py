"""The schema of the embedded message store, as numbered migrations.

A message row is in one of three states. The state in the row may be behind the
clock: a delay or a claim that ended leaves it as it was until :data:`sweep` or the
next claim corrects it. Every statement therefore takes ``state`` together with
``ready_at``; a row whose ``ready_at`` has come counts as ready.

A claimed message is ready at the moment at which its claim expires, to the
millisecond: the two are only ever changed together. A claim is kept for as long as any
message is in its state, so that a sweep finds by the claims what they have held.

A *run* is a row of messages that one client posted with nobody else in between; its
number is the position of the first one. A list that hides a client's messages leaps
over that client's runs; that one run is never inside another one is what lets it find
their ends by halving. Clients are kept as 63 bits of a digest of their ids.

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
    (
        # Each index is a page more that a post, a claim or a delete has to write.
        "DROP INDEX messages_by_run",
        "DROP INDEX messages_by_claim",
        # What a claim holds is found by the moment at which it ends.
        "DROP INDEX messages_waiting",
        """
        CREATE INDEX messages_waiting ON messages
        (destination, state, ready_at, claim, position, expires, client, run)
        WHERE state <> 0
        """,
        "DROP INDEX messages_due",
        "CREATE INDEX messages_delayed ON messages (ready_at) WHERE state = 1",
        # Claims that were over could be deleted before all they held was ready.
        """
        INSERT INTO claims (id, destination, ttl, created, expires)
        SELECT claim, destination, 0, 0, max(ready_at) FROM messages
        WHERE state = 2 AND NOT EXISTS (SELECT 1 FROM claims WHERE id = claim)
        GROUP BY claim
        """,
    ),
)
