"""Where the telemetry of a tree goes: to the providers of the application, or into a capture.

A capture is for the trees that are opened in its context, so that trees beside it know nothing of
it, and no provider of the process is replaced.
"""

from __future__ import annotations

import logging
from contextvars import ContextVar
from typing import Final, NamedTuple

from opentelemetry import metrics, trace


class Capture(NamedTuple):
    """What takes the place of the application's own; ``logger`` stands in front of its loggers."""

    tracers: trace.TracerProvider
    meters: metrics.MeterProvider
    logger: logging.Logger


capturing: Final[ContextVar[Capture | None]] = ContextVar("spry_py capture", default=None)


def tracer_provider() -> trace.TracerProvider | None:
    """The tracer provider for a tree that is opened here; ``None`` if nothing is recorded."""
    capture = capturing.get()
    if capture is not None:
        return capture.tracers
    provider = trace.get_tracer_provider()
    idle = (trace.ProxyTracerProvider, trace.NoOpTracerProvider)
    return None if isinstance(provider, idle) else provider


def meter_provider() -> metrics.MeterProvider | None:
    """The same for metrics."""
    capture = capturing.get()
    if capture is not None:
        return capture.meters
    provider = metrics.get_meter_provider()
    # the API's own providers do nothing, and that of its proxy is private
    is_idle = type(provider).__module__.startswith("opentelemetry.metrics")
    return None if is_idle else provider
