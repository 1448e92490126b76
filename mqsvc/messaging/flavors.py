"""Flavors: kinds of pools that queues can ask for (rest.md 5.31).

They are global like the pools: whoever may use the service may ask for any.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from attrs import frozen
from twisted.internet.defer import DeferredLock

from mqsvc.messaging import checks
from mqsvc.messaging.errors import FlavorDoesNotExist, InvalidBody, UnusableFlavor
from mqsvc.messaging.limits import Limits
from mqsvc.messaging.model import Flavor
from mqsvc.storage.interfaces import IManagementStore
