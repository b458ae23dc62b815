"""`Record`: what happened, as lines that compare well."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias

from spry_py import TerminationReport
from spry_py.events import (
    ChildAborted,
    ChildSettling,
    ChildSlow,
    ChildStarted,
    ChildStartFailed,
    ChildStarting,
    ChildTerminated,
    Escalated,
    Event,
    IncidentClosed,
    RestartScheduled,
    SystemOrdered,
)

from .blows import ChildRestarted

Landmark: TypeAlias = str | type[Event] | tuple[type[Event], str]
"""What `Record.assert_order` finds: words of a line, an event class, or one and a path."""

MOST_LINES: Final = 60


class Record:
    """Events in their order, and when they were, in seconds since its beginning."""

    def __init__(self, events: Sequence[Event] = (), since: float = 0.0) -> None:
        # both written by `LiveRecord.offer`, and by no one else
        self._events: list[Event] = list(events)
        self._since = since

    @property
    def events(self) -> tuple[Event, ...]:
        """The events themselves, from the first on."""
        return tuple(self._events)

    def lines(self, *kinds: type[Event]) -> list[str]:
        """The events as text, ``"1.00 app/db ChildTerminated failed OSError"``; or of some kinds.

        First the seconds since the beginning of the record, then the path and the class. Then what
        is not as usual: ``#2`` for an incarnation that is not the first; of an end the reason, the
        type of the exception, and the burden unless it ended by itself (``normal settling``,
        ``aborted``); the delay of a restart, and the number of the attempt from the second on; how
        an incident was closed.
        """
        for kind in kinds:
            check_kind("lines", kind)
        return [self.line(event) for event in self._events if not kinds or isinstance(event, kinds)]

    def line(self, event: Event) -> str:
        """One event as text."""
        words = _WORDS.get(type(event), _nothing)(event)
        # a moment before the beginning is none, whatever floats make of it
        seconds = max(0.0, event.at - self._since)
        return f"{seconds:.2f} {event.path} {type(event).__name__} {words}".rstrip()

    def assert_order(self, *landmarks: Landmark) -> None:
        """Assert that these are all there, one after another, whatever else is between them::

            record.assert_order(
                (ChildTerminated, "app/db"), (ChildTerminated, "app/api"), "app/db ChildStarted #2"
            )

        A landmark is an event class, a pair of one and a path, or some words of a line, whole and
        in a row. Raises `AssertionError` with the record.
        """
        __tracebackhide__ = True
        left = iter(self._events)
        for number, landmark in enumerate(landmarks):
            matches = self._matcher(landmark)
            if not any(matches(event) for event in left):
                before = f" behind {_named(landmarks[number - 1])}" if number else ""
                raise AssertionError(f"there is no {_named(landmark)}{before}\n{self.drawn()}")

    def _matcher(self, landmark: Landmark) -> Callable[[Event], bool]:
        if isinstance(landmark, str):
            wanted = f" {' '.join(landmark.split())} "
            return lambda event: wanted in f" {self.line(event)} "
        kind, path = landmark if isinstance(landmark, tuple) else (landmark, None)
        check_kind("assert_order", kind)
        return lambda event: is_about(event, kind, path)

    def last_lines(self) -> list[str]:
        """The record for a person: the last lines of it, if it is long."""
        lines = self.lines()
        if len(lines) > MOST_LINES:
            lines = [f"… {len(lines) - MOST_LINES} more before", *lines[-MOST_LINES:]]
        return lines or ["(nothing)"]

    def drawn(self) -> str:
        """The same below a title."""
        return "\n".join(["the record:", *(f"  {line}" for line in self.last_lines())])

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {len(self._events)} events>"


def is_about(event: Event, kind: type[Event], path: str | None) -> bool:
    """Whether it is of that class, and about that path if one is given."""
    return isinstance(event, kind) and path in (None, event.path)


def check_kind(owner: str, kind: object) -> None:
    """Accept an event class."""
    if not (isinstance(kind, type) and issubclass(kind, Event)):
        raise TypeError(
            f"{owner}: a kind must be a class of spry_py.events such as ChildStarted, not {kind!r}"
        )


def _named(landmark: Landmark) -> str:
    if isinstance(landmark, str):
        return repr(landmark)
    if isinstance(landmark, tuple):
        return f"{landmark[0].__name__} of {landmark[1]!r}"
    return landmark.__name__


# What a line has of an event


def _nothing(event: Any) -> str:
    return ""


def _number(event: Any) -> str:
    return f"#{event.incarnation}" if event.incarnation > 1 else ""


def _end(event: Any) -> str:
    report: TerminationReport = event.report
    reason = type(report.reason).__name__.lower()
    error = f"failed {type(report.cause).__name__}" if report.failed else reason
    burden = "by itself" if (reason, report.burden) == ("aborted", "none") else report.burden
    return error if burden in ("none", reason) else f"{error} {burden}"


def _outcome(event: Any) -> str:
    return f"{event.outcome} after {event.seconds:.2f}" if event.seconds else event.outcome


def _delay(event: Any) -> str:
    words = [f"in {event.delay:.2f}"] if event.delay else []
    return " ".join([*words, *([f"attempt {event.attempt}"] if event.attempt > 1 else [])])


_WORDS: Final[Mapping[type[Event], Callable[[Any], str]]] = {
    ChildStarting: _number,
    ChildStarted: _number,
    ChildSettling: _number,
    ChildAborted: _number,
    ChildStartFailed: _end,
    ChildTerminated: _end,
    RestartScheduled: _delay,
    ChildSlow: lambda event: f"{event.seconds:.2f}",
    SystemOrdered: lambda event: ", ".join(event.keys),
    Escalated: lambda event: type(event.error).__name__,
    IncidentClosed: _outcome,
    ChildRestarted: lambda event: f"refused {event.refused}" if event.refused else "",
}
