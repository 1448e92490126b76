"""Exports and imports over real stores: what arrives, and what is left alone."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from attrs import evolve
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, fail
from twisted.trial.unittest import SynchronousTestCase

from mqsvc.commands import exporting, importing, reading
from mqsvc.commands.exporting import Exporter, count_messages
from mqsvc.commands.importing import Check, ImportRefused, ImportStopped, Wanted
from mqsvc.commands.interruption import Interrupted, Interruption
from mqsvc.commands.lines import (
    FlavorLine,
    MessageLine,
    PoolLine,
    QueueLine,
    SubscriptionLine,
    TopicLine,
)
from mqsvc.commands.stores import OpenStores
from mqsvc.messaging.limits import Limits
from mqsvc.messaging.model import (
    DeadLetterRule,
    Destination,
    Kind,
    NewMessage,
    Pool,
    Selection,
)
from mqsvc.messaging.placement import Placement
from mqsvc.messaging.records import Records
from tests.commands.content import (
    BODIES,
    EMPTY,
    METADATA,
    NEWS,
    NOW,
    ORDERS,
    THEIRS,
    content,
    exported,
    file_of,
    fill,
    ignore,
    imported,
    importer,
    over,
    reader,
)
from tests.messaging.stores import Watched, open_management, open_messages

BODY = st.one_of(
    st.binary(max_size=40),
    st.sampled_from(BODIES),
    st.text(max_size=20).map(lambda text: f'"{text}"'.encode(errors="ignore")),
)
MESSAGE = st.builds(
    NewMessage,
    body=BODY,
    ttl=st.integers(60, 2**31 - 1),
    delay=st.integers(0, 900),
)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda children: (
        st.lists(children, max_size=3)
        | st.dictionaries(
            st.text(st.characters(exclude_categories=["Cs"])), children, max_size=3
        )
    ),
    max_leaves=5,
)
DESTINATION = st.builds(
    Destination,
    project=st.sampled_from(["", "demo", "grüße\u2603", "a b"]),
    kind=st.sampled_from(Kind),
    name=st.from_regex(r"[a-z0-9_][A-Za-z0-9_.-]{0,5}", fullmatch=True),
)
CONTENT = st.dictionaries(
    DESTINATION,
    st.tuples(
        st.dictionaries(st.sampled_from(["a", "\u2603"]), JSON),
        st.lists(MESSAGE, max_size=7),
    ),
    max_size=5,
)


def message_line(body: bytes = b"1", **fields: Any) -> MessageLine:
    """The line of a message that lives for a minute."""
    times = {"ttl": 60, "created": NOW, "expires": NOW + 60_000}
    return MessageLine(body=importing_raw(body), **{**times, **fields})


def importing_raw(body: bytes) -> Any:
    """JSON as it stands in a line."""
    return MessageLine.of.__globals__["Raw"](body)
