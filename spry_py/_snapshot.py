"""Frozen pictures of a tree: what it looked like at one moment."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ._nursery import Status
from ._options import Kind, RestartType
from ._termination import TerminationReport

if TYPE_CHECKING:
    from ._nursery import Member


@dataclass(frozen=True, slots=True)
class ChildInfo:
    """One child at one moment. ``restart`` is its restart type, ``value`` its started value."""

    key: str
    path: str
    kind: Kind
    status: Status
    incarnation: int
    restarts: int
    restart: RestartType
    value: Any
    last_report: TerminationReport | None


@dataclass(frozen=True, slots=True)
class Snapshot(ChildInfo):
    """One child at one moment, with all that was below it, in start order."""

    children: tuple[Snapshot, ...] = field(default=(), repr=False)

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
    }


def snapshot_of(root: Member) -> Snapshot:
    """The present state of a subtree. No recursion: trees may be deeper than Python's stack."""
    order = [root]
    for member in order:
        if member.inner is not None:
            order.extend(member.inner.members)
    done: dict[Member, Snapshot] = {}
    for member in reversed(order):
        below = tuple(done.pop(child) for child in member.inner.members) if member.inner else ()
        done[member] = Snapshot(**_fields_of(member), children=below)
    return done[root]


def render(snapshot: Snapshot) -> str:
    """A tree as text, a line for each child."""
    return "\n".join(_line(depth, node) for depth, node in snapshot.walk())


def _line(depth: int, node: Snapshot) -> str:
    notes: list[str] = [node.status]
    if node.restarts:
        notes.append("1 restart" if node.restarts == 1 else f"{node.restarts} restarts")
    name = node.key + ("/" if node.kind == "supervisor" else "")
    return f"{'  ' * depth}{name}  [{', '.join(notes)}]"


def counts_of(member: Member) -> ChildCounts:
    """How many children a supervisor has."""
    members = list(member.inner.members) if member.inner is not None else []
    supervisors = sum(child.kind == "supervisor" for child in members)
    return ChildCounts(
        specs=len(members),
        active=sum(child.is_alive for child in members),
        supervisors=supervisors,
        workers=len(members) - supervisors,
    )
