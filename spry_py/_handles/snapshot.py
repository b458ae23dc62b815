"""Frozen pictures of a tree: what it looked like at one moment."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import field
from typing import TYPE_CHECKING, Any, Final

from spry_py._kernel.phases import Status
from spry_py._policy.breaker import Budget, budget_of, unused_breaker
from spry_py._spec.child import Child
from spry_py._spec.options import Kind, RestartType
from spry_py._spec.termination import TerminationReport
from spry_py._spec.values import dataclass

if TYPE_CHECKING:
    from spry_py._kernel.member import Member


# how often to look at a child that changes while it is looked at
_LOOKS: Final = 3


@dataclass(frozen=True, slots=True)
class ChildInfo:
    """One child at one moment. ``restart`` is its restart type, ``value`` its started value.

    Times are seconds on trio's clock, ``None`` where they mean nothing: ``started_at`` between two
    incarnations, ``restart_at`` unless it waits for a restart, ``shutdown_by`` (when it will be
    aborted) unless it has been asked to finish, ``heartbeat_by`` before its first heartbeat.
    ``in_a_row`` counts its restarts in a row, as its backoff does. ``failures`` counts the ends
    that failed, ``by_hand`` the restarts that callers asked for (`ChildHandle.restart`,
    ``restart_child``, and what a ``replay`` by call starts again); for a declared child both go on
    over the incarnations of its supervisor. ``queued`` is how many calls of
    ``start_child(..., on_conflict="queue")`` wait for its key. ``budget`` is what the breaker of a
    supervisor has left, or a worker's own.
    """

    key: str
    path: str
    kind: Kind
    status: Status
    incarnation: int
    restarts: int
    restart: RestartType
    value: Any
    last_report: TerminationReport | None
    child: Child[Any] = field(repr=False)
    started_at: float | None = None
    restart_at: float | None = None
    shutdown_by: float | None = None
    heartbeat_by: float | None = None
    in_a_row: int = 0
    failures: int = 0
    by_hand: int = 0
    queued: int = 0
    budget: Budget | None = None


@dataclass(frozen=True, slots=True)
class Snapshot(ChildInfo):
    """One child at one moment, with all that was below it, in start order.

    ``seq`` is that of the last event before this node was read, if anybody had subscribed: later
    ones about it are news. It is not compared.
    """

    children: tuple[Snapshot, ...] = field(default=(), repr=False)
    seq: int = field(default=0, repr=False, compare=False)

    def walk(self) -> Iterator[tuple[int, Snapshot]]:
        """This node and all below it with their depth below it, depth first."""
        pending: list[tuple[int, Snapshot]] = [(0, self)]
        while pending:
            depth, node = pending.pop()
            yield depth, node
            pending.extend((depth + 1, child) for child in reversed(node.children))


@dataclass(frozen=True, slots=True)
class ChildCounts:
    """How many children are known, alive, and of which kind."""

    specs: int
    active: int
    supervisors: int
    workers: int


def info_of(member: Member) -> ChildInfo:
    """The present state of one member."""
    return ChildInfo(**_fields_of(member))


def _fields_of(member: Member) -> dict[str, Any]:
    """All about one member, of one moment, although another thread may go on with it meanwhile."""
    for _ in range(_LOOKS):
        before = _mark_of(member)
        fields = read(member)
        if before == _mark_of(member):
            return fields
    return read(member)


def _mark_of(member: Member) -> tuple[int, str, int]:
    return member.number, member.status, id(member.last_report)


def read(member: Member) -> dict[str, Any]:
    """All about one member, for those in the tree's own run, where nothing changes meanwhile."""
    return {
        "key": member.key,
        "path": member.path,
        "kind": member.kind,
        "status": member.status,
        "incarnation": member.number,
        "restarts": member.restarts,
        "restart": member.child.restart,
        "value": member.value,
        "last_report": member.last_report,
        "child": member.child,
        "in_a_row": member.past.in_a_row,
        "failures": member.past.failures,
        "by_hand": member.past.by_hand,
        "queued": member.loop.queued(member.key),
        "restart_at": member.loop.restart_at(member),
        "budget": _budget_of(member),
        **_times_of(member),
    }


def _times_of(member: Member) -> dict[str, float | None]:
    """The moments of the incarnation that is alive."""
    incarnation = member.incarnation
    if incarnation is None or incarnation.ended:
        return {}
    beat_by = incarnation.limits.beat_by if incarnation.limits is not None else math.inf
    return {
        "started_at": incarnation.started_at,
        "shutdown_by": member.loop.shutdowns.over_at(incarnation),
        "heartbeat_by": beat_by if beat_by < math.inf else None,
    }


def _budget_of(member: Member) -> Budget | None:
    inner = member.inner
    breaker = getattr(inner, "breaker", None) if inner is not None else member.past.breaker
    if breaker is None and inner is None:
        breaker = unused_breaker(member.child.breaker)
    tree = member.loop.tree
    return tree.guard(budget_of, breaker, tree.clock.current_time())


def snapshot_of(root: Member) -> Snapshot:
    """The present state of a subtree. No recursion: trees may be deeper than Python's stack."""
    order = [(root, members_below(root))]
    for _, below in order:
        order.extend((member, members_below(member)) for member in below)
    seq = root.loop.tree.stream.seq
    done: dict[Member, Snapshot] = {}
    for member, below in reversed(order):
        children = tuple(done.pop(child) for child in below)
        done[member] = Snapshot(**_fields_of(member), children=children, seq=seq)
    return done[root]


def members_below(member: Member) -> list[Member]:
    """The direct children that are known now, in start order. May be called from any thread."""
    below = member.below
    return below.seen() if below is not None else []


def counts_of(member: Member) -> ChildCounts:
    """How many children a supervisor has."""
    members = members_below(member)
    supervisors = sum(child.kind == "supervisor" for child in members)
    return ChildCounts(
        specs=len(members),
        active=sum(child.phase.is_alive for child in members),
        supervisors=supervisors,
        workers=len(members) - supervisors,
    )
