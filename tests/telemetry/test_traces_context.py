"""What reaches the children, and what is traced with other providers, or none."""

from __future__ import annotations

import contextvars
from pathlib import Path

import pytest
import trio
from opentelemetry import baggage, context, trace

from programs import finished
from spans import play, recording, trace_of
from spry_py import Child, open_system
from spry_py.telemetry import configure
from traced import crash, lives, shop, supervisor, tell

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


def test_a_provider_that_the_application_has_set_is_not_replaced(tmp_path: Path) -> None:
    with recording(), pytest.raises(RuntimeError, match="already"):
        configure(str(tmp_path / "spans.jsonl"))
    assert list(tmp_path.iterdir()) == []


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

SAMPLED_OUT = """
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
trace.set_tracer_provider(TracerProvider(sampler=ALWAYS_OFF))
play()
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


def test_a_sampler_that_wants_no_spans_changes_nothing() -> None:
    assert script(SAMPLED_OUT) == ["2"]


@pytest.mark.parametrize(("signal", "events"), [("", "1"), ("logs", "0"), ("logs/dup", "1")])
def test_the_opt_in_for_exceptions_as_logs(signal: str, events: str) -> None:
    assert script(WITH_SDK, OTEL_SEMCONV_EXCEPTION_SIGNAL_OPT_IN=signal) == ["2", events]
