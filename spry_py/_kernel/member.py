"""The children of one supervisor, in start order, each incarnation a task in its own cancel scope.

A `Member` is a key of one supervisor incarnation; it outlives the incarnations of its child.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from itertools import chain, islice
from time import time
from typing import TYPE_CHECKING, Any, Final

import trio

from spry_py._policy.restart import pause_before_restart
from spry_py._spec.child import Child
from spry_py._spec.errors import ChildFailure, Ignore, Interrupted, is_exit, sole_leaf_of
from spry_py._spec.options import Kind
from spry_py._spec.termination import Failed, Reason, TerminationReport

from .here import refuse_elsewhere
from .messages import Emptied
from .phases import MOVES, Phase, Status

if TYPE_CHECKING:
    from spry_py._spec.options import Breaker

    from .facts import Incident
    from .incarnation import Incarnation
    from .loop import Loop


class Past:
    """What is counted of a key's incarnations, and the breaker that counts as well.

    Most children have none: they never fail, and are never restarted.
    """

    __slots__ = ("breaker", "by_hand", "failures", "in_a_row", "restarts")

    def __init__(self) -> None:
        self.breaker: Breaker | None = None
        self.restarts = 0
        self.in_a_row = 0
        # ends that failed, and restarts that callers asked for; by `close`, and by who serves them
        self.failures = self.by_hand = 0


# that of all members without one of their own: nothing is ever written there
_NO_PAST: Final = Past()


class Member:
    """A key of one supervisor incarnation, over all incarnations of its child."""

    __slots__ = (
        "__weakref__",
        "below",
        "child",
        "incarnation",
        "incident",
        "inner",
        "key",
        "last_report",
        "loop",
        "past",
        "phase",
        "watchers",
    )

    def __init__(self, loop: Loop, child: Child[Any]) -> None:
        self.loop = loop
        self.key = child.key
        # of that key; another one where a replay or a reload declares that
        self.child = child
        self.incarnation: Incarnation | None = None
        # written by `move` and `put_back` alone
        self.phase = Phase.NEW
        # to be read; `remember` returns what may be written to
        self.past = _NO_PAST
        self.last_report: TerminationReport | None = None
        # of the last incarnation that was one of a supervisor, until one of a worker begins: by
        # what runs in its task, and by `Loop.begin`
        self.inner: Loop | None = None
        # its children; they stay when its loop has ended, which then leads to none of them
        self.below: Members | None = None
        self.watchers: trio.lowlevel.ParkingLot | None = None
        # the restart under way of this child alone
        self.incident: Incident | None = None

    @property
    def path(self) -> str:
        above = self.loop.path
        return f"{above}/{self.key}" if above else self.key

    @property
    def number(self) -> int:
        """That of the last incarnation; 0 if there is none yet."""
        return self.incarnation.number if self.incarnation is not None else 0

    @property
    def restarts(self) -> int:
        return self.past.restarts

    def supervise(self, inner: Loop) -> None:
        """An incarnation of a supervisor begins."""
        self.inner, self.below = inner, inner.members

    def remember(self) -> Past:
        """Its past, to write there."""
        if self.past is _NO_PAST:
            self.past = Past()
        return self.past

    @property
    def kind(self) -> Kind:
        return self.child.kind

    @property
    def is_declared(self) -> bool:
        """Whether a system has declared it."""
        return self.loop.members.declared.get(self.key) is self

    @property
    def status(self) -> Status:
        """The status word that callers see; docs/glossary.md lists them."""
        # read once: in another thread it may change at any time
        phase, incarnation = self.phase, self.incarnation
        if incarnation is None or incarnation.ended or not phase.is_alive:
            return phase.word
        if incarnation.cause is not None or incarnation.is_cancelled or incarnation.limit_is_over:
            return "stopping"
        inner = incarnation.inner if phase is Phase.RUNNING else None
        return "stopping" if inner is not None and inner.is_stopping else phase.word

    @property
    def value(self) -> Any:
        """The started value of the living incarnation."""
        incarnation = self.incarnation
        if incarnation is None:
            return None
        # read first: what ends it lets go of its value afterwards
        value = incarnation.value
        return None if incarnation.ended else value

    @property
    def was_ignored(self) -> bool:
        """Whether the last start raised `Ignore`."""
        exception = self.last_report.exception if self.last_report is not None else None
        return exception is not None and isinstance(sole_leaf_of(exception), Ignore)

    def move(self, phase: Phase) -> None:
        """Take it from its phase to the next one."""
        before = self.phase
        if phase is not before:
            assert phase in MOVES[before], f"{self.path!r} cannot go from {before} to {phase}"
            self.phase = phase
            if phase.is_final and self.loop.ends_when_empty:
                self.loop.post(Emptied())
        if self.watchers is not None:
            self.watchers.unpark_all()

    def put_back(self, phase: Phase) -> None:
        """It was tried in vain, by a reload that has changed nothing: it is what it was before."""
        assert not self.phase.is_alive
        self.phase = phase
        if self.watchers is not None:
            self.watchers.unpark_all()

    def forget_value(self) -> None:
        """Let go of what the last incarnation was started with; a traceback may hold on to it."""
        incarnation = self.incarnation
        if incarnation is not None and incarnation.member is None:
            incarnation.value = None

    def start_error(self, problem: Exception | None = None) -> BaseException:
        """What a start that came to nothing raises out of the call that waits for it.

        ``problem`` is what kept it from being tried again, if that went wrong as well.
        """
        cause = self.last_report.exception if self.last_report is not None else None
        cause = cause if problem is None else problem
        if cause is not None and is_exit(cause):
            return Interrupted(f"the start of {self.path!r} was interrupted: the program is ending")
        failure = ChildFailure(self.key, self.path)
        failure.__cause__ = cause
        return failure

    async def watch(self) -> None:
        """Wait until something has happened to this member."""
        refuse_elsewhere(self.loop.tree.token, f"a wait for {self.path!r}")
        if self.watchers is None:
            self.watchers = trio.lowlevel.ParkingLot()
        await self.watchers.park()

    def next_delay(self) -> float:
        """Count one more restart in a row; returns how long to wait before it.

        Runs the user's ``backoff``; what it raises comes out.
        """
        report = self.last_report
        assert report is not None
        self.loop.about = self
        past = self.remember()
        past.in_a_row, delay = pause_before_restart(self.child, past.in_a_row, report)
        return delay

    def close(self, incarnation: Incarnation, reason: Reason) -> bool:
        """Write down the end of an incarnation and hand it to the supervisor.

        Returns whether ``on_termination`` is to run before the supervisor decides.
        """
        path = self.path
        report = TerminationReport(
            self.key,
            path,
            incarnation.number,
            reason,
            incarnation.burden,
            incarnation.started_at,
            self.loop.tree.now(),
            time(),
        )
        incarnation.where = self.key, path, self.loop.teller.inject_here
        # not asked of the report, which would look for leaves: restarts are many
        if isinstance(reason, Failed) and not isinstance(reason.exception, Ignore):
            self.remember().failures += incarnation.burden == "none" or report.failed
        # the end itself comes last, for those that read in other threads
        self.last_report = report
        if incarnation.burden != "none":
            self.move(Phase.HALTED)
        else:
            self.move(Phase.FAILED if incarnation.then else Phase.ENDED)
        incarnation.member = incarnation.task = incarnation.steps = None
        incarnation.more_stacks = ()
        return self.loop.on_ended(self, incarnation, report)


class Members:
    """The members of one supervisor incarnation: declared ones first, then those added later."""

    __slots__ = ("_on_forgotten", "added", "declared", "gone")

    def __init__(self, on_forgotten: Callable[[Member], object]) -> None:
        self._on_forgotten = on_forgotten
        self.declared: dict[str, Member] = {}
        self.added: dict[str, Member] = {}
        # keys that a replay leaves out: temporary and spent, or deleted
        self.gone: set[str] = set()

    def __iter__(self) -> Iterator[Member]:
        return chain(self.declared.values(), self.added.values())

    def __reversed__(self) -> Iterator[Member]:
        return chain(reversed(self.added.values()), reversed(self.declared.values()))

    def __len__(self) -> int:
        return len(self.declared) + len(self.added)

    def keys(self) -> list[str]:
        """All keys in start order."""
        return [*self.declared, *self.added]

    def get(self, key: str) -> Member | None:
        # in this order no reader in another thread misses one that moves between the groups
        return self.added.get(key) or self.declared.get(key)

    def seen(self) -> list[Member]:
        """All of them, for those that read in other threads while the loop goes on.

        One that moves between the groups is in both for a moment, and is seen once.
        """
        added = list(self.added.values())
        return list(dict.fromkeys([*self.declared.values(), *added]))

    def listed(self, most: int = 10) -> str:
        """The first keys in words, at the same cost however many there are; from any thread."""
        first = [*islice(self.declared, most), *islice(self.added, most)]
        keys = list(dict.fromkeys(first))[:most]
        more = len(self) - len(keys)
        return ", ".join(keys) + (f" and {more} more" if more > 0 else "") if keys else "none"

    def put_in_order(self, declared: Iterable[str], added: Collection[str]) -> None:
        """Move the keys that a replay has added to where it ``declared`` them, each behind another.

        All other keys keep their places.
        """
        followers: dict[str | None, list[str]] = {}
        before: str | None = None
        for key in declared:
            if key in self.declared:
                if key in added:
                    followers.setdefault(before, []).append(key)
                before = key
        pending: list[str | None] = [key for key in reversed(self.declared) if key not in added]
        pending.append(None)
        ordered: dict[str, Member] = {}
        while pending:
            key_or_none = pending.pop()
            if key_or_none is not None:
                ordered[key_or_none] = self.declared[key_or_none]
            pending.extend(reversed(followers.pop(key_or_none, ())))
        assert len(ordered) == len(self.declared), "a key got lost"
        self.declared = ordered

    def add(self, member: Member) -> None:
        """A child that no system has declared."""
        self.added[member.key] = member
        self.gone.discard(member.key)

    def remove(self, member: Member) -> None:
        """Forget a member."""
        for group in (self.declared, self.added):
            if group.get(member.key) is member:
                del group[member.key]
                self._on_forgotten(member)

    def drop(self, member: Member) -> None:
        """Forget a member; a replay that declares its key leaves it out from now on."""
        if self.declared.get(member.key) is member:
            self.gone.add(member.key)
        self.remove(member)
