"""Where the telemetry of a tree goes: to the providers of the application, or into a capture.

A capture is for the trees that are opened in its context, so that trees beside it know nothing of
it, and no provider of the process is replaced.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final, TypeAlias

from opentelemetry import trace

if TYPE_CHECKING:
    from opentelemetry import metrics


class Capture:
    """What takes the place of the application's own; ``logger`` stands in front of its loggers."""

    __slots__ = ("logger", "meters", "tracers")

    def __init__(
        self, tracers: trace.TracerProvider, meters: metrics.MeterProvider, logger: logging.Logger
    ) -> None:
        self.tracers = tracers
        self.meters = meters
        self.logger = logger


capturing: Final[ContextVar[Capture | None]] = ContextVar("spry_py capture", default=None)

Around: TypeAlias = Callable[[trace.TracerProvider], trace.TracerProvider]
_around: Final[ContextVar[Around | None]] = ContextVar("spry_py tracers", default=None)


def tracer_provider() -> trace.TracerProvider | None:
    """The tracer provider for a tree that is opened here; ``None`` if nothing is recorded."""
    capture = capturing.get()
    if capture is not None:
        return capture.tracers
    provider = trace.get_tracer_provider()
    idle = (trace.ProxyTracerProvider, trace.NoOpTracerProvider)
    return None if isinstance(provider, idle) else provider


def provider_of_tree() -> trace.TracerProvider | None:
    """The same, behind what is to stand around it for this one tree."""
    provider, around = tracer_provider(), _around.get()
    if around is None:
        return provider
    # not for trees that code of this one opens
    _around.set(None)
    return around(provider) if provider is not None else None


@contextmanager
def traced_through(around: Around) -> Generator[None, None, None]:
    """The next tree that is opened inside has its spans from what ``around`` makes of a provider.

    For a tree that stands for a part of another one, elsewhere.
    """
    token = _around.set(around)
    try:
        yield
    finally:
        _around.reset(token)


def meter_provider() -> metrics.MeterProvider | None:
    """The same for metrics."""
    capture = capturing.get()
    if capture is not None:
        return capture.meters
    module = "opentelemetry.metrics"
    if module not in sys.modules and "OTEL_PYTHON_METER_PROVIDER" not in os.environ:
        return None  # set by nothing yet, and the module takes long to import
    from opentelemetry import metrics  # noqa: PLC0415 - see above

    provider = metrics.get_meter_provider()
    # the API's own providers do nothing, and that of its proxy is private
    is_idle = type(provider).__module__.startswith(module)
    return None if is_idle else provider
