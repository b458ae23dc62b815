"""Section 5: how stops, interruptions and exits are traced, and what reaches the children."""

from __future__ import annotations

import contextvars
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trio
from opentelemetry import baggage, context, trace

from programs import finished
from spans import Recorder, Seen, play, recording, start, startup, teardown, term, trace_of, wait
from spry_py import Child, SystemSupervisor, cancel_on_settle, current_context, open_system
from traced import BEFORE_STARTED, crash, forever, idle, lives, shop, supervisor, tell, told


async def settles() -> None:
    with cancel_on_settle():
        await trio.sleep_forever()


def asked_then(after: Callable[[], Awaitable[Any]]) -> Callable[[], Awaitable[None]]:
    """A child that listens, and answers being asked in its own way."""

    async def child() -> None:
        await current_context().settled()
        await after()

    return child


async def raises() -> None:
    raise OSError("disk full")


def stops(tree: SystemSupervisor, until: float = 1.0) -> tuple[Seen, ...]:
    (only,) = tell(tree, until).trees("spry.teardown")
    assert only[:5] == teardown("shop", late=only.status == "error")[:5]
    return only.children


# What becomes of a child that is asked to end


def test_a_child_that_settles() -> None:
    assert stops(shop(Child("a", settles))) == (wait("shop/a", reason="normal", burden="settling"),)


def test_a_child_that_fails_while_settling_is_recorded_and_nothing_else() -> None:
    assert stops(shop(Child("a", asked_then(raises)))) == (
        wait("shop/a", reason="failed", burden="settling", raised="OSError: disk full"),
    )


def test_a_child_that_outlives_its_time_makes_the_teardown_an_error() -> None:
    child = Child("a", asked_then(trio.sleep_forever), shutdown=2.5)
    spans = tell(shop(child), until=1.0)
    assert spans.trees("spry.teardown") == [
        teardown("shop", wait("shop/a", lifetime=3.5), late=True)
    ]


def test_a_child_that_fails_after_its_abort() -> None:
    async def bad_clean_up() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise OSError("disk full")

    assert stops(shop(Child("a", bad_clean_up))) == (
        wait("shop/a", reason="failed", burden="aborted", raised="OSError: disk full"),
    )


def test_a_stuck_child_is_told_on_the_span_that_waits_for_it() -> None:
    async def shields_itself() -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(5)

    (waited,) = stops(shop(Child("a", shields_itself)))
    assert waited[:4] == wait("shop/a", lifetime=6.0)[:4]
    assert len(waited.events) == 2
    for event in waited.events:
        assert "shields_itself" in "\n".join(event)


def test_the_clean_up_of_a_child_that_ended_is_not_waited_for_again() -> None:
    child = Child("a", lives((1.0, None)), restart="transient")
    assert stops(shop(child, Child("b", idle)), until=2.0) == (wait("shop/b", lifetime=2.0),)


@pytest.mark.parametrize(
    ("options", "name"),
    [({"run_timeout": 1.0}, "RunTimeout"), ({"heartbeat": 1.0}, "Unresponsive")],
)
def test_an_end_by_a_limit_is_a_failure_of_that_name(options: dict[str, Any], name: str) -> None:
    async def beats_once() -> None:
        current_context().heartbeat()
        await trio.sleep_forever()

    child = Child("a", beats_once, restart="temporary", **options)
    (seen,) = tell(shop(child, Child("b", idle))).trees("spry.term")
    assert seen.attributes["error.type"].endswith(name)
    assert seen.events[0][1] == seen.attributes["error.type"]
    assert (seen.status, seen.attributes["spry.child.lifetime"]) == ("error", 1.0)


@pytest.mark.parametrize(
    ("group", "expected"),
    [
        (ExceptionGroup("one", [ValueError("x")]), "ValueError"),
        (ExceptionGroup("two", [ValueError("x"), OSError("y")]), "ExceptionGroup"),
    ],
)
def test_one_leaf_of_a_group_gives_its_own_type(group: Exception, expected: str) -> None:
    child = Child("a", lives((1.0, group)), restart="temporary")
    (seen,) = tell(shop(child, Child("b", idle))).trees("spry.term")
    assert seen.attributes["error.type"] == expected
    assert [event[1] for event in seen.events] == [expected]


