"""An event of a tree as it is sent: when, whom it is about, and one sentence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from spry_py import events
from spry_py.lowlevel import tell

from .tree import Json, number, shown


def fact_of(event: events.Event, path: str) -> Json:
    """An event under the path that its child is known by here."""
    return {
        "seq": event.seq,
        "at": number(event.at),
        "time": number(event.time),
        "path": path,
        "incident": event.incident,
        "type": type(event).__name__,
        "text": shown(_SENTENCES.get(type(event), _name_alone)(event)),
    }


def _name_alone(event: Any) -> str:
    return type(event).__name__


def _which(event: Any) -> str:
    return f" (incarnation {event.incarnation})" if event.incarnation > 1 else ""


def _end(event: Any) -> str:
    report = event.report
    if report.failed:
        under = {"none": "", "settling": " while settling", "aborted": " while being aborted"}
        return f"failed{under[report.burden]}: {tell(report.exception)}"
    if report.burden != "none":
        return f"stopped ({report.burden})"
    return f"ended {'by itself' if type(report.reason).__name__ == 'Normal' else 'aborted'}"


def _start_failed(event: Any) -> str:
    exception = event.report.exception
    return f"failed to start: {tell(exception) if exception is not None else 'it was cancelled'}"


def _closed(event: Any) -> str:
    return f"incident {event.incident} is over after {event.seconds:.3g} s: {event.outcome}"


def _scheduled(event: Any) -> str:
    when = f"in {event.delay:g} s" if event.delay else "now"
    return f"will be restarted {when} (attempt {event.attempt})"


_SENTENCES: Final[dict[type[events.Event], Callable[[Any], str]]] = {
    events.ChildStarting: lambda event: f"starts{_which(event)}",
    events.ChildStarted: lambda event: f"started{_which(event)}",
    events.ChildStartFailed: _start_failed,
    events.ChildTerminated: _end,
    events.RestartScheduled: _scheduled,
    events.RestartRefused: lambda event: "may not be restarted any more",
    events.ChildSettling: lambda event: "is asked to finish",
    events.ChildAborted: lambda event: "is cancelled",
    events.ChildStuck: lambda event: "does not end although it was cancelled",
    events.ChildSlow: lambda event: f"has not started after {event.seconds:g} s",
    events.ChildDiscarded: lambda event: "is not recoverable: its supervisor goes on without it",
    events.SystemStarted: lambda event: "is up, with all below it",
    events.SystemTeardown: lambda event: "stops all its children",
    events.SystemStopped: lambda event: "has ended, and nothing below it is alive",
    events.Escalated: lambda event: f"gives up: {tell(event.error)}",
    events.IncidentOpened: lambda event: f"incident {event.incident} begins",
    events.IncidentClosed: _closed,
    events.EventsLost: lambda event: f"{event.count} events are missing here",
}
