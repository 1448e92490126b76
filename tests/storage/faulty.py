"""A store that fails, for the layers above to show that they can bear it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, fail
from zope.interface import implementer

from mqsvc.messaging.errors import StoreUnavailable
from mqsvc.storage.interfaces import IManagementStore, IMessageStore


@implementer(IMessageStore, IManagementStore)
class FaultyStore(Service):
    """Fails every call at once, whichever kind of store it is taken for.

    :param error: makes what a call fails with.
    """

    def __init__(self, error: Callable[[], Exception] = StoreUnavailable) -> None:
        self._error = error

    def _fail(self, *args: Any, **kwargs: Any) -> Deferred[Any]:
        return fail(self._error())

    ping = sweep = _fail
    post = page = get = delete = pop = clear = stats = next_ready = _fail
    claim = get_claim = renew = release = stored = stored_bytes = restore = _fail
    create = update = count = records = _fail
    put_pool = pool = pools = delete_pool = _fail
    put_flavor = flavor = flavors = delete_flavor = _fail
    subscribe = subscription = subscriptions = update_subscription = _fail
    unsubscribe = unsubscribe_all = _fail
    begin_lease = renew_lease = end_lease = _fail
