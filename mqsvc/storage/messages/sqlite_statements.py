"""The SQL of the embedded message store.

Parameters by name: ``destination`` is a row id, ``now`` a moment in milliseconds.
Reading statements give the columns of :data:`COLUMNS`.

What each post, claim, delete and list runs makes no temporary table (nor uses
RETURNING, which is one): SQLite touches 80 KiB for each of them, which are given back
to the system and asked for anew at each run, and that costs more than all the rest.

Where the cost depends on it the index is named: SQLite keeps no statistics of a file
that nobody analyzed, and would guess. A partial index is only considered when its
own condition (``state <> 0``) stands in the statement.
"""

from __future__ import annotations

from functools import cache

from mqsvc.storage.messages.sqlite_schema import CLAIMED, DELAYED, READY

COLUMNS = (
    "messages.rowid, position, random, state, ready_at, expires, body, ttl, created, "
    "claim, claim_count, client"
)

FIND_DESTINATION = """
    SELECT id FROM destinations WHERE project = ? AND kind = ? AND name = ?
"""

NONE, DUE, ALL = range(3)
"""Which of the delayed, or of the claimed, messages are meant."""


def _is_due(state: int) -> str:
    """Whether a delay or claim is over, by a moment, that no sweep has seen.

    NONE or DUE.
    """
    return f"""EXISTS (
        SELECT 1 FROM messages INDEXED BY messages_waiting
        WHERE destination = destinations.id AND state = {state} AND state <> 0
        AND ready_at <= ?)
    """  # noqa: S608 - built from constants of this module only


FIND_DUE = f"""
    SELECT id, {_is_due(DELAYED)}, {_is_due(CLAIMED)}
    FROM destinations WHERE project = ? AND kind = ? AND name = ?
"""  # noqa: S608

FIND_END = """
    SELECT id, next_position, last_client, run FROM destinations
    WHERE project = ? AND kind = ? AND name = ?
"""

MOVE_END = """
    UPDATE destinations SET next_position = ?, last_client = ?, run = ?,
        total = total + ?, bytes = bytes + ?
    WHERE id = ?
"""

BEGIN_DESTINATION = """
    INSERT INTO destinations (project, kind, name, last_client, next_position, run,
        total, claimed)
    SELECT ?, ?, ?, ?, start, start, 0, 0
    FROM (SELECT max(?, floor) AS start FROM positions)
"""

NEW = (
    "destination, position, random, state, ready_at, expires, created, ttl, client, "
    "run, claim_count, body"
)


@cache
def insert_messages(count: int) -> str:
    """One statement for so many rows, which costs half of so many statements."""
    row = f"({', '.join('?' for _ in NEW.split())})"
    return f"INSERT INTO messages ({NEW}) VALUES {', '.join([row] * count)}"  # noqa: S608


_PLACE = "rowid AS place, position, run, client"


def _first(source: str, columns: str = _PLACE) -> str:
    """The first messages of one stored state, by position."""
    return f"""
        SELECT {columns} FROM messages {source}
        AND destination = :destination AND position > :after AND expires > :now
        ORDER BY position LIMIT :limit
    """  # noqa: S608


def _all_of(state: int) -> str:
    return f"INDEXED BY messages_in_order WHERE state = {state}"


def _due_of(state: int) -> str:
    """Those whose delay or claim is over; few, for a sweep makes them ready."""
    return (
        f"INDEXED BY messages_waiting WHERE state = {state} AND state <> 0 "
        "AND ready_at <= :now"
    )


def _sources(*parts: int) -> list[str]:
    """Where the messages of a selection are."""
    choices = {
        state: {NONE: [], DUE: [_due_of(state)], ALL: [_all_of(state)]}
        for state in (DELAYED, CLAIMED)
    }
    delayed, claimed = parts
    return [_all_of(READY), *choices[DELAYED][delayed], *choices[CLAIMED][claimed]]


def _places(*parts: int) -> str:
    """One page: each stored state brings its first rows, the first of all are kept."""
    pieces = [_first(source) for source in _sources(*parts)]
    if len(pieces) == 1:
        return pieces[0]
    union = " UNION ALL ".join(f"SELECT * FROM ({piece})" for piece in pieces)  # noqa: S608
    return f"{union} ORDER BY position LIMIT :limit"


def _page(*parts: int) -> str:
    if parts == (NONE, NONE):
        return _first(_all_of(READY), COLUMNS)
    # Rows are only read when it is known which ones are wanted.
    return f"""
        SELECT {COLUMNS} FROM messages
        WHERE rowid IN (SELECT place FROM ({_places(*parts)})) ORDER BY position
    """  # noqa: S608


