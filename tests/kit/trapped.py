"""Listeners that raise: in every place where a tree emits something, at the n-th time or always.

Each trap has listeners of its own, as the guard reports an error of the same one only once.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
import trio
from opentelemetry import metrics, trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, Sampler, SamplingResult

from metered import meters


class Trap:
    """Names the points at which something is emitted, and raises at those that it is set for."""

    def __init__(
        self,
        error: Callable[[], BaseException] = lambda: AssertionError("never raised"),
        at: Callable[[str], bool] = lambda name: False,
    ) -> None:
        self._error = error
        self._at = at
        self.points: list[str] = []
        self.raised: list[BaseException] = []

    def point(self, name: str) -> None:
        self.points.append(name)
        if self._at(name):
            self.raised.append(self._error())
            raise self.raised[-1]


class Filter(logging.Filter):
    """`logging` does not catch what a filter raises."""

    def __init__(self, trap: Trap) -> None:
        super().__init__()
        self.trap = trap

    def filter(self, record: logging.LogRecord) -> bool:
        self.trap.point(f"log {record.getMessage()}")
        return True


class Processor(SpanProcessor):
    def __init__(self, trap: Trap) -> None:
        self.trap = trap

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        self.trap.point(f"start {_label(span)}")

    def on_end(self, span: ReadableSpan) -> None:
        self.trap.point(f"end {_label(span)}")


class Picky(Sampler):
    def __init__(self, trap: Trap) -> None:
        self.trap = trap

    def should_sample(self, *args: Any, **options: Any) -> SamplingResult:
        self.trap.point(f"sample {args[2]}")
        return ALWAYS_ON.should_sample(*args, **options)

    def get_description(self) -> str:
        return "picky"


def _label(span: ReadableSpan) -> str:
    attributes = span.attributes or {}
    return f"{span.name} {attributes.get('spry.child.path') or attributes['spry.system.path']}"


class Meter(metrics.MeterProvider, metrics.Meter):
    """Its own provider."""

    def __init__(self, trap: Trap) -> None:
        super().__init__("trapped")
        self.trap = trap

    def get_meter(self, *_: Any, **__: Any) -> metrics.Meter:
        return self

    def create_counter(self, name: str, *_: Any, **__: Any) -> Any:
        return Instrument(self.trap, name)

    create_up_down_counter = create_histogram = create_counter
    create_observable_counter = create_observable_gauge = create_counter
    create_observable_up_down_counter = create_counter


class Instrument:
    def __init__(self, trap: Trap, name: str) -> None:
        self.trap = trap
        self.name = name

    def add(self, value: float, attributes: Mapping[str, Any]) -> None:
        self.trap.point(f"measure {self.name}")

    record = add


@contextmanager
def trapped(trap: Trap) -> Iterator[None]:
    """Everything that a tree of the block emits comes to the trap; chance does not come in."""
    logger, level = logging.getLogger("spry_py"), logging.getLogger("spry_py").level
    listener = Filter(trap)
    provider = TracerProvider(sampler=Picky(trap), shutdown_on_exit=False)
    provider.add_span_processor(Processor(trap))
    with ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        patch.setattr(trace, "get_tracer_provider", lambda: provider)
        patch.setattr(logger, "propagate", False)
        patch.setattr(trio._core._run, "_ALLOW_DETERMINISTIC_SCHEDULING", True)
        trio._core._run._r.seed(0)
        stack.enter_context(meters(Meter(trap)))
        logger.addFilter(listener)
        stack.callback(logger.removeFilter, listener)
        logger.addHandler(nobody := logging.NullHandler())
        stack.callback(logger.removeHandler, nobody)
        logger.setLevel(logging.INFO)
        stack.callback(logger.setLevel, level)
        yield


@contextmanager
def unraisable() -> Iterator[list[Any]]:
    """What is handed to the interpreter's hook during the block."""
    heard: list[Any] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "unraisablehook", heard.append)
        yield heard
