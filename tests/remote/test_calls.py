"""`RemoteStart.call`: a step of a child's work that is done on another machine."""

from __future__ import annotations

import trio
from opentelemetry import trace

import faraway
from faraway import RECORD, Broken
from spans import play, recording, trace_of
from spry_py import Child, Failed, Normal, TerminationReport, current_context, open_system
from spry_py.remote import RemoteLost, remote
from spry_py.testing import FakeEngine
from stories import story


async def end_of(child: Child[object]) -> TerminationReport:
    async with open_system([], name="app") as app:
        return await (await app.start_child(child)).wait()


async def adding(engine: FakeEngine, *, task_status: trio.TaskStatus[None]) -> int:
    task_status.started()
    total: int = await remote(engine, faraway.add, 1, 2).call()
    total += await remote(engine, faraway.add, 3, 4).call()
    return total


async def listening(engine: FakeEngine, *, task_status: trio.TaskStatus[None]) -> int:
    asked = current_context().cancel_on_settle()
    task_status.started()
    value: int = await remote(engine, faraway.add, 1, 2).call()
    with asked:
        await trio.sleep_forever()
    return value


async def breaking(engine: FakeEngine, *, task_status: trio.TaskStatus[None]) -> None:
    task_status.started()
    await remote(engine, faraway.break_after, 5).call()


async def serving(engine: FakeEngine, *, task_status: trio.TaskStatus[None]) -> None:
    task_status.started()
    await remote(engine, faraway.serve, "far").call()


@story
async def test_what_it_returns_and_raises_is_that_of_the_call() -> None:
    async with FakeEngine() as engine:
        report = await end_of(Child("sum", adding, engine, restart="temporary"))
        assert (report.reason, report.lifetime) == (Normal(10), 2)
        report = await end_of(Child("sum", breaking, engine, restart="temporary"))
        assert isinstance(report.reason, Failed)
        assert type(report.exception) is Broken
        assert report.lifetime == 5


@story
async def test_a_machine_that_is_lost_is_a_failure_of_the_caller() -> None:
    async with FakeEngine() as engine, open_system([], name="app") as app:
        child = await app.start_child(Child("caller", serving, engine, restart="temporary"))
        await trio.sleep(3)
        engine.crash("node-1")
        report = await child.wait()
    lost = "remote child 'app/caller' is lost: its process on node-1 has died"
    assert type(report.exception) is RemoteLost
    assert str(report.exception) == lost


@story
async def test_a_caller_that_is_asked_to_finish_waits_for_the_value() -> None:
    async with FakeEngine() as engine:
        async with open_system([], name="app") as app:
            caller = await app.start_child(Child("caller", listening, engine))
            await trio.sleep(0.5)
        assert caller.last_report is not None
        assert (caller.last_report.reason, caller.last_report.burden) == (Normal(3), "settling")
        assert trio.current_time() == 1


@story
async def test_a_caller_that_is_cancelled_ends_it_there() -> None:
    async with FakeEngine(latency=1) as engine:
        async with open_system([Child("caller", serving, engine, shutdown=2)]):
            await trio.sleep(10)
            assert RECORD == [(3, "+far")]
        # it does not listen, and is aborted at once
        assert RECORD == [(3, "+far"), (11, "-far")]
        assert trio.current_time() == 12


def test_it_belongs_to_the_span_that_it_is_called_in() -> None:
    async def tracing(engine: FakeEngine, *, task_status: trio.TaskStatus[None]) -> None:
        task_status.started()
        with trace.get_tracer("shop").start_as_current_span("order"):
            await remote(engine, faraway.in_a_span, "inside").call()
        await remote(engine, faraway.in_a_span, "outside").call()

    async def story() -> None:
        async with FakeEngine() as engine:
            await end_of(Child("caller", tracing, engine, restart="temporary"))

    with recording() as spans:
        play(story)
    (order,) = spans.named("order")
    (inside,) = spans.named("inside")
    (outside,) = spans.named("outside")
    begun = next(
        span
        for span in spans.named("spry.child.start")
        if (span.attributes or {})["spry.child.path"] == "app/caller"
    )
    assert trace_of(inside) == trace_of(order)
    assert trace_of(outside) == trace_of(begun)
