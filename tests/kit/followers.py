"""What a reader makes of a snapshot and the events from there on: the part of a tree that lives."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TypeAlias

from spry_py import Snapshot
from spry_py.events import (
    ChildAborted,
    ChildSettling,
    ChildStarted,
    ChildStartFailed,
    ChildStarting,
    ChildTerminated,
    Event,
    EventsLost,
    SystemTeardown,
)

Living: TypeAlias = dict[str, tuple[int, str]]
"""The incarnation and the status of each living child, by path; of a root nothing is told."""

UP = ("starting", "running", "stopping")


def living(snapshot: Snapshot) -> Living:
    """What lives below a root, as a snapshot has it."""
    nodes = [node for depth, node in snapshot.walk() if depth and lives(node)]
    return {node.path: (node.incarnation, node.status) for node in nodes}


def lives(node: Snapshot) -> bool:
    """Whether an incarnation runs; one that has ended when asked is stopping until all have."""
    ended = node.last_report.incarnation if node.last_report is not None else 0
    return node.status in UP and node.incarnation > ended


def seqs(snapshot: Snapshot) -> dict[str, int]:
    return {node.path: node.seq for _, node in snapshot.walk()}


def apply(event: Event, to: Living) -> None:
    """Go on with one event. What does not fit is a fault of the stream."""
    path = event.path
    match event:
        case ChildStarting():
            assert path not in to, f"{event} although {to[path]} lives"
            to[path] = event.incarnation, "starting"
        case ChildStarted():
            assert to[path] in ((event.incarnation, "starting"), (event.incarnation, "stopping"))
            to[path] = event.incarnation, to[path][1].replace("starting", "running")
        case ChildSettling() | ChildAborted():
            assert to[path][0] == event.incarnation, event
            to[path] = event.incarnation, "stopping"
        case ChildStartFailed() | ChildTerminated():
            assert to.pop(path)[0] == event.report.incarnation, event
        case SystemTeardown():
            if to.get(path, (0, ""))[1] == "running":
                to[path] = to[path][0], "stopping"
        case EventsLost():
            raise AssertionError("a follower has lost events")
        case _:
            pass


class Follower:
    """Follows a tree from a snapshot on."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.living = living(snapshot)
        self._seqs = seqs(snapshot)

    async def read(self, events: AsyncIterator[Event]) -> None:
        """Go on with all events, until they end."""
        async for event in events:
            assert event.seq > self._seqs.get(event.path, 0), f"{event} has been shown already"
            apply(event, self.living)
