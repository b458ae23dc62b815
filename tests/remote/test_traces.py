"""The trace goes on over there: what is recorded far away belongs to the start of the child."""

from __future__ import annotations

import trio
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanContext

import faraway
from spans import play, recording
from spry_py import Child, SystemSupervisor, open_system
from spry_py.remote import remote
from spry_py.testing import FakeEngine


def context_of(span: ReadableSpan) -> SpanContext:
    context = span.get_span_context()
    assert context is not None
    return context


def test_spans_far_away_are_below_the_start_of_the_child() -> None:
    async def story() -> None:
        async with FakeEngine() as engine:
            children = [
                Child("traced", remote(engine, faraway.with_a_span)),
                Child("shelves", remote(engine, SystemSupervisor(faraway.shelves))),
            ]
            async with open_system(children, name="app") as app:
                values.append(app.child("traced").value)
                await trio.sleep(10)

    values: list[str] = []
    with recording() as spans:
        play(story)
    starts = {
        (span.attributes or {})["spry.child.path"]: span for span in spans.named("spry.child.start")
    }
    assert values == [str(context_of(starts["app/traced"]).trace_id)]
    for near, far in (("app/traced", "traced/traced"), ("app/shelves", "shelves/shelves")):
        above = starts[far].parent
        assert above is not None
        assert above.is_remote
        assert above.span_id == context_of(starts[near]).span_id
    boot = context_of(starts["app/shelves"]).trace_id
    assert context_of(starts["shelves/shelves/milk"]).trace_id == boot
