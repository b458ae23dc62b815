"""Listening to a tree: its events as lines of text, so that a whole record can be read."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import trio

from actors import Actor
from spry_py import (
    SystemHandle,
    SystemSupervisor,
    TerminationReport,
    open_system,
)
from spry_py.events import (
    ChildAborted,
    ChildSettling,
    ChildSlow,
    ChildStarted,
    ChildStartFailed,
    ChildStarting,
    ChildStuck,
    ChildTerminated,
    Escalated,
    Event,
    EventsLost,
    IncidentClosed,
    IncidentOpened,
    RestartScheduled,
    SystemOrdered,
)


def ended(report: TerminationReport) -> str:
    reason = repr(report.exception) if report.failed else type(report.reason).__name__
    return f"#{report.incarnation} {reason} {report.burden}"


DETAILS: dict[type[Event], Callable[[Any], str]] = {
    ChildStarting: lambda event: f"#{event.incarnation}",
    ChildStarted: lambda event: f"#{event.incarnation}",
    ChildSettling: lambda event: f"#{event.incarnation}",
    ChildAborted: lambda event: f"#{event.incarnation}",
    ChildStartFailed: lambda event: ended(event.report),
    ChildTerminated: lambda event: ended(event.report),
    RestartScheduled: lambda event: f"in {event.delay:g} attempt {event.attempt}",
    ChildStuck: lambda event: event.stack.splitlines()[1].strip(),
    ChildSlow: lambda event: f"{event.seconds:g} {event.stack.splitlines()[1].strip()}",
    Escalated: lambda event: f"{type(event.error).__name__} from {event.cause!r}",
    IncidentClosed: lambda event: event.outcome,
    SystemOrdered: lambda event: " ".join(event.keys),
    EventsLost: lambda event: f"{event.count}",
}


def line(event: Event) -> str:
    """What an event says, without its number."""
    detail = DETAILS.get(type(event), lambda event: "")(event)
    return f"{event.at:g} {type(event).__name__} {event.path} {detail}".rstrip()


class Heard:
    """The events that one listener has heard; those of incidents themselves only on demand."""

    def __init__(self, *, incidents: bool = False) -> None:
        self.events: list[Event] = []
        self._left_out = () if incidents else (IncidentOpened, IncidentClosed)

    def take(self) -> list[str]:
        """Hand over what was heard so far, as lines, and forget it."""
        taken, self.events = self.events, []
        return [line(event) for event in taken]

    async def listen(
        self,
        handle: SystemHandle,
        capacity: float = 1024,
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Listen until the tree has ended."""
        async with handle.events(capacity) as events:
            task_status.started()
            async for event in events:
                if not isinstance(event, self._left_out):
                    self.events.append(event)


@asynccontextmanager
async def listened(
    system: Any, *, incidents: bool = False, **options: Any
) -> AsyncIterator[tuple[SystemHandle, Heard]]:
    """A tree named `top` and a listener at its root; the block ends when both have ended."""
    heard = Heard(incidents=incidents)
    if not isinstance(system, SystemSupervisor):
        system = SystemSupervisor(system, name="top", **options)
    async with trio.open_nursery() as nursery, open_system(system) as tree:
        await nursery.start(heard.listen, tree)
        yield tree, heard
    seqs = [event.seq for event in heard.events]
    assert seqs == sorted(set(seqs))


def one_by_one(*actors: Actor) -> SystemSupervisor:
    return SystemSupervisor([x.child() for x in actors], name="top", strategy="one_for_one")


async def rest_of(events: AsyncIterator[Event]) -> list[str]:
    """All that can be read without waiting for anything new."""
    read: list[str] = []
    with trio.move_on_after(1):
        async for event in events:
            read += [f"{event.seq} {line(event)}"]
    return read
