"""Who may begin when several projects want to."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mqsvc.access.turns import ALONE, SHARED, SHARED_SECONDS, Turns


class TurnsTests(SynchronousTestCase):
    """Requests of a loud project and of quiet ones."""

    def setUp(self) -> None:
        """Begin with nobody there."""
        self.clock = Clock()
        self.turns = Turns(self.clock)
        self.begun: list[str] = []

    def arrive(self, project: str) -> Deferred[None] | None:
        """A request comes; gives what it waits for, if it has to."""
        if self.turns.may_begin(project):
            self.begun.append(project)
            return None
        waiting = self.turns.wait(project)
        waiting.addCallback(lambda _: self.begun.append(project))
        waiting.addErrback(lambda _: None)
        return waiting

    def look(self) -> list[str]:
        """The reactor has looked at its connections: who began since."""
        self.begun.clear()
        # A reactor leaves calls that are made now for its next round, a Clock does not.
        for call in self.clock.getDelayedCalls():
            serve = call.func
            call.cancel()
            serve()
        return list(self.begun)

    def test_alone(self) -> None:
        """Nobody waits while few requests come at a time."""
        for _ in range(100):
            self.assertIsNone(self.arrive("p"))
            self.turns.leave("p")
            self.look()

    def test_flood(self) -> None:
        """Of a flood only so many begin at once, and the rest in turn."""
        for _ in range(ALONE.starts + 5):
            self.arrive("loud")
        self.assertEqual(self.begun, ["loud"] * ALONE.starts)
        self.assertEqual(self.look(), ["loud"] * 5)

    def test_quiet_among_loud(self) -> None:
        """A request of a quiet project begins at the next look, before the flood."""
        for _ in range(1000):
            self.arrive("loud")
        self.arrive("quiet")
        for _ in range(ALONE.starts):
            self.turns.leave("loud")
        begun = [project for _ in range(3) for project in self.look()]
        self.assertEqual(begun[:3], ["loud", "quiet", "loud"])

    def test_in_turn(self) -> None:
        """Busy projects begin one request each, again and again."""
        for project in ("a", "b", "c"):
            for _ in range(3):
                self.arrive(project)
        begun = [*self.begun]
        while looked := self.look():
            self.assertLessEqual(len(looked), SHARED.starts)
            for project in looked:
                self.turns.leave(project)
            begun += looked
        self.assertEqual("".join(begun), "aaabcbcbc")

    def test_running_bound(self) -> None:
        """A project with too many under way waits for one of them to end."""
        for _ in range(ALONE.running + 2):
            self.arrive("loud")
            self.look()
        self.assertEqual(self.look(), [])
        self.turns.leave("loud")
        self.assertEqual(self.look(), ["loud"])

    def test_running_beside_others(self) -> None:
        """Beside another project one has few under way, and many again without it."""
        self.arrive("quiet")
        self.look()
        for _ in range(ALONE.running):
            self.arrive("loud")
        begun = [*self.begun]
        while looked := self.look():
            begun += looked
        self.assertEqual(begun.count("loud"), SHARED.running)
        self.clock.advance(SHARED_SECONDS)
        self.turns.leave("loud")
        begun = []
        while looked := self.look():
            begun += looked
        self.assertEqual(len(begun), ALONE.running - SHARED.running)

    def test_quiet_while_loud_is_at_its_bound(self) -> None:
        """Who has nothing under way begins at once."""
        for _ in range(ALONE.running + 2):
            self.arrive("loud")
            self.look()
        self.look()
        self.assertIsNone(self.arrive("quiet"))

    def test_give_up(self) -> None:
        """Who hangs up while waiting leaves the line and begins nothing."""
        for _ in range(ALONE.starts):
            self.arrive("loud")
        waiting = [self.arrive("loud") for _ in range(3)]
        for one in waiting[:2]:
            assert one is not None
            one.cancel()
        self.assertEqual(self.look(), ["loud"])

    def test_last_gives_up(self) -> None:
        """A line that everybody left holds nobody up."""
        for _ in range(ALONE.starts):
            self.arrive("loud")
        one = self.arrive("loud")
        assert one is not None
        one.cancel()
        self.assertEqual(self.look(), [])
        self.assertIsNone(self.arrive("loud"))

    def test_finish(self) -> None:
        """At the end everybody begins, and no call stays behind."""
        for _ in range(ALONE.starts + 3):
            self.arrive("loud")
        self.begun.clear()
        self.turns.finish()
        self.assertEqual(self.begun, ["loud"] * 3)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_leave_after_finish(self) -> None:
        """Who began at the end is counted until it leaves, as everybody is."""
        for _ in range(ALONE.starts + 3):
            self.arrive("loud")
        self.turns.finish()
        for _ in range(ALONE.starts + 3):
            self.turns.leave("loud")
        self.assertRaises(KeyError, self.turns.leave, "loud")

    def test_done_at_once_at_the_end(self) -> None:
        """At the end a request may be over as soon as it begins, and another come."""
        done = []
        for project in ("a", "b"):
            waiting = self.turns.wait(project)
            waiting.addCallback(lambda _, project=project: self.turns.leave(project))
            waiting.addCallback(lambda _: self.arrive("c"))
            done.append(waiting)
        self.turns.finish()
        for one in done:
            self.successResultOf(one)
        self.assertEqual(self.begun, ["c", "c"])
        self.assertEqual(self.clock.getDelayedCalls(), [])
