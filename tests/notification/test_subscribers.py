"""What right a subscriber is given."""

from __future__ import annotations

from typing import Any

from treq.client import HTTPClient
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.client import Agent

from mqsvc.access.keystone import ServiceUser
from mqsvc.messaging.errors import InvalidRequest
from mqsvc.messaging.model import Subscription
from mqsvc.notification.subscribers import ChannelSubscribers
from mqsvc.notification.trust import Trusts
from tests.notification.notices import subscription


class EntitleTests(SynchronousTestCase):
    """Subscribers that act for a user, where users can trust the service."""

    def entitled(self, trust_id: Any) -> Deferred[Subscription]:
        """Ask, without a token, for a subscription with something as its trust."""
        wanted = subscription("trust+http://a.example/", trust_id=trust_id)
        client = HTTPClient(Agent(Clock()))
        trustee = ServiceUser.by_password("service", "x", "Default", "s", "Default")
        trusts = Trusts("http://keystone.example/v3", trustee, client, Clock(), 30, 1)
        subscribers = ChannelSubscribers({}, trusts, None)
        return Deferred.fromCoroutine(subscribers.entitle(wanted, None))

    def test_own(self) -> None:
        """A trust that a client brings takes no token."""
        made = self.successResultOf(self.entitled("mine"))
        self.assertEqual("mine", made.options["trust_id"])

    def test_none(self) -> None:
        """Nothing, and what readers see in its place, is no trust."""
        for trust_id in (None, "", "***"):
            failure = self.failureResultOf(self.entitled(trust_id), InvalidRequest)
            self.assertIn("X-Auth-Token", failure.value.description)
