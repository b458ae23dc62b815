"""Spans of deliveries: only of items that are delivered more than once, each linked to its first,
and of those that are given up.

The span of a delivery is made when the delivery is over, with the times that it had. So it always
ends, and an item that is delivered once, as almost all are, costs nothing.
"""

from __future__ import annotations

import time
from typing import Any

from opentelemetry.context import Context
from opentelemetry.trace import Link, Span, Status, StatusCode

from spry_py.lowlevel import (
    SCOPE,
    error_type,
    guarded,
    library_version,
    record,
    summary_of,
    tracer_provider,
)

from .hand import InHand, Outcome


def tell_delivery(stage: str, held: InHand, outcome: Outcome) -> None:
    """The present delivery is over."""
    if outcome not in ("done", "forwarded") or held.first_try is not None:
        guarded(_emit, stage, held, outcome)


def _emit(stage: str, held: InHand, outcome: Outcome) -> None:
    provider = tracer_provider()
    if provider is None:
        return
    links: list[Link] = []
    if held.first_try is not None:
        links.append(Link(held.first_try, {"spry.link": "redelivery_of"}))
    span = provider.get_tracer(SCOPE, library_version()).start_span(
        "spry.pipe.delivery",
        Context(),
        attributes=_attributes(stage, held, outcome),
        links=links,
        start_time=held.given_at,
    )
    try:
        if outcome in ("failed", "forwarded", "dead") and not held.was_stopped:
            _mark_failed(span, held)
    finally:
        span.end(held.ended_at or time.time_ns())
    if held.first_try is None and span.get_span_context().is_valid:
        held.first_try = span.get_span_context()


def _attributes(stage: str, held: InHand, outcome: Outcome) -> dict[str, Any]:
    attributes: dict[str, Any] = {
        "spry.pipe.stage": stage,
        "spry.pipe.delivery": held.deliveries,
        "spry.pipe.outcome": outcome,
    }
    if held.system is not None:
        attributes["spry.system.path"], attributes["spry.system.incarnation"] = held.system
    if held.context is not None:
        attributes["spry.child.path"] = held.context.path
        attributes["spry.child.incarnation"] = held.context.incarnation
    return attributes


def _mark_failed(span: Span, held: InHand) -> None:
    error = held.exception
    why = "its worker ended" if error is None else summary_of(error)
    span.set_status(Status(StatusCode.ERROR, why))
    span.set_attribute("error.type", error_type(error))
    if error is not None:
        record(span, error, held.ended_at)