# A root that is stopped from inside, from outside, and too early


def test_stop_is_traced_below_its_caller() -> None:
    async def story() -> None:
        async with open_system(shop(Child("a", idle))) as tree:
            await trio.sleep(1)
            with trace.get_tracer("host").start_as_current_span("closing time"):
                await tree.stop()

    with recording() as spans:
        play(story)
    (host,) = spans.trees("closing time")
    assert host.children == (teardown("shop", wait("shop/a")),)
    assert len(spans.trees()) == 2


def test_abort_of_the_root() -> None:
    async def story() -> None:
        async with open_system(shop(Child("a", settles))) as tree:
            await trio.sleep(1)
            tree.abort()
            await tree.wait()

    with recording() as spans:
        play(story)
    assert [tree.children for tree in spans.trees("spry.teardown")] == [(wait("shop/a"),)]
    assert spans.named("spry.term") == []


def test_a_root_cancelled_from_outside_stops_in_order() -> None:
    inner = supervisor(Child("b", settles), Child("c", settles))

    async def story() -> None:
        with trio.move_on_after(1):
            await forever(shop(Child("a", settles), Child("inner", inner)))

    with recording() as spans:
        play(story)
    settled: dict[str, Any] = {"reason": "normal", "burden": "settling"}
    below = teardown("shop/inner", wait("shop/inner/c", **settled), wait("shop/inner/b", **settled))
    assert spans.trees("spry.teardown") == [
        teardown(
            "shop",
            wait("shop/inner", below, kind="supervisor", **settled),
            wait("shop/a", **settled),
        )
    ]
    assert spans.named("spry.term") == []


def test_an_interrupted_start_is_no_error() -> None:
    async def slow(*, task_status: trio.TaskStatus[None]) -> None:
        await trio.sleep_forever()

    async def story() -> None:
        with trio.move_on_after(1):
            await forever(shop(Child("a", idle), Child("slow", slow), Child("never", idle)))

    with recording() as spans:
        play(story)
    assert {span.status.status_code.name for span in spans.begun} == {"UNSET"}
    assert [event for span in spans.begun for event in span.events] == []
    (boot,) = spans.trees("spry.startup")
    assert boot.children[:2] == (start("shop/a"), start("shop/slow"))
    assert "shop/never" not in str(spans.trees())


def test_a_stop_during_a_backoff_ends_the_attempt_without_an_error() -> None:
    child = Child("a", lives(crash()), backoff=lambda _: 1000.0)
    (seen,) = tell(shop(child, Child("b", idle)), until=5.0).trees("spry.term")
    assert seen[:5] == term("shop/a", raised="ValueError: boom")[:5]
    assert [(below.name, below.status) for below in seen.children] == [
        ("spry.try_restart", "unset")
    ]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3)])
def test_an_exit_exception_is_a_failure_that_asks_for_no_restart(error: BaseException) -> None:
    tree = shop(Child("a", settles), Child("b", lives((1.0, error))), Child("c", settles))
    with recording() as spans, pytest.raises(type(error)) as failure:
        play(lambda: forever(tree))
    assert failure.value is error
    (seen,) = spans.trees("spry.term")
    assert seen[:5] == term("shop/b", wanted=False, raised=told(error))[:5]
    ended = [seen.attributes["spry.child.path"] for seen in every(spans, "wait_for_termination")]
    assert ended == ["shop/c", "shop/a"]


def every(spans: Recorder, name: str) -> list[Seen]:
    return [seen for tree in spans.trees() for seen in flat(tree) if seen.name == f"spry.{name}"]


def flat(tree: Seen) -> list[Seen]:
    return [tree, *(seen for child in tree.children for seen in flat(child))]


# What reaches the children, and what does not


