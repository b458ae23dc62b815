"""Children are born in the context of whoever opened the tree, but in nobody's span."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any, NamedTuple

import pytest
import trio
from opentelemetry import baggage, context, trace
from opentelemetry.sdk.trace import TracerProvider

from spans import Recorder, is_ours, play, recording
from spry_py import (
    AlwaysRestart,
    Child,
    DynamicSupervisor,
    PartitionSupervisor,
    Scope,
    SystemSupervisor,
    open_system,
)
from traced import supervisor

NEVER = 1e9
WHO: ContextVar[str] = ContextVar("who", default="nobody")


class View(NamedTuple):
    """What a piece of code finds around it."""

    is_in_span: bool
    baggage: object
    variable: str


OPENER = View(False, "opener", "opener")


def view() -> View:
    span = trace.get_current_span().get_span_context()
    return View(span.is_valid, baggage.get_baggage("who"), WHO.get())


@contextmanager
def within(who: str) -> Iterator[None]:
    """Somebody's own variable, baggage and span."""
    before = WHO.set(who)
    token = context.attach(baggage.set_baggage("who", who))
    try:
        with trace.get_tracer("app").start_as_current_span(who):
            yield
    finally:
        context.detach(token)
        WHO.reset(before)


def litter() -> None:
    """Leave a variable, baggage and an ended span behind, as careless code does."""
    WHO.set("litter")
    context.attach(baggage.set_baggage("who", "litter"))
    span = trace.get_tracer("app").start_span("litter")
    context.attach(trace.set_span_in_context(span))
    span.end()


class Seen:
    """What all incarnations of some children have found at their birth."""

    def __init__(self) -> None:
        self.views: list[View] = []

    async def stay(self) -> None:
        await self.live(NEVER)

    async def live(self, seconds: float) -> None:
        self.look()
        await trio.sleep(seconds)

    async def crash(self) -> None:
        await self.live(1.0)
        if len(self.views) < 6:
            raise ValueError("boom")
        await trio.sleep_forever()

    def look(self) -> None:
        self.views.append(view())
        litter()


@asynccontextmanager
async def opened(tree: Any) -> AsyncIterator[Any]:
    """A tree opened by one and called by another, both of whom are in a span."""
    with within("opener"):
        async with open_system(tree) as handle:
            with within("caller"):
                yield handle


def views_of(story: Callable[[Seen], Awaitable[None]]) -> list[View]:
    seen = Seen()
    with recording() as spans:
        play(partial(story, seen))
    assert not [span for span in spans.begun if is_ours(span) and is_below(spans, span, "litter")]
    return seen.views


def is_below(spans: Recorder, span: Any, name: str) -> bool:
    while span is not None and span.parent is not None:
        span = spans.find(span.parent.span_id)
        if span is not None and span.name == name:
            return True
    return False


# Ways to be born


async def declared(seen: Seen) -> None:
    nested = Child("nested", supervisor(Child("a", seen.stay)))
    partitioned = PartitionSupervisor(lambda _: Child("any", seen.stay), partitions=2)
    async with opened(supervisor(Child("a", seen.stay), nested, Child("parts", partitioned))):
        await trio.sleep(1)


async def restarted(seen: Seen) -> None:
    async with opened(supervisor(Child("a", seen.crash), breaker=AlwaysRestart)):
        await trio.sleep(10)


async def restarted_after_a_while(seen: Seen) -> None:
    flapping = Child("a", seen.crash, backoff=lambda _: 1.0)
    async with opened(supervisor(flapping, breaker=AlwaysRestart)):
        await trio.sleep(20)


async def replayed(seen: Seen) -> None:
    both = [Child("a", seen.stay), Child("b", seen.crash)]
    async with opened(supervisor(*both, strategy="one_for_all", breaker=AlwaysRestart)):
        await trio.sleep(10)


async def replayed_inside_a_span_of_the_system(seen: Seen) -> None:
    async def system(scope: Scope) -> None:
        with trace.get_tracer("app").start_as_current_span("system"):
            await scope.start(Child("a", seen.stay))
            await scope.start_together(Child("b", seen.crash), Child("c", seen.stay))

    tree = SystemSupervisor(system, strategy="one_for_all", breaker=AlwaysRestart)
    async with opened(tree):
        await trio.sleep(10)


async def added(seen: Seen) -> None:
    async with opened(supervisor(Child("z", trio.sleep_forever))) as handle:
        await handle.start_child(Child("a", seen.crash))
        await trio.sleep(2)
        await handle.child("a").restart()
        await handle.terminate_child("a")
        await handle.restart_child("a")


async def replayed_by_call(seen: Seen) -> None:
    async with opened(supervisor(Child("a", seen.stay))) as handle:
        await handle.terminate_child("a")
        await handle.replay()


async def added_to_a_pool(seen: Seen) -> None:
    async with opened(DynamicSupervisor(breaker=AlwaysRestart)) as pool:
        await pool.start_child(Child("a", seen.crash))
        await trio.sleep(3)
        await pool.start_child(Child("a", seen.stay), on_conflict="replace")


async def waiting_for_its_turn(seen: Seen) -> None:
    async with opened(DynamicSupervisor(max_running=1)) as pool, trio.open_nursery() as nursery:
        for key in "abc":
            child = Child(key, seen.live, 1.0, restart="temporary")
            nursery.start_soon(pool.start_child, child)


