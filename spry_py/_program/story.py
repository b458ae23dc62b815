"""The story of a tree as ``spry-py run`` prints it: one line for each fact that matters.

It hears of the events themselves, not of log records: whatever the program makes of `logging`, its
story is the same.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any, Final

from spry_py._handles.history import sentence_of
from spry_py._kernel.facts import (
    ChildAborted,
    ChildDiscarded,
    ChildSettling,
    ChildSlow,
    ChildStarted,
    ChildStartFailed,
    ChildStuck,
    ChildTerminated,
    Escalated,
    Event,
    RestartRefused,
    RestartScheduled,
    SystemStarted,
    SystemStopped,
    SystemTeardown,
)
from spry_py._spec.errors import Ignore, sole_leaf_of
from spry_py._telemetry.logs import FACT_MARK, LEVELS, end_of, why_no_start

from .printer import Printer


class Story(logging.Handler):
    """A subscriber that prints, and remembers in which order children were stopped.

    As a handler it prints the records that are not of a fact.
    """

    def __init__(self, printer: Printer) -> None:
        super().__init__(logging.INFO)
        self._printer = printer
        self._began = time.monotonic()
        self._settling: set[str] = set()
        self._has_failed = False
        self.stopped: list[str] = []

    def offer(self, event: Event) -> None:
        """Print an event, if it is one of those that people want to read."""
        self._remember(event)
        sentence = _SENTENCES.get(type(event))
        text = sentence(event) if sentence is not None else None
        if text is None and isinstance(event, ChildAborted):
            text = self._overdue(event)
        if isinstance(event, SystemStarted | SystemStopped) and not self._is_printed(event):
            return
        if text is not None:
            self._print(_level(event), f"{event.path} {text}")

    def emit(self, record: logging.LogRecord) -> None:
        """Print a record, unless its fact comes as an event, too."""
        if not hasattr(record, FACT_MARK):
            self._print(record.levelno, record.getMessage())

    def wake(self) -> None:
        """Do nothing: the tree has ended, and no task waits here."""

    def _print(self, level: int, text: str) -> None:
        seconds = time.monotonic() - self._began
        self._printer.print(f"{seconds:7.2f} s  {logging.getLevelName(level):7}  {text}")

    def last_words(self) -> None:
        """Print in which order children were stopped."""
        if self.stopped:
            self._printer.print(f"\nstopped in this order: {', '.join(self.stopped)}")

    def _remember(self, event: Event) -> None:
        if isinstance(event, ChildSettling):
            self._settling.add(event.path)
        elif isinstance(event, ChildTerminated):
            self._settling.discard(event.path)
            if event.report.burden != "none":
                self.stopped.append(event.path)
        elif isinstance(event, Escalated) and "/" not in event.path:
            self._has_failed = True
        elif isinstance(event, SystemTeardown) and "/" not in event.path:
            # what was stopped until now was not stopped for the end of the program
            self.stopped.clear()

    def _is_printed(self, event: Event) -> bool:
        """Of a system only if it is the root, since any other is a child as well."""
        is_root = "/" not in event.path
        return is_root and not (isinstance(event, SystemStopped) and self._has_failed)

    def _overdue(self, event: ChildAborted) -> str | None:
        """An abort is worth a line if it comes because the child's time was over."""
        is_late = event.path in self._settling
        return "did not finish within its time: aborting it" if is_late else None


def _level(event: Event) -> int:
    if isinstance(event, ChildTerminated) and event.report.failed and not _is_left_out(event):
        return logging.ERROR
    return LEVELS[type(event)]


def _is_left_out(event: ChildTerminated) -> bool:
    exception = event.report.exception
    return exception is not None and isinstance(sole_leaf_of(exception), Ignore)


def _started(event: Any) -> str:
    return f"started (incarnation {event.incarnation})" if event.incarnation > 1 else "started"


def _start_failed(event: Any) -> str:
    return f"failed to start: {why_no_start(event.report.exception)}"


def _slow(event: Any) -> str:
    return f"has not started after {event.seconds:g} s; it stands at\n{event.stack}"


def _terminated(event: Any) -> str:
    if _is_left_out(event) and event.report.started_at is None:
        return "left out: its start raised Ignore"
    return end_of(event.report)


_SENTENCES: Final[dict[type[Event], Callable[[Any], str]]] = {
    ChildStarted: _started,
    ChildStartFailed: _start_failed,
    ChildTerminated: _terminated,
    RestartScheduled: sentence_of,
    RestartRefused: sentence_of,
    ChildSlow: _slow,
    ChildStuck: lambda event: f"{sentence_of(event)}\n{event.stack}",
    ChildDiscarded: sentence_of,
    SystemStarted: lambda event: "started",
    SystemStopped: lambda event: "stopped",
    Escalated: lambda event: f"gives up: {event.error}",
}