def test_children_are_born_with_no_current_span_but_with_everything_else() -> None:
    tenant: contextvars.ContextVar[str] = contextvars.ContextVar("tenant")
    seen: list[tuple[bool, object, str | None]] = []

    async def child() -> None:
        is_in_span = trace.get_current_span().get_span_context().is_valid
        seen.append((is_in_span, baggage.get_baggage("order"), tenant.get(None)))
        await trio.sleep(1)
        if len(seen) < 3:
            raise ValueError("boom")
        await trio.sleep_forever()

    async def story() -> None:
        tenant.set("acme")
        token = context.attach(baggage.set_baggage("order", "o-17"))
        try:
            with trace.get_tracer("host").start_as_current_span("host"):
                await opened()
        finally:
            context.detach(token)

    async def opened() -> None:
        async with open_system(shop(Child("sub", supervisor(Child("a", child))))):
            await trio.sleep(10)

    with recording() as spans:
        play(story)
    assert seen == [(False, "o-17", "acme")] * 3
    assert len(spans.named("spry.term")) == 2


def test_a_root_and_its_incidents_are_no_part_of_the_span_that_opened_them() -> None:
    async def story() -> None:
        with trace.get_tracer("host").start_as_current_span("host"):
            async with open_system(shop(Child("a", lives(crash())))):
                await trio.sleep(2)

    with recording() as spans:
        play(story)
    (host,) = spans.named("host")
    outside = {span.name for span in spans.begun if trace_of(span) != trace_of(host)}
    assert {"spry.startup", "spry.term", "spry.try_restart"} <= outside


def test_spans_of_the_child_itself_are_traces_of_their_own() -> None:
    async def works() -> None:
        with trace.get_tracer("app").start_as_current_span("work"):
            await trio.sleep(1)
        await trio.sleep_forever()

    spans = tell(shop(Child("a", works)))
    assert [(seen.name, seen.children) for seen in spans.trees("work")] == [("work", ())]


def test_a_failed_attempt_has_no_termination_of_its_own() -> None:
    child = Child("a", lives(crash(), (BEFORE_STARTED, OSError("busy"))))
    spans = tell(shop(child))
    assert len(spans.named("spry.term")) == 1
    recorded = [(span.name, len(span.events)) for span in spans.begun if span.events]
    assert recorded == [("spry.term", 1), ("spry.child.start", 1)]


def test_boots_of_two_trees_are_two_traces() -> None:
    async def story() -> None:
        for _ in range(2):
            async with open_system(shop(Child("a", idle))):
                await trio.sleep(1)

    with recording() as spans:
        play(story)
    assert spans.trees("spry.startup") == [startup("shop", start("shop/a"))] * 2
    assert len({trace_of(span) for span in spans.begun}) == 4


# Without an SDK, and with the opt-in for exceptions

STORY = """
import trio
from trio.testing import MockClock
from spry_py import Child, SystemSupervisor, open_system

crashed = []

async def child():
    await trio.sleep(1)
    if not crashed:
        crashed.append(1)
        raise ValueError("boom")
    await trio.sleep_forever()

async def story():
    tree = SystemSupervisor([Child("a", child)], name="shop")
    async with open_system(tree) as shop:
        await trio.sleep(5)
        print(shop.child("a").incarnation)

def play():
    trio.run(story, clock=MockClock(autojump_threshold=0))
"""

WITHOUT_SDK = """
import opentelemetry.trace as api
made = []
init = api.NonRecordingSpan.__init__
api.NonRecordingSpan.__init__ = lambda self, context: (made.append(context), init(self, context))[1]
play()
import sys
print(len(made), "opentelemetry.sdk" in sys.modules)
"""

WITH_SDK = """
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
exporter = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(provider)
play()
print(sum(len(span.events) for span in exporter.get_finished_spans()))
"""


def script(text: str, **variables: str) -> list[str]:
    done = finished(["-c", STORY + text], Path.cwd(), **variables)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_without_an_sdk_the_tree_works_and_makes_no_spans() -> None:
    assert script(WITHOUT_SDK) == ["2", "0", "False"]


@pytest.mark.parametrize(("signal", "events"), [("", "1"), ("logs", "0"), ("logs/dup", "1")])
def test_the_opt_in_for_exceptions_as_logs(signal: str, events: str) -> None:
    assert script(WITH_SDK, OTEL_SEMCONV_EXCEPTION_SIGNAL_OPT_IN=signal) == ["2", events]