async def queued_for_a_key(seen: Seen) -> None:
    async with opened(DynamicSupervisor()) as pool, trio.open_nursery() as nursery:
        await pool.start_child(Child("a", seen.stay))
        for _ in range(2):
            nursery.start_soon(pool.start_child, Child("a", seen.stay), "queue")
            await trio.sleep(1)
            await pool.terminate_child("a")


async def resized(seen: Seen) -> None:
    tree = PartitionSupervisor(lambda _: Child("any", seen.stay), partitions=3)
    async with opened(tree) as parts:
        await parts.resize(1)
        await parts.resize(3)


async def run_as_tasks(seen: Seen) -> None:
    async with opened(DynamicSupervisor(max_running=2)) as pool:
        await pool.run(seen.live, 1.0)
        async with pool.map(seen.live, [1.0] * 4, limit=3) as results:
            async for _ in results:
                pass


WAYS = [
    declared,
    restarted,
    restarted_after_a_while,
    replayed,
    replayed_inside_a_span_of_the_system,
    added,
    replayed_by_call,
    added_to_a_pool,
    waiting_for_its_turn,
    queued_for_a_key,
    resized,
    run_as_tasks,
]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_however_a_child_is_born(way: Callable[[Seen], Awaitable[None]]) -> None:
    views = views_of(way)
    assert views == [OPENER] * len(views)
    assert len(views) >= 2


# What children do with it


def names_of_parents(spans: Recorder, name: str) -> list[str | None]:
    """The name of the span in which each span of that name stands."""
    parents = [span.parent and spans.find(span.parent.span_id) for span in spans.named(name)]
    return [parent.name if parent is not None else None for parent in parents]


@contextmanager
def work(name: str) -> Iterator[None]:
    with trace.get_tracer("app").start_as_current_span(name):
        yield


def test_nested_tasks_of_a_child_stand_in_its_own_spans_only() -> None:
    async def task() -> None:
        with work("task"):
            await trio.sleep(1)

    async def child() -> None:
        with work("child"):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(task)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(task)
        raise ValueError("boom")

    async def story() -> None:
        async with opened(supervisor(Child("a", child))):
            await trio.sleep(2.5)

    with recording() as spans:
        play(story)
    assert names_of_parents(spans, "child") == [None, None]
    assert names_of_parents(spans, "task") == ["child", None, "child"]


def test_threads_of_a_child_see_what_the_child_sees() -> None:
    views: list[View] = []
    done = trio.Event()

    def thread() -> None:
        with work("thread"):
            views.append(view())

    async def child(*, task_status: trio.TaskStatus[None]) -> None:
        await trio.to_thread.run_sync(thread)
        with work("child"):
            await trio.to_thread.run_sync(thread)
        task_status.started()
        if len(views) < 4:
            raise ValueError("boom")
        done.set()

    async def story() -> None:
        with trio.fail_after(20):
            async with opened(supervisor(Child("a", child, restart="transient"))):
                await done.wait()

    with recording() as spans:
        trio.run(story)
    assert names_of_parents(spans, "thread") == [None, "child"] * 2
    assert views == [View(True, "opener", "opener")] * 4


def test_a_tree_opened_by_a_child_is_opened_in_the_context_of_that_child() -> None:
    seen = Seen()

    async def child() -> None:
        WHO.set("child")
        with work("child"):
            async with open_system(supervisor(Child("x", seen.stay), name="inner")):
                await trio.sleep_forever()

    async def story() -> None:
        async with opened(supervisor(Child("a", child))):
            await trio.sleep(1)

    with recording():
        play(story)
    assert seen.views == [View(False, "opener", "child")]


def test_what_a_system_function_sets_reaches_the_children_it_declares_from_then_on() -> None:
    seen = Seen()

    async def system(scope: Scope) -> None:
        await scope.start(Child("a", seen.stay))
        WHO.set("system")
        await scope.start(Child("b", seen.crash))

    async def story() -> None:
        tree = SystemSupervisor(system, strategy="one_for_one", breaker=AlwaysRestart)
        async with opened(tree):
            await trio.sleep(2.5)

    with recording():
        play(story)
    assert [seen.variable for seen in seen.views] == ["opener", "system", "system", "system"]


def test_code_that_runs_for_the_supervisor_stands_in_no_span_of_the_library() -> None:
    views: list[View] = []

    async def hook(_: object) -> None:
        views.append(view())

    def recoverable(_: BaseException) -> bool:
        views.append(view())
        return True

    seen = Seen()

    async def crash_once() -> None:
        await trio.sleep(1)
        if not views:
            raise ValueError("boom")
        await seen.stay()

    async def story() -> None:
        watched = Child("a", crash_once, on_termination=hook, recoverable=recoverable)
        async with opened(supervisor(watched)):
            await trio.sleep(5)

    with recording():
        play(story)
    assert views == [OPENER] * 2
    assert seen.views == [OPENER]


def test_children_stand_in_no_span_of_a_provider_that_nobody_has_made_global(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(trace, "get_tracer_provider", trace.NoOpTracerProvider)
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("app")
    seen = Seen()

    async def system(scope: Scope) -> None:
        with tracer.start_as_current_span("system"):
            await scope.start(Child("a", seen.crash))

    async def story() -> None:
        with tracer.start_as_current_span("host"):
            async with open_system(system, name="shop", breaker=AlwaysRestart) as handle:
                await handle.start_child(Child("b", seen.stay))
                await trio.sleep(5)

    play(story)
    assert [seen.is_in_span for seen in seen.views] == [False] * len(seen.views)
    assert len(seen.views) >= 6
