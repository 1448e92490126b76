"""The behaviour of a message store, to which every driver is held.

One mixin per concern, in the modules beside this one; :func:`make_store_tests` turns
them into test cases of one driver.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from twisted.trial.unittest import TestCase

from tests.storage.also_contract import AlsoAtOnceTests, AlsoSharedTests, AlsoTests
from tests.storage.bytes_contract import StoredBytesTests
from tests.storage.claiming_contract import (
    ClaimTests,
    DeadLetterTests,
    ExtensionTests,
    ReleaseTests,
    RenewalTests,
    UndeliveredTests,
)
from tests.storage.destination_contract import ClearTests, IsolationTests, StatsTests
from tests.storage.passing_contract import (
    DelayTests,
    ExpiryTests,
    NextReadyTests,
    SweepTests,
)
from tests.storage.posting_contract import (
    DeleteTests,
    DeleteWithClaimsTests,
    GetTests,
    PagingTests,
    PopTests,
    PostingTests,
)
from tests.storage.sharing_contract import (
    ConcurrencyTests,
    NeighbourTests,
    RestartTests,
)
from tests.storage.store_case import (
    GRAVEYARD,
    ORDERS,
    RETURNS,
    START,
    UNKNOWN_ID,
    OpenStore,
    StoreTests,
    flat,
    ids_of,
)
from tests.storage.transfer_contract import RestoreTests, StoredTests

__all__ = [
    "CONCERNS",
    "GRAVEYARD",
    "ORDERS",
    "RETURNS",
    "START",
    "UNKNOWN_ID",
    "OpenStore",
    "StoreTests",
    "flat",
    "ids_of",
    "make_store_tests",
]

CONCERNS = (
    PostingTests,
    AlsoTests,
    AlsoAtOnceTests,
    AlsoSharedTests,
    PagingTests,
    GetTests,
    DeleteTests,
    DeleteWithClaimsTests,
    PopTests,
    ClaimTests,
    ExtensionTests,
    RenewalTests,
    ReleaseTests,
    UndeliveredTests,
    ExpiryTests,
    DelayTests,
    DeadLetterTests,
    StatsTests,
    ClearTests,
    IsolationTests,
    NextReadyTests,
    StoredTests,
    RestoreTests,
    StoredBytesTests,
    SweepTests,
    ConcurrencyTests,
    RestartTests,
    NeighbourTests,
)


def make_store_tests(
    name: str,
    open_store: OpenStore,
    skip: str | None = None,
    without: Collection[type] = (),
) -> dict[str, type[TestCase]]:
    """A test case for each concern, to be put among the globals of a test module.

    :param name: of the driver; the cases are called ``NAME_PostingTests`` and so on.
    :param open_store: a function of that test module, which the cases belong to.
    :param skip: why the driver cannot be tested here, if so.
    :param without: concerns that the driver does not meet.
    """
    cases: dict[str, type[TestCase]] = {}
    for concern in CONCERNS:
        if concern in without:
            continue
        title = f"{name}_{concern.__name__}"
        attributes: dict[str, Any] = {
            "open_store": staticmethod(open_store),
            "__module__": open_store.__module__,
            "__qualname__": title,
            "__doc__": concern.__doc__,
        }
        if skip is not None:
            attributes["skip"] = skip
        cases[title] = type(title, (concern, TestCase), attributes)
    return cases
