"""What a whole tree shares: its root, its clock, its listeners, the exception it leaves with."""

from __future__ import annotations

from collections.abc import Callable
from threading import get_ident
from typing import TYPE_CHECKING, Any, cast

import trio

from .facts import Guard, Listen, Stream
from .incarnation import Incarnation
from .kept import Kept
from .member import Member
from .phases import Phase
from .shutdown import Shutdowns
from .slow import SlowStarts
from .timers import Alarm

if TYPE_CHECKING:
    from spry_py._spec.child import Child
    from spry_py._spec.termination import TerminationReport

    from .loop import Loop


class Tree:
    """One root supervisor with all that lives below it."""

    __slots__ = (
        "alarm",
        "clock",
        "exit_exception",
        "ground",
        "guard",
        "incarnation",
        "kept",
        "last_key",
        "now",
        "slow",
        "stream",
        "teller",
        "thread",
        "token",
    )

    def __init__(self, child: Child[Any], host: Incarnation | None, listen: Listen) -> None:
        self.alarm = Alarm()
        self.guard = Guard(self.exit)
        self.stream = Stream()
        self.teller = listen(self.stream, self.guard)
        self.token = trio.lowlevel.current_trio_token()
        # that of the run, while the root lives: a thread has one run at a time. So where it calls,
        # the run itself need not be asked; later, which would be another one, it has to be
        self.thread = get_ident()
        # readable from every thread, and after the run
        self.clock = trio.lowlevel.current_clock()
        # what `trio.current_time` returns, without the detour through the run
        self.now = self.clock.current_time
        self.slow = SlowStarts(self.alarm, self.now)
        self.exit_exception: BaseException | None = None
        self.kept = Kept()
        # the number in the last key that was made up
        self.last_key = 0
        self.ground = Ground(self, host)
        root = Member(cast("Loop", self.ground), child)
        # the only one that a root has
        self.incarnation = root.incarnation = Incarnation(root)
        root.move(Phase.STARTING)

    @property
    def root(self) -> Member | None:
        """The root while it runs. What has ended leads to no child: handles keep their root."""
        return self.incarnation.member

    def exit(self, exception: BaseException, loop: Loop | None = None) -> None:
        """Stop the root in order, since ``exception`` asks the program to end; the first counts.

        It has come out of a child of ``loop``, or of none. Each supervisor goes on serving until
        its turn comes, but those from there up to the root restart nothing any more: what they
        would begin now depends on who of all that wake in this tick comes first.
        """
        if self.exit_exception is None:
            self.exit_exception = exception
        while loop is not None and loop.path:
            loop.leave()
            assert loop.own.member is not None, "a supervisor ends after its children"
            loop = loop.own.member.loop
        self.incarnation.stop()

    def exit_of(self, loop: Loop) -> BaseException | None:
        """The exception that the root leaves with; nothing for the supervisors below it."""
        return self.exit_exception if loop.own is self.incarnation else None


class Ground:
    """What a root stands on, in the place where other supervisors have the loop above them."""

    path = ""
    is_stopping = False
    ends_when_empty = False

    def __init__(self, tree: Tree, host: Incarnation | None) -> None:
        self.tree = tree
        self.teller = tree.teller
        self.heard_by = tree.stream.heard_by
        # the child of another tree in whose code this one was opened
        self.own = host
        self.has_ended = False
        self.cancelled = False
        self.shutdowns = Shutdowns(cast("Loop", self))
        # called with the root's started value, of which it may keep a handle; gone with the root
        self.on_value: Callable[[Any], object]

    def queued(self, key: str) -> int:
        return 0

    def restart_at(self, member: Member) -> float | None:
        return None

    def waits_for(self, incarnation: Incarnation) -> bool:
        """The host waits for its own tree: it is assumed, as nothing shows whether it does."""
        return True

    def on_started(self, member: Member, incarnation: Incarnation) -> None:
        self.on_value(incarnation.value)

    def on_ended(self, member: Member, incarnation: Incarnation, report: TerminationReport) -> bool:
        self.shutdowns.forget(incarnation)
        self.has_ended = True
        self.tree.thread = 0
        self.tree.kept.let_go(with_tree=True)
        self.teller.tree_ended()
        del self.on_value
        member.forget_value()
        member.move(Phase.STOPPED)
        return False
