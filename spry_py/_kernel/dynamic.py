"""`DynamicSupervisor`: children that come and go, each on its own."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any

import trio

from spry_py._policy.breaker import RateLimited
from spry_py._policy.restart import Verdict
from spry_py._spec.check import check_breaker, check_count, check_key
from spry_py._spec.child import Child, check_defaults
from spry_py._spec.errors import Interrupted, MaxChildrenReached, SupervisorStopped
from spry_py._spec.frozen import are_same
from spry_py._spec.naming import program_name
from spry_py._spec.options import BreakerFactory, ChildOptions, OnConflict

from .calls import Call, Calls
from .loop import Loop
from .mailbox import MOST_IN_A_ROW
from .messages import Replace, Request, Start
from .phases import Phase, Then
from .root import Rooted, T_co

if TYPE_CHECKING:
    from spry_py._spec.termination import TerminationReport

    from .facts import Cause, Incident
    from .incarnation import Incarnation
    from .member import Member


class DynamicSupervisor(Rooted[T_co]):
    """The kernel's part of the public class of that name."""

    __slots__ = ("breaker", "defaults", "max_children", "max_queued", "max_running", "name")

    def __init__(
        self,
        *,
        name: str | None = None,
        max_children: float = math.inf,
        max_running: float = math.inf,
        max_queued: float = 1024,
        breaker: BreakerFactory = RateLimited(),  # noqa: B008 - frozen
        defaults: ChildOptions | None = None,
    ) -> None:
        owner = "DynamicSupervisor"
        if name is not None:
            check_key(owner, "name", name)
        check_count(owner, "max_children", max_children, infinite=True)
        check_count(owner, "max_running", max_running, infinite=True)
        check_count(owner, "max_queued", max_queued, infinite=True)
        if max_running < 1:
            raise ValueError(f"{owner}: max_running must be 1 or more, not {max_running!r}")
        check_breaker(owner, breaker)
        self.name: str = name or program_name()
        self.max_children: float = max_children
        self.max_running: float = max_running
        self.max_queued: float = max_queued
        self.breaker: BreakerFactory = breaker
        self.defaults: ChildOptions = check_defaults(owner, defaults)

    def live_as_child(self, incarnation: Any) -> Awaitable[None]:
        """Run as one incarnation of a child of another supervisor, or of a root."""
        member = incarnation.member
        assert member is not None
        loop = DynamicLoop(self, incarnation)
        member.supervise(loop)
        return loop.run(lambda: incarnation.started(self.handle_of(member)))

    def _fields(self) -> tuple[object, ...]:
        limits = self.max_children, self.max_running, self.max_queued
        return self.name, *limits, self.breaker, self.defaults

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, DynamicSupervisor):
            return NotImplemented
        return are_same(self._fields(), other._fields())

    def __hash__(self) -> int:
        return hash((self.name, self.max_children, self.max_running))

    def __repr__(self) -> str:
        return (
            f"DynamicSupervisor(name={self.name!r}, max_children={self.max_children!r}, "
            f"max_running={self.max_running!r})"
        )


class DynamicLoop(Loop):
    """One incarnation of a `DynamicSupervisor`."""

    strategy = "one_for_one"

    def __init__(self, supervisor: DynamicSupervisor[Any], own: Incarnation) -> None:
        super().__init__(own)
        self.breaker_factory = supervisor.breaker
        self.defaults = supervisor.defaults
        self.max_children = supervisor.max_children
        self.max_queued = supervisor.max_queued
        self.calls = self._admission = Admission(self)
        self._max_running = supervisor.max_running
        self._running = 0
        self._line: dict[Member, None] = {}
        # those that have failed to start, and keep their place for another try
        self._kept: set[Member] = set()

    async def boot(self) -> None:
        """Nothing is declared."""

    def replay(self, call: Call) -> None:
        raise TypeError(
            f"{self.path!r} is a DynamicSupervisor: it has no system that could declare its "
            "children again; start and terminate them one by one"
        )

    def check_significant(self, child: Child[Any]) -> None:
        raise ValueError(
            f"{self.path}: significant must be False for child {child.key!r}: the end of a child "
            "never ends a DynamicSupervisor"
        )

    # Who may run

    def begin(self, member: Member, part_of: Cause = (), then: Then = Then.DECIDE) -> None:
        """Begin the next incarnation, or let it wait for its turn."""
        if self._running < self._max_running and not self._line:
            self._begin_now(member, part_of, then)
        else:
            member.move(Phase.WAITING)
            self._line[member] = None

    def begin_again(self, member: Member) -> None:
        self._kept.discard(member)
        super().begin(member)

    def keep_place(self, member: Member) -> None:
        self._kept.add(member)

    def _begin_now(self, member: Member, part_of: Cause = (), then: Then = Then.DECIDE) -> None:
        self._running += 1
        super().begin(member, part_of, then)

    def on_ended(self, member: Member, incarnation: Incarnation, report: TerminationReport) -> bool:
        wants_hook = super().on_ended(member, incarnation, report)
        if member not in self._kept:
            self._running -= 1
            self._let_in()
        return wants_hook

    def _let_in(self) -> None:
        while self._line and self._running < self._max_running and not self.is_stopping:
            member = next(iter(self._line))
            del self._line[member]
            self._begin_now(member)

    # Who is forgotten

    def shut(self, member: Member) -> None:
        self._line.pop(member, None)
        super().shut(member)
        if member in self._kept:
            self._kept.discard(member)
            self._running -= 1
            self._let_in()

    def conclude(self, member: Member, verdict: Verdict, incident: Incident | None) -> None:
        super().conclude(member, verdict, incident)
        self._forget(member)

    def down(self, member: Member, forget: bool) -> None:
        super().down(member, forget=True)
        self._forget(member)

    def leave_out(self, member: Member) -> None:
        super().leave_out(member)
        self._forget(member)

    def _forget(self, member: Member) -> None:
        self.members.remove(member)
        self.forget(member)
        self._admission.next_for(member.key)

    # Stopping

    async def stop_children(self) -> None:
        """All at the same time, each in its own time."""
        members = list(self.members)
        for number, member in enumerate(members, 1):
            incarnation = member.incarnation
            if incarnation is not None and incarnation.member is not None:
                self.shutdowns.ask(member, incarnation, self.ending_for)
            if member.phase is Phase.PARTING:
                self.shutdowns.cancel_hook(self.hooks[member])
            if number % MOST_IN_A_ROW == 0:
                await trio.lowlevel.cancel_shielded_checkpoint()
        for number, member in enumerate(members, 1):
            await self.shutdowns.one(member, self.ending_for)
            self.shut(member)
            if number % MOST_IN_A_ROW == 0:
                await trio.lowlevel.cancel_shielded_checkpoint()

    def withdraw(self, call: Call) -> None:
        self._admission.withdraw(call)

    def queued(self, key: str) -> int:
        return self._admission.queued(key)


