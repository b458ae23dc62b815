"""The cycle of the figure ``restart`` on bare trio, and what a supervisor emits of it, by hand.

The same three spans, three durations and two log records, through the SDK alone, with attributes
that are made once. So it shows how much of the price of the signals is the SDK's own; counters are
left out, as ours cost the SDK nothing until a reader collects.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Final

from opentelemetry import metrics, trace
from opentelemetry._logs import LogRecord, SeverityNumber, get_logger
from opentelemetry.context import Context
from opentelemetry.trace import Link, Span, Status, StatusCode

from spry_py._telemetry.attributes import Attributes
from spry_py._telemetry.instruments import DURATIONS, LIFETIMES

from . import restart
from .harness import clock

SYSTEM: Final[Attributes] = {"spry.system.path": "system", "spry.system.incarnation": 1}
CHILD: Final[Attributes] = SYSTEM | {
    "spry.child.key": "child",
    "spry.child.path": "system/child",
    "spry.child.incarnation": 1,
    "spry.child.kind": "worker",
    "spry.restart.type": "permanent",
}
END: Final[Attributes] = CHILD | {
    "spry.termination.reason": "failed",
    "spry.termination.burden": "none",
    "spry.child.lifetime": 0.001,
    "error.type": "benchmarks.harness.Crash",
}
TERM: Final[Attributes] = END | {"spry.restart.wanted": True}
RESTART: Final[Attributes] = SYSTEM | {
    "spry.restart.strategy": "one_for_one",
    "spry.restart.allowed": True,
    "spry.restart.attempt": 1,
    "spry.restart.delay": 0.0,
}
EXCEPTION: Final[Attributes] = {
    "exception.type": "benchmarks.harness.Crash",
    "exception.message": "",
    "exception.stacktrace": "Traceback (most recent call last):\nbenchmarks.harness.Crash",
}
LABELS: Final[Attributes] = {"spry.system.path": "system", "spry.child.key": "child"}


class Emitter:
    """What the SDK offers to a program, for one child."""

    def __init__(self) -> None:
        self._tracer = trace.get_tracer("by hand")
        meter = metrics.get_meter("by hand")
        self._durations = [
            meter.create_histogram(name, "s", explicit_bucket_boundaries_advisory=bounds)
            for name, bounds in (
                ("lifetime", LIFETIMES),
                ("delay", DURATIONS),
                ("start", DURATIONS),
            )
        ]
        self._logger = get_logger("by hand")
        self._start = self._tracer.start_span("spry.child.start", Context())

    def crash_and_restart(self) -> None:
        link = Link(self._start.get_span_context(), {"spry.link": "terminates"})
        term = self._tracer.start_span("spry.term", Context(), attributes=TERM, links=[link])
        term.add_event("exception", EXCEPTION)
        term.set_status(Status(StatusCode.ERROR, "Crash"))
        self._log(logging.ERROR, "system/child failed: Crash", END | EXCEPTION, term)
        below = trace.set_span_in_context(term, Context())
        again = self._tracer.start_span("spry.try_restart", below, attributes=RESTART)
        self._log(logging.WARNING, "system/child will be restarted now", CHILD, again)
        below = trace.set_span_in_context(again, Context())
        link = Link(self._start.get_span_context(), {"spry.link": "restart_of"})
        self._start = self._tracer.start_span(
            "spry.child.start", below, attributes=CHILD, links=[link]
        )
        for duration in self._durations:
            duration.record(0.001, LABELS)
        for span in (self._start, again, term):
            span.end()

    def _log(self, level: int, text: str, attributes: Attributes, span: Span) -> None:
        now = time.time_ns()
        record = LogRecord(
            timestamp=now,
            observed_timestamp=now,
            context=trace.set_span_in_context(span, Context()),
            severity_text=logging.getLevelName(level),
            severity_number=SeverityNumber.ERROR if level == logging.ERROR else SeverityNumber.WARN,
            body=text,
            attributes=attributes,
        )
        self._logger.emit(record)


async def emitted(count: int, flushes: Sequence[Callable[[], object]]) -> float:
    """Seconds for so many cycles, for what is emitted of them, and until that has been exported."""
    emitter = Emitter()
    seconds = await restart.bare_cycle(count)
    began = clock()
    for _ in range(count):
        emitter.crash_and_restart()
    for flush in flushes:
        flush()
    return seconds + clock() - began