def _runs_behind(*parts: int) -> str:
    """The run of the first message of each stored state that is meant as a whole."""
    return " UNION ALL ".join(
        f"""
        SELECT * FROM (
            SELECT run FROM messages {_all_of(state)}
            AND destination = :destination AND position > :place
            ORDER BY position LIMIT 1)
        """  # noqa: S608
        for state, part in zip((READY, DELAYED, CLAIMED), (ALL, *parts), strict=True)
        if part == ALL
    )


_SELECTIONS = [(delayed, claimed) for delayed in range(3) for claimed in range(3)]

PAGE = {selection: _page(*selection) for selection in _SELECTIONS}
"""By which of the delayed and which of the claimed ones, as the two below."""

PLACES = {selection: _places(*selection) for selection in _SELECTIONS}
"""Row id, position, run and client; read from indexes alone."""

RUNS_BEHIND = {selection: _runs_behind(*selection) for selection in _SELECTIONS}

BY_ROW = f"SELECT {COLUMNS} FROM messages WHERE rowid = ?"  # noqa: S608


def _by_id(columns: str) -> str:
    """One message of a destination that is given by its name."""
    return f"""
        SELECT {columns} FROM (VALUES ({READY}), ({DELAYED}), ({CLAIMED})) AS states
        CROSS JOIN messages INDEXED BY messages_in_order
        ON destination = ({FIND_DESTINATION}) AND state = states.column1
        AND position = ? AND random = ? AND expires > ?
    """  # noqa: S608


BY_ID = _by_id(COLUMNS)

HELD = _by_id("messages.rowid, destination, state, ready_at, claim, length(body)")
"""What is to be known of a message that is deleted; its body is not read."""

_OF_CLAIM = f"""
    FROM messages INDEXED BY messages_waiting
    WHERE destination = :destination AND state = {CLAIMED} AND state <> 0
    AND ready_at = :ends AND claim = :claim
"""

BY_CLAIM = f"SELECT {COLUMNS} {_OF_CLAIM} AND expires > :now ORDER BY position"

ROWS_OF_CLAIM = f"SELECT rowid, expires {_OF_CLAIM}"
"""Read from the index alone; to change them in the same statement would be dearer."""

DELETE_ROW = "DELETE FROM messages WHERE rowid = ?"

COUNT_DOWN = """
    UPDATE destinations SET total = total - ?, claimed = claimed - ?, bytes = bytes - ?
    WHERE id = ?
"""

STORED_BYTES = """
    SELECT coalesce(sum(bytes), 0) FROM destinations
    WHERE project = :project AND kind IN ('queue', 'topic')
"""

CLAIM_ROW = f"""
    UPDATE messages SET state = {CLAIMED}, ready_at = ?, claim = ?, claim_count = ?
    WHERE rowid = ?
"""  # noqa: S608

RENEW_ROW = "UPDATE messages SET ready_at = ? WHERE rowid = ?"

# A message never expires under a claim: where it would, it lives for the grace after.
EXTEND_ROW = "UPDATE messages SET ttl = ?, expires = ? WHERE rowid = ?"

RELEASE_ROW = f"""
    UPDATE messages SET state = {READY}, ready_at = 0, claim = NULL,
        claim_count = claim_count - ?
    WHERE rowid = ?
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
    SELECT ttl, created, expires FROM claims
    WHERE id = ? AND destination = ? AND expires > ?
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

RAISE_FLOOR = "UPDATE positions SET floor = max(floor, ?)"

FORGET_DESTINATION = "DELETE FROM destinations WHERE id = ?"

INSERT_CLEARED = "INSERT INTO cleared VALUES (?)"

SWEEP_DELAYED = f"""
    UPDATE messages SET state = {READY}, ready_at = 0 WHERE rowid IN (
        SELECT rowid FROM messages INDEXED BY messages_delayed
        WHERE state = {DELAYED} AND ready_at <= :now LIMIT :limit)
"""  # noqa: S608

SWEEP_CLAIMED = f"""
    UPDATE messages SET state = {READY}, ready_at = 0 WHERE rowid IN (
        SELECT rowid FROM messages {_due_of(CLAIMED)}
        AND destination = :destination LIMIT :limit)
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

_ENDED = "FROM claims WHERE expires <= :now ORDER BY expires, id LIMIT :limit"

ENDED_CLAIMS = f"SELECT destination {_ENDED}"

SWEEP_CLAIMS = f"DELETE FROM claims WHERE id IN (SELECT id {_ENDED})"  # noqa: S608
