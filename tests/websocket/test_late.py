"""The WebSocket API, made when somebody asks for it."""

from __future__ import annotations

from twisted.internet.interfaces import IAddress, IProtocolNegotiationFactory
from twisted.internet.protocol import Protocol
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from mqsvc.websocket.late import LateFactory


class Counted:
    """Makes connections that nobody closes.

    :ivar connections: how many.
    """

    def __init__(self) -> None:
        self.connections = 0
        self.is_stopped = False

    def buildProtocol(self, addr: IAddress | None) -> Protocol:
        """One more."""
        self.connections += 1
        return Protocol()

    def in_flight(self) -> int:
        """All of them."""
        return self.connections

    def stopFactory(self) -> None:
        """Take note."""
        self.is_stopped = True


class LateFactoryTests(SynchronousTestCase):
    """When it is made, and what it is asked."""

    def setUp(self) -> None:
        """Keep what is made."""
        self.made: list[Counted] = []
        self.late = LateFactory(self.make)

    def make(self) -> Counted:
        """Make it once more."""
        self.made.append(Counted())
        return self.made[-1]

    def test_unused(self) -> None:
        """Without a client nothing is made, and there is nothing to stop."""
        self.assertEqual(0, self.late.in_flight())
        self.late.stopFactory()
        self.assertEqual([], self.made)

    def test_used(self) -> None:
        """The first client has it made, for all."""
        self.late.buildProtocol(None)
        self.late.buildProtocol(None)
        self.assertEqual([2], [made.connections for made in self.made])
        self.assertEqual(2, self.late.in_flight())

    def test_stopped(self) -> None:
        """What was made is stopped with it."""
        self.late.buildProtocol(None)
        self.late.stopFactory()
        self.assertTrue(self.made[0].is_stopped)

    def test_too_late(self) -> None:
        """Who comes first when the service stops already is not let in."""
        self.late.stopFactory()
        self.assertIsNone(self.late.buildProtocol(None))
        self.assertEqual([], self.made)

    def test_choice(self) -> None:
        """Clients that choose a protocol while they set up TLS are told one."""
        self.assertTrue(verifyObject(IProtocolNegotiationFactory, self.late))
        self.assertEqual([b"http/1.1"], self.late.acceptableProtocols())
