"""The trace goes on over there: what is recorded far away belongs to the start of the child."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import trio
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanContext

import faraway
from spans import play, recording, start, startup, teardown, term, try_restart, wait
from spry_py import (
    Child,
    NeverRestart,
    RateLimited,
    SystemSupervisor,
    TooManyRestarts,
    open_system,
)
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


async def lived(*children: Child[Any]) -> None:
    """Ten seconds of a program with these children, under a breaker that allows one restart."""
    with suppress(TooManyRestarts):
        async with open_system(
            children, name="app", strategy="one_for_one", breaker=RateLimited(1, 100)
        ):
            await trio.sleep(10)


def test_a_child_far_away_leaves_nothing_but_its_own_start_in_the_trace_of_its_start() -> None:
    async def story() -> None:
        async with FakeEngine() as engine:
            await lived(Child("far", remote(engine, faraway.serve, "far")))

    with recording() as spans:
        play(story)
    far = start("far/far", system=1, restart="temporary")
    assert spans.trees() == [
        startup("app", start("app/far", far, kind="remote")),
        teardown(
            "app",
            wait("app/far", reason="normal", burden="settling", lifetime=11.0, kind="remote"),
        ),
    ]


def test_a_failure_far_away_is_one_incident() -> None:
    async def story() -> None:
        async with FakeEngine() as engine:
            await lived(Child("far", remote(engine, faraway.break_after, 7)))

    with recording() as spans:
        play(story)
    far = start("far/far", restart="temporary")
    raised = "faraway.Broken: ('it broke', 7)"
    assert spans.trees("spry.term") == [
        term(
            "app/far",
            try_restart("app", start("app/far#2", far, kind="remote")),
            kind="remote",
            lifetime=7.0,
            raised=raised,
        )
    ]


def test_a_subtree_far_away_that_gives_up_does_so_in_the_trace_of_its_incident() -> None:
    async def story() -> None:
        async with FakeEngine() as engine:
            tree = SystemSupervisor(faraway.fragile_shelves, name="shelves", breaker=NeverRestart)
            await lived(Child("shelves", remote(engine, tree)))

    with recording() as spans:
        play(story)
    again = start(
        "shelves/shelves",
        startup("shelves/shelves", start("shelves/shelves/milk"), start("shelves/shelves/glass")),
        kind="supervisor",
        restart="temporary",
    )
    milk = "shelves/shelves/milk"
    stopped = teardown(
        "shelves/shelves",
        wait("shelves/shelves/glass", lifetime=2.0),
        wait(milk, reason="normal", burden="settling", lifetime=3.0),
    )
    given_up = (
        "spry_py.TooManyRestarts: too many restarts: 'shelves/shelves/glass' was restarted 0 times "
        "and may not be again; root cause: Broken: ('it broke', 7)"
    )
    (first, *_) = spans.trees("spry.term")
    assert first == term(
        "shelves/shelves/glass",
        try_restart("shelves/shelves", strategy="one_for_all", allowed=False),
        teardown(
            "shelves/shelves",
            wait("shelves/shelves/milk", reason="normal", burden="settling", lifetime=8.0),
        ),
        term(
            "app/shelves",
            try_restart("app", start("app/shelves#2", again, stopped, kind="remote")),
            kind="remote",
            lifetime=8.0,
            raised=given_up,
        ),
        lifetime=7.0,
        raised="faraway.Broken: ('it broke', 7)",
    )
