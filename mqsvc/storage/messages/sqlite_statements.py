"""The SQL of the embedded message store.

Parameters by name: ``destination`` is a row id, ``now`` a moment in milliseconds,
``rows`` a JSON array of row ids. Reading statements give the columns of
:data:`COLUMNS`.

Where the cost depends on it the index is named: SQLite keeps no statistics of a file
that nobody analyzed, and would guess. A partial index is only considered when its
own condition (``state <> 0``) stands in the statement.
"""

from __future__ import annotations

from mqsvc.storage.messages.sqlite_schema import CLAIMED, DELAYED, READY

COLUMNS = (
    "rowid, position, random, state, ready_at, expires, body, ttl, created, claim, "
    "claim_count, client"
)

FIND_DESTINATION = """
    SELECT id FROM destinations WHERE project = :project AND kind = :kind
    AND name = :name
"""

# Reserves positions for so many messages of a client; gives the row id, the position
# after them, and their run.
APPEND = """
    INSERT INTO destinations (project, kind, name, next_position, total, claimed,
        last_client, run, bytes)
    SELECT :project, :kind, :name, start + :count, :count, 0, :client, start, :bytes
    FROM (SELECT max(:first, floor) AS start FROM positions) WHERE true
    ON CONFLICT (project, kind, name) DO UPDATE SET
        next_position = next_position + :count, total = total + :count,
        bytes = bytes + :bytes,
        run = iif(last_client = :client, run, next_position), last_client = :client
    RETURNING id, next_position, run
"""

INSERT_MESSAGE = """
    INSERT INTO messages (destination, position, random, state, ready_at, expires,
        created, ttl, client, run, claim, claim_count, body)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, NULL, ?, ?)
"""


def _first(source: str) -> str:
    """Where the first messages of one stored state are, by position."""
    return f"""
        SELECT * FROM (
            SELECT rowid AS place, position, run, client FROM messages {source}
            AND destination = :destination AND position > :after AND expires > :now
            ORDER BY position LIMIT :limit
        )
    """  # noqa: S608 - built from constants of this module only


def _all_of(state: int) -> str:
    return f"INDEXED BY messages_in_order WHERE state = {state}"


def _due_of(state: int) -> str:
    """Those whose delay or claim is over; few, for a sweep makes them ready."""
    return (
        f"INDEXED BY messages_waiting WHERE state = {state} AND state <> 0 "
        "AND ready_at <= :now"
    )


def _sources(include_delayed: bool, include_claimed: bool) -> list[str]:
    """Where the messages of a selection are."""
    return [
        _all_of(READY),
        _all_of(DELAYED) if include_delayed else _due_of(DELAYED),
        _all_of(CLAIMED) if include_claimed else _due_of(CLAIMED),
    ]


def _places(*include: bool) -> str:
    """One page: each stored state brings its first rows, the first of all are kept."""
    union = " UNION ALL ".join(map(_first, _sources(*include)))
    return f"{union} ORDER BY position LIMIT :limit"


def _next_run(*include: bool) -> str:
    union = " UNION ALL ".join(
        f"""
        SELECT min(run) AS run FROM messages {source}
        AND destination = :destination AND run > :run
        """  # noqa: S608
        for source in _sources(*include)
    ).replace("messages_in_order", "messages_by_run")
    return f"SELECT min(run) FROM ({union})"  # noqa: S608


_SELECTIONS = [
    (delayed, claimed) for delayed in (False, True) for claimed in (False, True)
]

# Rows are only read when it is known which ones are wanted.
PAGE = {
    selection: f"""
    SELECT {COLUMNS} FROM messages WHERE rowid IN (
        SELECT place FROM ({_places(*selection)})
    ) ORDER BY position
    """  # noqa: S608
    for selection in _SELECTIONS
}
"""By (include_delayed, include_claimed), as the two below."""

PLACES = {selection: _places(*selection) for selection in _SELECTIONS}
"""Row id, position, run and client; read from indexes alone."""

NEXT_RUN = {selection: _next_run(*selection) for selection in _SELECTIONS}

FREE = PAGE[False, False]

BY_ROWS = f"""
    SELECT {COLUMNS} FROM messages
    WHERE rowid IN (SELECT value FROM json_each(:rows)) ORDER BY position
"""  # noqa: S608

BY_POSITION = f"""
    SELECT {COLUMNS} FROM messages WHERE destination = :destination
    AND state IN ({READY}, {DELAYED}, {CLAIMED})
    AND position IN (SELECT value FROM json_each(:positions)) AND expires > :now
"""  # noqa: S608

BY_CLAIM = f"""
    SELECT {COLUMNS} FROM messages WHERE claim = :claim AND state = {CLAIMED}
    AND expires > :now ORDER BY position
"""  # noqa: S608

DELETE_ROWS = """
    DELETE FROM messages WHERE rowid IN (SELECT value FROM json_each(:rows))
"""

COUNT_DOWN = """
    UPDATE destinations SET total = total - :total, claimed = claimed - :claimed,
        bytes = bytes - :bytes
    WHERE id = :destination
"""

