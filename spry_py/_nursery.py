"""The children of one supervisor, in start order, each incarnation a task in its own cancel scope.

A `Member` is a key of one supervisor incarnation; it outlives the incarnations of its child. An
`Incarnation` is one run: it hands its end to the member's supervisor and then lets go of it, so that
a traceback kept by a report never keeps the tree alive.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import chain
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias
from weakref import WeakSet

import trio

from ._child import Child, Kind
from ._context import current_incarnation
from ._run_child import LateStart, live
from ._termination import Burden, Reason, TerminationReport

if TYPE_CHECKING:
    from ._breaker import Breaker
    from ._loop import Loop

Status: TypeAlias = Literal[
    "starting", "running", "stopping", "restarting", "waiting", "ignored", "done", "stopped"
]


class Listener:
    """What an incarnation has that wants to be asked before it is aborted."""

    __slots__ = ("asked", "roots", "scopes", "stopping")

    def __init__(self) -> None:
        self.asked = trio.Event()
        self.scopes: WeakSet[trio.CancelScope] = WeakSet()
        # trees opened in the child's own code
        self.roots: list[Incarnation] = []
        # calls of stop() that this very child is waiting in: it cannot listen meanwhile
        self.stopping = 0


class Incarnation:
    """One run of a key; also the ``task_status`` that its start function is given."""

    __slots__ = (
        "awaited",
        "beat_by",
        "burden",
        "cause",
        "listener",
        "member",
        "number",
        "run_until",
        "scope",
        "span",
        "started_at",
        "task",
        "value",
        "wait_span",
        "where",
    )

    def __init__(self, member: Member, deadline: float) -> None:
        self.member: Member | None = member
        self.number = member.number
        self.scope = trio.CancelScope(deadline=deadline)
        self.started_at: float | None = None
        self.value: Any = None
        self.burden: Burden = "none"
        # why it was cancelled, when that makes it failed
        self.cause: Exception | None = None
        # somebody waits for the next thing to happen and will decide about it; the loop must not
        self.awaited = False
        self.listener: Listener | None = None
        self.task: trio.lowlevel.Task | None = None
        self.run_until = self.beat_by = math.inf
        self.where: tuple[str, str] | None = None
        self.span: Any = None
        self.wait_span: Any = None

    @property
    def ended(self) -> bool:
        return self.member is None

    @property
    def key(self) -> str:
        return self.member.key if self.member is not None else self.where[0]  # type: ignore[index]

    @property
    def path(self) -> str:
        return self.member.path if self.member is not None else self.where[1]  # type: ignore[index]

    @property
    def inner(self) -> Loop | None:
        """The loop of a child supervisor, while this is the incarnation that runs it."""
        inner = self.member.inner if self.member is not None else None
        return inner if inner is not None and inner.own is self else None

    # What the child's own code says

    @trio.lowlevel.enable_ki_protection
    def started(self, value: Any = None) -> None:
        """Say that the child is up; ``value`` goes to whoever started it.

        Raises `RuntimeError` if the child has said so before, or after its start was cancelled.
        """
        member = self.member
        if self.started_at is not None:
            raise RuntimeError(f"child {self.path!r} called task_status.started() twice")
        if member is None:
            raise RuntimeError(f"child {self.path!r} called task_status.started() after its end")
        if self.scope.cancel_called:
            raise LateStart(
                f"child {self.path!r} called task_status.started() after its start was cancelled; "
                "let trio.Cancelled pass (clean up in a finally block) instead of going on"
            )
        self.value = value
        self.started_at = now = trio.current_time()
        child = member.child
        if child.start_timeout < math.inf or child.run_timeout < math.inf:
            self.run_until = now + child.run_timeout
            self.scope.deadline = self.run_until if self.burden == "none" else math.inf
        member.loop.on_started(member, self)

    def listen(self) -> Listener:
        """From now on the child is asked to settle before it is aborted."""
        if self.listener is None:
            self.listener = Listener()
            if self.burden != "none":
                self.listener.asked.set()
        return self.listener

    @property
    def is_listening(self) -> bool:
        return self.inner is not None or self._would_hear

    @property
    def _would_hear(self) -> bool:
        return self.listener is not None and not self.listener.stopping

    def beat(self) -> None:
        member = self.member
        if member is None or member.child.heartbeat == math.inf or self.burden != "none":
            return
        self.beat_by = trio.current_time() + member.child.heartbeat
        if self.started_at is not None:
            self.scope.deadline = min(self.run_until, self.beat_by)

    def fail(self, cause: Exception) -> None:
        """Cancel the child; it ends failed with ``cause`` whatever it makes of that."""
        if self.member is not None and self.cause is None:
            self.cause = cause
            self.cancel()

    def call_soon(self, function: Callable[..., object], *args: object) -> None:
        """Call now if this is trio's thread, soon if it is another one, never after the end."""
        member = self.member
        if member is None:
            return
        token = member.loop.tree.token
        try:
            here = trio.lowlevel.current_trio_token() is token
        except RuntimeError:
            here = False
        if here:
            function(*args)
        else:
            token.run_sync_soon(function, *args)

    # What its supervisor does to it

    def settle(self) -> None:
        """Ask the child to finish; its own time limits no longer count."""
        self.burden = "settling"
        if self.scope.deadline < math.inf:
            self.scope.deadline = math.inf
        if self.inner is not None:
            self.inner.request_stop()
        if self.listener is not None:
            self.listener.asked.set()
            for scope in list(self.listener.scopes):
                scope.cancel(reason="the child is settling")
            for root in self.listener.roots:
                root.stop()

    def stop(self) -> None:
        """Ask it to finish, unless that has been done."""
        if self.burden == "none":
            self.settle()

    def abort(self) -> None:
        """Cancel the child, and with it all that lives below it."""
        self.burden = "aborted"
        self.cancel()

    def cancel(self) -> None:
        """Cancel the child's scope, and with it all that lives below it."""
        if self.inner is not None:
            abort_below(self.inner)
        if self.listener is not None:
            for root in self.listener.roots:
                root.abort()
        self.scope.cancel()


