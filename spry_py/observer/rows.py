"""A tree in lines, as commands and the terminal show it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple

from .tree import shown

Json = dict[str, Any]

# levels that are shown by their indentation
_DEEPEST: Final = 20
# what is longer does not make a column wider for all others
_WIDEST: Final = 60


class Row(NamedTuple):
    """One child in words, ``depth`` levels below its root."""

    path: str
    depth: int
    name: str
    status: str
    age: str
    restarts: str
    note: str


def duration(seconds: float) -> str:
    """A time that people read at a glance."""
    if seconds < 0:
        return "0 s"
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"


def rows_of(nodes: Iterable[tuple[int, Json]], now: float) -> Iterator[Row]:
    """Nodes in order, with their depths, at a moment of their clock."""
    for depth, node in nodes:
        path = node["path"]
        key = path.rpartition("/")[2]
        started = node["started_at"]
        yield Row(
            path=path,
            depth=depth,
            name=shown(key) + ("/" if node["kind"] == "supervisor" else ""),
            status=node["status"],
            age=duration(now - started) if started is not None else "",
            restarts=str(node["restarts"]) if node["restarts"] else "",
            note="; ".join(_notes(node, now)),
        )


def _notes(node: Json, now: float) -> Iterator[str]:
    """What comes next, how much more it can take, and how it ended last."""
    if node["restart_at"] is not None and node["restart_at"] > now:
        yield f"restarts in {duration(node['restart_at'] - now)}"
    if node["shutdown_by"] is not None:
        yield f"is aborted in {duration(node['shutdown_by'] - now)}"
    budget = node["budget"]
    if budget is not None and budget["left"] < budget["of"]:
        yield f"{budget['left']:g} of {budget['of']:g} restarts left"
    if node["queued"]:
        yield f"{node['queued']} queued"
    last = node["last"]
    if last is not None:
        ago = duration(now - last["ended_at"])
        yield f"{last['error'] or _ended(last)}, {ago} ago"


def _ended(last: Json) -> str:
    if last["burden"] != "none":
        return "stopped"
    return "ended by itself" if last["reason"] == "normal" else "was aborted"


def above(node: Json) -> str:
    """The path below which a child stands: of its supervisor, or of where a root was opened."""
    return node["path"].rpartition("/")[0] or node["host"] or ""


def in_order(nodes: Iterable[Json]) -> Iterator[tuple[int, Json]]:
    """Nodes depth first, each with its depth, given with siblings in order."""
    known = {node["path"]: node for node in nodes}
    below: dict[str, list[Json]] = {}
    for node in known.values():
        up = above(node)
        below.setdefault(up if up in known else "", []).append(node)
    pending = [(0, node) for node in reversed(below.get("", []))]
    while pending:
        depth, node = pending.pop()
        yield depth, node
        pending.extend((depth + 1, inner) for inner in reversed(below.get(node["path"], [])))


def columns(rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    """Lines with the cells of all rows in columns, the last as long as it likes."""
    table = list(rows)
    widths = [min(max(map(len, cells)), _WIDEST) for cells in zip(*table, strict=True)]
    for row in table:
        padded = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        yield "  ".join([*padded[:-1], row[-1]]).rstrip()


def indent(depth: int, most: int) -> str:
    """So far to the right; with the level in figures where that would leave no room for a name."""
    return "  " * depth if depth <= most else f"{'  ' * most}({depth}) "


def tree_lines(nodes: Iterable[Json], now: float) -> Iterator[str]:
    """A whole tree, a line for each child."""
    table = [
        (
            indent(row.depth, _DEEPEST) + row.name,
            row.status,
            row.age and f"up {row.age}",
            row.restarts and f"{row.restarts} restart{'' if row.restarts == '1' else 's'}",
            row.note,
        )
        for row in rows_of(in_order(nodes), now)
    ]
    return columns(table)
