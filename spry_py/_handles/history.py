"""`Handle.history`: what has happened in a tree, as text, from the first who asked for it on.

Text alone is kept: an exception, an argument or a started value would keep alive what is over.
Events that have none of these are kept as they are, until they are asked for.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from spry_py._kernel.facts import (
    ChildAborted,
    ChildDiscarded,
    ChildSettling,
    ChildSlow,
    ChildStarted,
    ChildStartFailed,
    ChildStarting,
    ChildStuck,
    ChildTerminated,
    Escalated,
    Event,
    IncidentClosed,
    IncidentOpened,
    RestartRefused,
    RestartScheduled,
    SystemOrdered,
    SystemStarted,
    SystemStopped,
    SystemTeardown,
)
from spry_py._spec.errors import summary_of
from spry_py._telemetry.logs import when_restarted
from spry_py._telemetry.tracebacks import traceback_of

if TYPE_CHECKING:
    from spry_py._kernel.facts import Guard
    from spry_py._kernel.tree import Tree
    from spry_py._spec.termination import TerminationReport

MOST_KEPT: Final = 1000
# Letters of one entry: a group of a thousand exceptions must not fill the memory.
LONGEST: Final = 16_384


class HistoryEntry(NamedTuple):
    """One fact as text, about ``path``. ``time`` is in seconds since the epoch."""

    time: float
    path: str
    text: str


class History:
    """The last facts of one tree: a subscriber that makes text at once of what may not be kept."""

    __slots__ = ("_entries", "_guard")

    def __init__(self, guard: Guard) -> None:
        self._entries: deque[HistoryEntry | Event] = deque(maxlen=MOST_KEPT)
        # a text is made by the user's code, too
        self._guard = guard

    def offer(self, event: Event) -> None:
        """Keep an event, or the text of one that would keep something else."""
        if isinstance(event, _BOUND):
            text = self._guard(_text_of, event) or type(event).__name__
            self._entries.append(_entry_of(event, text))
        else:
            self._entries.append(event)

    def wake(self) -> None:
        """Nothing more comes."""

    def below(self, path: str) -> tuple[HistoryEntry, ...]:
        """The entries about a path and all below it. May be called from any thread."""
        start = f"{path}/"
        entries = self._entries.copy()  # in one step of the interpreter
        return tuple(
            _entry_of(one, _text_of(one)) if isinstance(one, Event) else one
            for one in entries
            if one.path == path or one.path.startswith(start)
        )


# what bears an exception
_BOUND: Final = (ChildStartFailed, ChildTerminated, Escalated)


def _entry_of(event: Event, text: str) -> HistoryEntry:
    text = text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
    return HistoryEntry(event.time, event.path, text)


def history_of(tree: Tree) -> History | None:
    """The history of a tree, if one has been asked for."""
    subscribers = list(tree.stream.subscribers)
    return next((one for one in subscribers if isinstance(one, History)), None)


def begin_history(tree: Tree) -> None:
    """Keep one from now on, to the end of the tree."""
    if history_of(tree) is None:
        # before all others: a subscriber that receives a fact finds it in the history
        tree.stream.join(History(tree.guard), first=True)


def sentence_of(event: Event) -> str:
    """An event in words, without its path. Calls ``__str__`` of what was raised."""
    return _TEXTS.get(type(event), _name_of)(event)


def _text_of(event: Event) -> str:
    """The same with the traceback, or the stack, that belongs to it."""
    sentence = sentence_of(event)
    if isinstance(event, ChildStartFailed | ChildTerminated):
        exception = event.report.exception
        return sentence if exception is None else f"{sentence}\n{traceback_of(exception)}"
    return f"{sentence}\n{event.stack}" if isinstance(event, ChildStuck | ChildSlow) else sentence


def _name_of(event: Event) -> str:
    return type(event).__name__


def _end(what: str, report: TerminationReport) -> str:
    first = f"incarnation {report.incarnation} {what}"
    if report.burden != "none":
        first = f"{first} while {report.burden}"
    exception = report.exception
    return first if exception is None else f"{first}: {summary_of(exception)}"


def _terminated(event: ChildTerminated) -> str:
    reason = type(event.report.reason).__name__.lower()
    return _end(reason if event.report.failed else f"ended ({reason})", event.report)


def _scheduled(event: RestartScheduled) -> str:
    return f"will be restarted {when_restarted(event.delay, event.attempt)}"


_TEXTS: Final[dict[type[Event], Callable[[Any], str]]] = {
    ChildStarting: lambda event: f"incarnation {event.incarnation} is starting",
    ChildStarted: lambda event: f"incarnation {event.incarnation} is up",
    ChildStartFailed: lambda event: _end("failed to start", event.report),
    ChildTerminated: _terminated,
    ChildSettling: lambda event: f"is asked to finish ({event.by})",
    ChildAborted: lambda event: f"is aborted ({event.by})",
    ChildStuck: lambda _: "does not end although it was aborted; it sits at",
    ChildSlow: lambda event: f"has not started within {event.seconds:g} s",
    ChildDiscarded: lambda _: "is not recoverable: going on without it",
    RestartScheduled: _scheduled,
    RestartRefused: lambda _: "may not be restarted any more",
    SystemStarted: lambda _: "is up with all that it declares",
    SystemOrdered: lambda event: f"has its children in this order now: {', '.join(event.keys)}",
    SystemTeardown: lambda _: "begins to stop its children",
    SystemStopped: lambda _: "has stopped",
    Escalated: lambda event: f"gives up: {summary_of(event.error)}",
    IncidentOpened: lambda event: f"incident {event.incident} begins",
    IncidentClosed: lambda event: f"incident {event.incident} is over: {event.outcome}",
}