class Member:
    """A key of one supervisor incarnation, over all incarnations of its child."""

    __slots__ = (
        "attempt",
        "breaker",
        "child",
        "in_a_row",
        "incarnation",
        "inner",
        "last_report",
        "loop",
        "number",
        "restarts",
        "start_span",
        "state",
        "undecided",
        "watchers",
    )

    def __init__(self, loop: Loop, child: Child[Any]) -> None:
        self.loop = loop
        self.child = child
        self.incarnation: Incarnation | None = None
        self.number = 0
        self.restarts = 0
        self.in_a_row = 0
        # what it is while no incarnation is alive
        self.state: Status = "starting"
        # it has ended, and nobody has decided yet what becomes of it
        self.undecided = False
        self.last_report: TerminationReport | None = None
        self.breaker: Breaker | None = None
        self.inner: Loop | None = None
        self.watchers: trio.lowlevel.ParkingLot | None = None
        # telemetry's: the restart under way, and the start of the last incarnation
        self.attempt: Any = None
        self.start_span: Any = None

    @property
    def key(self) -> str:
        return self.child.key

    @property
    def path(self) -> str:
        above = self.loop.path
        return f"{above}/{self.child.key}" if above else self.child.key

    @property
    def kind(self) -> Kind:
        return self.child.kind

    @property
    def is_alive(self) -> bool:
        incarnation = self.incarnation
        return incarnation is not None and incarnation.member is not None

    @property
    def status(self) -> Status:
        """The status word of design and documentation."""
        incarnation = self.incarnation
        if incarnation is None or incarnation.ended:
            return self.state
        if incarnation.burden != "none" or incarnation.cause is not None:
            return "stopping"
        if incarnation.started_at is None:
            return "starting"
        inner = incarnation.inner
        return "stopping" if inner is not None and inner.is_stopping else "running"

    @property
    def value(self) -> Any:
        """The started value of the living incarnation."""
        return self.incarnation.value if self.is_alive and self.incarnation is not None else None

    @property
    def is_final(self) -> bool:
        """Whether it has ended for good, as far as this supervisor incarnation goes."""
        if self.is_alive or self.undecided:
            return False
        return self.state in FINAL or self.loop.has_ended

    def tell_watchers(self) -> None:
        if self.watchers is not None:
            self.watchers.unpark_all()

    async def watch(self) -> None:
        """Wait until something has happened to this member."""
        if self.watchers is None:
            self.watchers = trio.lowlevel.ParkingLot()
        await self.watchers.park()

    def spawn(self, nursery: trio.Nursery) -> Incarnation:
        """Begin the next incarnation; the former one must have ended."""
        assert not self.is_alive, f"two incarnations of {self.path!r} would overlap"
        self.number += 1
        self.state = "starting"
        child = self.child
        deadline = math.inf
        if child.start_timeout < math.inf:
            deadline = trio.current_time() + child.start_timeout
        self.incarnation = incarnation = Incarnation(self, deadline)
        teller = self.loop.teller
        teller.child_starting(self, incarnation)
        if teller.is_in_span():
            with teller.clean_context():
                nursery.start_soon(live, incarnation, name=child.key)
        else:
            nursery.start_soon(live, incarnation, name=child.key)
        return incarnation

    def close(self, incarnation: Incarnation, reason: Reason) -> bool:
        """Write down the end of an incarnation and hand it to the supervisor.

        Answers whether ``on_termination`` is to run before the supervisor decides.
        """
        path = self.path
        report = TerminationReport(
            self.key,
            path,
            incarnation.number,
            reason,
            incarnation.burden,
            incarnation.started_at,
            trio.current_time(),
        )
        incarnation.where = (self.key, path)
        incarnation.member = incarnation.task = None
        self.last_report = report
        self.state = "stopping" if incarnation.burden != "none" else "restarting"
        return self.loop.on_ended(self, incarnation, report)