class Admission(Calls):
    """The calls of a dynamic supervisor: who is admitted under a key that is taken."""

    __slots__ = ("_queues",)

    def __init__(self, loop: DynamicLoop) -> None:
        super().__init__(loop)
        self._queues: dict[str, deque[Call]] = {}

    @property
    def _dynamic(self) -> DynamicLoop:
        loop = self.loop
        assert isinstance(loop, DynamicLoop)
        return loop

    def check_conflict(self, on_conflict: OnConflict) -> None:
        """It can do all that there is."""

    async def do(self, call: Call, request: Request) -> None:
        if isinstance(request, Replace):
            known = self.loop.members.get(request.child.key)
            if known is None:
                self._admit(call, request.child)
            else:
                await self._replace(call, known)
        else:
            await super().do(call, request)

    def start(self, call: Call, request: Start) -> None:
        child = request.child
        known = self.loop.members.get(child.key)
        if known is None:
            self._admit(call, child)
        elif request.on_conflict == "raise":
            self.refuse_known(known)
        elif request.on_conflict == "ignore":
            call.give(known)
        else:
            self._queue(call, child.key)

    def _queue(self, call: Call, key: str) -> None:
        queue = self._queues.setdefault(key, deque())
        most = self._dynamic.max_queued
        if len(queue) >= most:
            raise MaxChildrenReached(
                f"{self.loop.path!r}: {len(queue)} starts wait for the key {key!r} "
                f"already (max_queued={most})"
            )
        queue.append(call)

    async def _replace(self, call: Call, known: Member) -> None:
        for other in self._queues.pop(known.key, ()):
            other.refuse(Interrupted(f"{known.path!r} was replaced by another call"))
        self._queues[known.key] = deque([call])
        incarnation = known.incarnation
        if known.phase.is_alive and incarnation is not None:
            self.loop.shutdowns.ask(known, incarnation, "call", (call,))
            incarnation.follow(Then.DOWN)
        else:
            await self.take_down(known)

    def _admit(self, call: Call, child: Child[Any]) -> None:
        loop = self._dynamic
        if len(loop.members) >= loop.max_children:
            raise MaxChildrenReached(
                f"{loop.path!r} has {len(loop.members)} children and may not have more "
                f"(max_children={loop.max_children})"
            )
        self.begin_new(child, call)

    def next_for(self, key: str) -> None:
        """A key is free: admit the next call that has queued for it."""
        loop = self._dynamic
        queue = self._queues.get(key)
        while queue and not loop.is_stopping and loop.members.get(key) is None:
            # the one that is gone has left room: max_children needs no second look
            call = queue.popleft()
            assert isinstance(call.request, Start | Replace)
            self.begin_new(call.request.child, call)
        if not queue:
            self._queues.pop(key, None)

    def withdraw(self, call: Call) -> None:
        """Its caller has gone."""
        call.give()
        request = call.request
        if isinstance(request, Start | Replace):
            queue = self._queues.get(request.child.key)
            if queue is not None and call in queue:
                queue.remove(call)

    def queued(self, key: str) -> int:
        """How many starts wait for a key. May be called from any thread."""
        queue = self._queues.get(key)
        return len(queue) if queue is not None else 0

    def refuse_all(self) -> None:
        super().refuse_all()
        for queue in self._queues.values():
            for call in queue:
                call.refuse(SupervisorStopped(f"{self.loop.path!r} is being stopped"))
        self._queues.clear()