STORED_BYTES = """
    SELECT coalesce(sum(bytes), 0) FROM destinations
    WHERE project = :project AND kind IN ('queue', 'topic')
"""

# A message never expires under a claim: where it would, it lives for the grace after.
_EXTEND = """
    ttl = iif(expires < :ends, :extended_ttl, ttl),
    expires = iif(expires < :ends, :extended_expires, expires)
"""

CLAIM_ROWS = f"""
    UPDATE messages SET state = {CLAIMED}, ready_at = :ends, claim = :claim,
        claim_count = claim_count + 1, {_EXTEND}
    WHERE rowid IN (SELECT value FROM json_each(:rows))
"""  # noqa: S608

RENEW_ROWS = f"""
    UPDATE messages SET ready_at = :ends, {_EXTEND}
    WHERE claim = :claim AND state = {CLAIMED}
"""  # noqa: S608

RELEASE_ROWS = f"""
    UPDATE messages SET state = {READY}, ready_at = 0, claim = NULL,
        claim_count = claim_count - :undelivered
    WHERE claim = :claim AND state = {CLAIMED}
"""  # noqa: S608

MOVE_ROW = f"""
    UPDATE messages SET destination = :target, position = :position, random = :random,
        run = :run, state = {READY}, ready_at = 0, claim = NULL, claim_count = 0,
        ttl = coalesce(:ttl, ttl), expires = coalesce(:expires, expires)
    WHERE rowid = :row
"""  # noqa: S608

INSERT_CLAIM = """
    INSERT INTO claims (id, destination, ttl, created, expires)
    VALUES (:claim, :destination, :ttl, :now, :ends)
"""

FIND_CLAIM = """
    SELECT ttl, created FROM claims
    WHERE id = :claim AND destination = :destination AND expires > :now
"""

RENEW_CLAIM = """
    UPDATE claims SET ttl = :ttl, created = :now, expires = :ends WHERE id = :claim
"""

DELETE_CLAIM = "DELETE FROM claims WHERE id = :claim"

# The counters of the row hold what was posted and not yet deleted; what expired or
# came free since is counted off. Only the part not yet swept is walked over.
STATS = f"""
    SELECT
        total - (SELECT count(*) FROM messages INDEXED BY messages_by_expiry
                 WHERE expires <= :now AND destination = :destination),
        claimed - (SELECT count(*) FROM messages {_due_of(CLAIMED)}
                   AND destination = :destination)
    FROM destinations WHERE id = :destination
"""  # noqa: S608


def _extreme(direction: str) -> str:
    """The oldest or newest message in any state."""
    union = " UNION ALL ".join(
        f"""
        SELECT * FROM (
            SELECT {COLUMNS} FROM messages {_all_of(state)}
            AND destination = :destination AND expires > :now
            ORDER BY position {direction} LIMIT 1
        )
        """  # noqa: S608
        for state in (READY, DELAYED, CLAIMED)
    )
    return f"{union} ORDER BY position {direction} LIMIT 1"


OLDEST = _extreme("ASC")
NEWEST = _extreme("DESC")

NEXT_READY = " UNION ALL ".join(
    f"""
    SELECT * FROM (
        SELECT ready_at FROM messages INDEXED BY messages_waiting
        WHERE destination = :destination AND state = {state} AND state <> 0
        AND ready_at > :now AND expires > :now
        ORDER BY ready_at LIMIT 1
    )
    """  # noqa: S608
    for state in (DELAYED, CLAIMED)
)

RAISE_FLOOR = """
    UPDATE positions SET floor = max(floor, coalesce((
        SELECT next_position FROM destinations WHERE project = :project
        AND kind = :kind AND name = :name), 0))
"""

FORGET_DESTINATION = """
    DELETE FROM destinations WHERE project = :project AND kind = :kind
    AND name = :name RETURNING id
"""

INSERT_CLEARED = "INSERT INTO cleared VALUES (:destination)"

SWEEP_DUE = """
    SELECT rowid, destination, state FROM messages
    WHERE state <> 0 AND ready_at <= :now LIMIT :limit
"""

MAKE_READY = f"""
    UPDATE messages SET state = {READY}, ready_at = 0
    WHERE rowid IN (SELECT value FROM json_each(:rows))
"""  # noqa: S608

SWEEP_EXPIRED = """
    SELECT rowid, destination, state, length(body) FROM messages
    WHERE expires <= :now LIMIT :limit
"""

SWEEP_CLEARED = """
    SELECT rowid FROM messages
    WHERE destination = (SELECT destination FROM cleared LIMIT 1)
    AND state IN (0, 1, 2) LIMIT :limit
"""

FINISH_CLEARED = """
    DELETE FROM cleared WHERE destination = (SELECT destination FROM cleared LIMIT 1)
    AND NOT EXISTS (SELECT 1 FROM messages WHERE messages.destination =
                    cleared.destination AND state IN (0, 1, 2))
    RETURNING destination
"""

SWEEP_CLAIMS = """
    DELETE FROM claims WHERE id IN (
        SELECT id FROM claims WHERE expires <= :now LIMIT :limit)
"""