FINAL: Final = frozenset(("done", "stopped", "ignored"))


class Members:
    """The members of one supervisor incarnation: declared ones first, then those added later."""

    __slots__ = ("added", "declared", "gone")

    def __init__(self) -> None:
        self.declared: dict[str, Member] = {}
        self.added: dict[str, Member] = {}
        # keys that a replay leaves out: temporary and spent, or deleted
        self.gone: set[str] = set()

    def __iter__(self) -> Iterator[Member]:
        return chain(self.declared.values(), self.added.values())

    def __reversed__(self) -> Iterator[Member]:
        return chain(reversed(self.declared.values()), reversed(self.added.values()))

    def __len__(self) -> int:
        return len(self.declared) + len(self.added)

    def get(self, key: str) -> Member | None:
        return self.declared.get(key) or self.added.get(key)

    def drop(self, member: Member) -> None:
        """Forget a member altogether; a replay that declares its key leaves it out."""
        for group in (self.declared, self.added):
            if group.get(member.key) is member:
                del group[member.key]
                self.gone.add(member.key)


def living_below(loop: Loop) -> Iterator[Incarnation]:
    """All living incarnations of a supervisor's subtree; a loop, for trees may be deep."""
    pending = [loop]
    while pending:
        for member in pending.pop().members:
            incarnation = member.incarnation
            if incarnation is not None and not incarnation.ended:
                yield incarnation
                if incarnation.inner is not None:
                    pending.append(incarnation.inner)


def abort_below(loop: Loop) -> None:
    """Mark a subtree that is being cancelled whole, and abort the trees opened in its children."""
    for incarnation in living_below(loop):
        incarnation.burden = "aborted"
        if incarnation.listener is not None:
            for root in incarnation.listener.roots:
                root.abort()


def caller_inside(loop: Loop) -> Incarnation | None:
    """The calling child, if it lives below ``loop``."""
    incarnation = caller = current_incarnation()
    while incarnation is not None and incarnation.member is not None:
        above = incarnation.member.loop
        if above is loop:
            return caller
        incarnation = above.own
    return None
