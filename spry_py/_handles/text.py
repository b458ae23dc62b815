"""A tree as text: `SystemHandle.render`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from spry_py._kernel.root import host_of, living_roots
from spry_py._spec.errors import summary_of

from .snapshot import Snapshot, snapshot_of

if TYPE_CHECKING:
    from spry_py._kernel.member import Member
    from spry_py._kernel.tree import Tree


def render(root: Member) -> str:
    """A subtree, a line for each child; below a child stand the trees opened in its code."""
    opened = _roots_by_host()
    lines: list[str] = []
    tree = root.loop.tree
    pending: list[tuple[int, Snapshot, Tree]] = [(0, snapshot_of(root), tree)]
    while pending:
        depth, node, tree = pending.pop()
        lines.append(_line(depth, node, tree.clock.current_time()))
        below = [(depth + 1, child, tree) for child in node.children]
        inner = opened.get((tree, node.path), ())
        below.extend((depth + 1, snapshot_of(other), other.loop.tree) for other in inner)
        pending.extend(reversed(below))
    return "\n".join(lines)


def _roots_by_host() -> dict[tuple[Tree, str], list[Member]]:
    found: dict[tuple[Tree, str], list[Member]] = {}
    for root in living_roots():
        host = host_of(root.loop.tree)
        if host is not None:
            found.setdefault((host.loop.tree, host.path), []).append(root)
    return found


def _line(depth: int, node: Snapshot, now: float) -> str:
    notes: list[str] = [node.status]
    if node.restarts:
        notes.append("1 restart" if node.restarts == 1 else f"{node.restarts} restarts")
    name = node.key + ("/" if node.kind == "supervisor" else "")
    line = f"{'  ' * depth}{name}  [{', '.join(notes)}]"
    details = "; ".join(_details(node, now))
    return f"{line}  {details}" if details else line


def _details(node: Snapshot, now: float) -> Iterator[str]:
    if node.started_at is not None and now - node.started_at >= 1:
        yield f"up {_spoken(now - node.started_at)}"
    # after that it waits for its turn: for a sibling that starts before it
    if node.restart_at is not None and node.restart_at > now:
        yield f"starts again in {_spoken(node.restart_at - now)}"
    budget = node.budget
    if budget is not None and budget.left < budget.of:
        yield f"{budget.left} of {budget.of} restarts left"
    report = node.last_report
    if report is not None and report.failed and node.status != "ignored":
        yield f"last error: {summary_of(report.exception)}"


# from which number of seconds on, and how many one of them is
_UNITS: Final = ((172_800, 86_400, "d"), (7_200, 3_600, "h"), (120, 60, "min"))


def _spoken(seconds: float) -> str:
    """A time in the unit that leaves a number worth reading."""
    for least, unit, name in _UNITS:
        if seconds >= least:
            return f"{seconds // unit:g} {name}"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.2g} s"
