"""A tree as it is sent: one flat JSON object for each child, and nothing that is secret.

Started values, arguments, environments and locals are never sent, and exceptions as one line of
their text. Nodes are flat, parents first and siblings in start order: a tree may be deeper than a
reader of JSON can follow. Times are seconds on the clock of the observer's run of trio.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Iterable, Iterator
from typing import Any, Final

import trio

from spry_py import (
    Budget,
    ChildHandle,
    ChildInfo,
    Snapshot,
    SystemHandle,
    SystemSupervisor,
    TerminationReport,
)
from spry_py.lowlevel import summary_of, token_of

# nodes between two checkpoints: some 30 to 60 microseconds each
SLICE: Final = 128
LONGEST_TEXT: Final = 500

Json = dict[str, Any]


def number(value: float | None) -> float | None:
    """A number as JSON has it, which knows no infinity."""
    return round(value, 6) if value is not None and math.isfinite(value) else None


def shown(text: str, longest: int = LONGEST_TEXT) -> str:
    """One line of text: cut, and with all escaped that is not seen, or does something."""
    text = text if len(text) <= longest else text[: longest - 1] + "…"
    return text if text.isprintable() else "".join(map(_shown, text))


def shown_lines(text: str, longest: int = 65_536) -> str:
    """The same for text of several lines, the end of which counts."""
    text = text if len(text) <= longest else "…" + text[1 - longest :]
    return "\n".join(shown(line, longest) for line in text.split("\n"))


def _shown(letter: str) -> str:
    if letter.isprintable():
        return letter
    return letter.encode("unicode_escape", "backslashreplace").decode("ascii")


def node_of(info: ChildInfo, path: str, ahead: float) -> Json:
    """A child at one moment, under the path that it is known by here.

    The clock here is so many seconds ahead of that of its tree.
    """

    def here(at: float | None) -> float | None:
        return None if at is None else number(at + ahead)

    budget, last = info.budget, info.last_report
    return {
        "path": path,
        "kind": info.kind,
        "status": info.status,
        "incarnation": info.incarnation,
        "restarts": info.restarts,
        "restart": info.restart,
        "started_at": here(info.started_at),
        "restart_at": here(info.restart_at),
        "shutdown_by": here(info.shutdown_by),
        "heartbeat_by": here(info.heartbeat_by),
        "in_a_row": info.in_a_row,
        "failures": info.failures,
        "by_hand": info.by_hand,
        "queued": info.queued,
        "budget": None if budget is None else _budget(budget, here(budget.frees_at)),
        "last": None if last is None else _report(last, here(last.ended_at)),
    }


def _budget(budget: Budget, frees_at: float | None) -> Json:
    return {
        "left": budget.left,
        "of": budget.of,
        "within": number(budget.within),
        "frees_at": frees_at,
    }


def _report(report: TerminationReport, ended_at: float | None) -> Json:
    """How an incarnation ended; never with the value that it returned."""
    failed = report.failed
    return {
        "incarnation": report.incarnation,
        "reason": "failed" if failed else type(report.reason).__name__.lower(),
        "burden": report.burden,
        "error": shown(summary_of(report.exception)) if failed else None,
        "ended_at": ended_at,
        "time": number(report.time),
        "lifetime": number(report.lifetime),
    }


async def nodes_below(
    top: SystemHandle | ChildHandle, name: str, ahead: float, depth: float = math.inf
) -> Iterator[Json]:
    """The nodes at and below a path that is known as ``name``, ``depth`` levels of them."""
    system = top.as_system if isinstance(top, ChildHandle) else top
    if system is None or depth == 0:
        return iter([node_of(top.info(), name, ahead)])
    snapshot = await _snapshot_of(system)
    cut = len(snapshot.path)
    return (
        node_of(found, name + found.path[cut:], ahead)
        for level, found in snapshot.walk()
        if level <= depth
    )


async def _snapshot_of(system: SystemHandle) -> Snapshot:
    """In slices, between which the tree goes on; in a thread if it lives in another run of trio."""
    if token_of(system) is not trio.lowlevel.current_trio_token():
        return await trio.to_thread.run_sync(system.snapshot)
    # events that come meanwhile are dropped: who needs them hears them already
    async with system.follow(1) as followed:
        return followed[0]


# one for all: `json.dumps` makes one for each call
_encode: Final = json.JSONEncoder(separators=(",", ":")).encode


def as_json(thing: Json) -> str:
    """As one line."""
    return _encode(thing)


# What is said of one child alone


def detail_of(info: ChildInfo) -> Json:
    """The function of a child by name, and its options; never its arguments."""
    child = info.child
    return {"function": shown(_name_of(child.start)), "options": dict(_options_of(child))}


_NUMBERS: Final = ("shutdown", "start_timeout", "start_attempts", "run_timeout", "heartbeat")
_OBJECTS: Final = ("backoff", "breaker", "recoverable", "on_termination")


def _options_of(child: Any) -> Iterable[tuple[str, object]]:
    yield "restart", child.restart
    for name in _NUMBERS:
        value = getattr(child, name)
        yield name, value if math.isfinite(value) else "inf"
    for name in _OBJECTS:
        value = getattr(child, name)
        if value is not None:
            yield name, shown(_name_of(value))
    yield "on_unrecoverable", child.on_unrecoverable
    yield "significant", child.significant
    for name in ("strategy", "auto_shutdown"):
        value = getattr(child.start, name, None)
        if isinstance(value, str):
            yield name, shown(value)


def _name_of(thing: Any) -> str:
    """The name of a function as its module has it, else that of the type."""
    while isinstance(thing, functools.partial):
        thing = thing.func
    if isinstance(thing, SystemSupervisor):
        return f"SystemSupervisor of {_name_of(thing.system)}"
    name = getattr(thing, "__qualname__", None)
    if not isinstance(name, str):
        return type(thing).__name__
    module = getattr(thing, "__module__", None)
    return f"{module}.{name}" if isinstance(module, str) else name
