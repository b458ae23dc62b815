"""Starts at the edges: cut off, too late, or born in unusual places."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest
import trio
from opentelemetry import trace

from actors import Actor
from callers import answer
from pools import open_pool
from spans import play, recording
from spry_py import (
    AlwaysRestart,
    Child,
    ChildFailure,
    NonChildFailure,
    Normal,
    Scope,
    SupervisorStopped,
    SystemHandle,
    SystemSupervisor,
    cancel_on_settle,
    current_context,
    open_system,
)
from stories import Boom, Record, story


async def idle() -> None:
    await trio.sleep_forever()


@story
async def test_one_that_fails_itself_before_its_first_checkpoint_was_never_started() -> None:
    async def child() -> None:
        current_context().fail(Boom("at once"))
        await trio.sleep_forever()

    with pytest.raises(ChildFailure) as caught:
        async with open_system([Child("a", child)]):
            pass
    assert repr(caught.value.__cause__) == "Boom('at once')"


@story
async def test_started_after_the_end_is_refused() -> None:
    kept: list[trio.TaskStatus[None]] = []

    async def child(*, task_status: trio.TaskStatus[None]) -> None:
        kept.append(task_status)
        raise Boom

    async with open_system([]) as tree:
        with pytest.raises(ChildFailure):
            await tree.start_child(Child("a", child))
        with pytest.raises(RuntimeError, match=r"'system/a' called .* after its end"):
            kept[0].started()


@story
async def test_a_run_limit_counts_no_more_once_it_has_been_asked_to_settle() -> None:
    async def child(*, task_status: trio.TaskStatus[None]) -> str:
        with cancel_on_settle():
            await trio.sleep_forever()
        await trio.sleep(1)
        task_status.started()
        await trio.sleep(5)
        return "in peace"

    async with open_system([]) as tree, trio.open_nursery() as nursery:
        late = Child("a", child, run_timeout=2, shutdown=20)
        nursery.start_soon(answer, tree.start_child(late))
        await trio.sleep(1)
        handle = tree.child("a")
        await tree.stop()
    report = handle.last_report
    assert report is not None
    assert (report.reason, report.burden, report.ended_at) == (Normal("in peace"), "settling", 7)


@story
async def test_a_caller_cancelled_while_the_start_fails_finds_nothing_to_take_back() -> None:
    scope = trio.CancelScope()

    async def child(*, task_status: trio.TaskStatus[None]) -> None:
        await trio.sleep(1)
        scope.cancel()
        raise Boom

    async with open_system([Child("b", idle)]) as tree:
        with scope:
            await tree.start_child(Child("a", child))
        assert scope.cancelled_caught
        assert [info.key for info in tree.which_children()] == ["b"]
        await tree.start_child(Child("a", idle))


@story
async def test_one_that_never_got_its_turn_has_no_report_to_wait_for() -> None:
    async with trio.open_nursery() as nursery, open_pool(max_running=1) as pool:
        await pool.start_child(Child("a", idle))
        nursery.start_soon(answer, pool.start_child(Child("b", idle)))
        await trio.sleep(1)
        handle = pool.child("b")
        await pool.terminate_child("b")
        with pytest.raises(SupervisorStopped, match="'pool/b' was never started"):
            await handle.wait()


@story
async def test_awaiting_something_foreign_fails_that_child() -> None:
    class Foreign:
        def __await__(self) -> Generator[object, None, None]:
            yield self

    async def child() -> None:
        await trio.sleep(1)
        await Foreign()

    async with open_system([Child("a", child, restart="temporary")]) as tree:
        report = await tree.child("a").wait()
    assert isinstance(report.exception, TypeError)
    assert (report.burden, report.ended_at) == ("none", 1)


@story
async def test_a_breaker_that_cannot_answer_fails_the_start() -> None:
    def factory() -> Any:
        return {}

    with pytest.raises(NonChildFailure) as caught:
        async with open_system([Child("a", idle)], breaker=factory):
            pass
    assert isinstance(caught.value.__cause__, TypeError)
    assert "made no breaker" in str(caught.value.__cause__)


def test_a_child_is_born_outside_the_span_of_its_system_function() -> None:
    spans: list[object] = []

    async def child() -> None:
        spans.append(trace.get_current_span())
        await trio.sleep_forever()

    async def system(scope: Scope) -> None:
        with trace.get_tracer("mine").start_as_current_span("outer"):
            assert trace.get_current_span() is not trace.INVALID_SPAN
            await scope.start(Child("a", child))

    async def tell() -> None:
        async with open_system(system):
            pass

    with recording():
        play(tell)
    assert spans == [trace.INVALID_SPAN]


def test_the_span_of_a_start_cut_off_by_its_own_handle_says_so() -> None:
    async def slow(*, task_status: trio.TaskStatus[None]) -> None:
        if current_context().incarnation == 1 and not handles:
            task_status.started()
        await trio.sleep(1)
        raise Boom

    handles: list[SystemHandle] = []

    async def tell() -> None:
        inner = SystemSupervisor([Child("leaf", slow)], breaker=AlwaysRestart)
        async with open_system([Child("sub", inner)], strategy="one_for_one", name="top") as tree:
            handles.append(tree.child("sub").value)
            handles[0].abort()
            await trio.sleep(0.5)
            assert tree.child("sub").status == "starting"
            handles[0].abort()
            await trio.sleep(0.1)

    with recording() as told:
        play(tell)
    starts = [span for span in told.named("spry.child.start") if span.status.description]
    assert [span.status.description for span in starts][:1] == ["it was cancelled"]


@story
async def test_a_task_of_the_system_function_may_call_once_the_system_is_up() -> None:
    record = Record()
    a = Actor(record, "a")
    async with trio.open_nursery() as nursery:

        async def later(handle: SystemHandle) -> None:
            record(await answer(handle.start_child(Child("b", idle))))
            await trio.sleep(1)
            record(await answer(handle.start_child(Child("b", idle))))

        async def system(scope: Scope) -> None:
            await scope.start(a.child())
            if handles:
                nursery.start_soon(later, handles[0])
                await trio.sleep(0.5)

        handles: list[SystemHandle] = []
        async with open_system(system) as tree:
            handles.append(tree)
            record.take()
            a.die()
            await trio.sleep(3)
            assert record.take() == [(0, "-a1"), (0, "+a2"), (0, "WouldDeadlock"), (1, "ok")]


@pytest.mark.parametrize(
    ("strategy", "said"), [("one_for_one", "ok"), ("one_for_all", "WouldDeadlock")]
)
@story
async def test_a_nested_system_function_may_call_above_unless_it_is_waited_for(
    strategy: Any, said: str
) -> None:
    record = Record()
    above: list[SystemHandle] = []

    async def nested(scope: Scope) -> None:
        await scope.start(Child("leaf", idle))
        if above:
            record(await answer(above[0].start_child(Child("b", idle))))

    sub = SystemSupervisor(nested, breaker=AlwaysRestart)
    async with open_system([Child("sub", sub)], strategy=strategy) as tree:
        above.append(tree)
        tree.child("sub").value.abort()
        await trio.sleep(1)
        assert record.take() == [(0, said)]


class Begins:
    """Its start function returns something else than a coroutine."""

    def __init__(self, *, awaitable: bool) -> None:
        self.awaitable = awaitable

    def __call__(self, *, task_status: trio.TaskStatus[str]) -> Any:
        return Begun(task_status) if self.awaitable else 7


class Begun:
    def __init__(self, status: trio.TaskStatus[str]) -> None:
        self.status = status

    def __await__(self) -> Generator[Any, None, None]:
        return self.live().__await__()

    async def live(self) -> None:
        self.status.started("begun")
        await trio.sleep_forever()


@story
async def test_a_start_function_that_takes_a_status_may_return_any_awaitable() -> None:
    async with open_system([Child("a", Begins(awaitable=True))]) as tree:
        assert (tree.child("a").status, tree.child("a").value) == ("running", "begun")


@story
async def test_a_start_function_that_returns_nothing_to_await_has_failed_to_start() -> None:
    with pytest.raises(ChildFailure) as caught:
        async with open_system([Child("a", Begins(awaitable=False))], name="top"):
            pass
    assert isinstance(caught.value.__cause__, TypeError)
    assert "child 'top/a'" in str(caught.value.__cause__)
