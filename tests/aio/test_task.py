"""A coroutine function of asyncio as a child: how it starts, lives and ends, in both ways."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from functools import partial
from typing import Any

import pytest
import trio

import spry_py
from spry_py import (
    Child,
    ChildFailure,
    Failed,
    Normal,
    RunTimeout,
    Scope,
    StartTimeout,
    SystemHandle,
    TerminationReport,
    TooManyRestarts,
    Unresponsive,
    aio,
    current_context,
    open_system,
)
from spry_py.aio import TaskStart, cancel_on_settle, settled, started, task
from spry_py.events import ChildStuck
from stories import Boom
from ways import both_ways

COLOUR: ContextVar[str] = ContextVar("COLOUR", default="none")


def told(report: TerminationReport | None) -> tuple[object, str]:
    assert report is not None
    return report.reason, report.burden


async def end_of(start: TaskStart, **options: Any) -> TerminationReport:
    """How a child ends that is not restarted, in a tree that goes on."""
    alone: dict[str, Any] = {
        "restart": "transient",
        "recoverable": lambda error: False,
        "on_unrecoverable": "discard",
    }
    async with open_system([Child("a", start, **{**alone, **options})]) as handle:
        return await handle.child("a").wait()


async def for_ever() -> None:
    await asyncio.get_running_loop().create_future()


async def ready(value: object) -> None:
    await asyncio.sleep(0)
    started(value)
    await for_ever()


async def later(value: object) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(ready(value))


async def by_attribute() -> None:
    await asyncio.sleep(0)
    aio.started("by its module")
    await for_ever()


async def through(fn: Any, *args: Any) -> None:
    await fn(*args)


class Server:
    async def serve(self) -> None:
        await self.listen()

    async def listen(self) -> None:
        await asyncio.sleep(0)
        started(self)
        await for_ever()

    async def __call__(self) -> None:
        await self.serve()


# What is written


def test_it_is_a_frozen_value() -> None:
    start = task(ready, 7)
    assert start == task(ready, 7)
    assert hash(start) == hash(task(ready, 7))
    assert start != task(ready, 8)
    assert start != task(later, 7)
    assert Child("a", start) == Child("a", task(ready, 7))
    assert repr(task(ready, [7])) == "task(ready, [7])"
    with pytest.raises(AttributeError):
        start.args = ()  # type: ignore[misc]


def test_only_a_coroutine_function_will_do() -> None:
    with pytest.raises(TypeError, match="task: fn must be an async function"):
        task(told, None)  # type: ignore[arg-type]
    coroutine = for_ever()
    with pytest.raises(TypeError, match="without calling it"):
        task(coroutine)  # type: ignore[arg-type]


def test_a_loop_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="task: loop must be one of 'asyncio', 'uvloop'"):
        task(for_ever, loop="curio")  # type: ignore[arg-type]
    monkeypatch.setattr("spry_py.aio.tasks.find_spec", lambda name: None)
    with pytest.raises(ValueError, match="needs the package 'uvloop', which is not installed"):
        task(for_ever, loop="uvloop")


def test_whether_it_will_say_that_it_is_started_is_seen_in_its_code() -> None:
    def seen(start: TaskStart) -> bool:
        return start.calls_started

    async def unrelated() -> None:
        await asyncio.sleep(0)

    async def refers() -> None:
        await to_come()

    assert not seen(task(for_ever))
    assert not seen(task(unrelated))
    assert not seen(task(asyncio.sleep, 1))
    assert seen(task(ready, 1))
    assert seen(task(later, 1))
    assert seen(task(partial(later, 1)))
    assert seen(task(by_attribute))
    assert seen(task(through, ready, 1))
    assert seen(task(through, partial(ready, 1)))
    assert seen(task(Server().serve))
    assert seen(task(Server()))
    assert not seen(task(refers))
    assert seen(task(for_ever, calls_started=True))
    assert not seen(task(ready, 1, calls_started=False))
    # seen only from now on
    to_come = unrelated


# Started


@both_ways
async def test_the_block_made_for_trio_names_the_one_made_for_asyncio() -> None:
    async def wrong() -> None:
        with spry_py.cancel_on_settle():
            await for_ever()

    with pytest.raises(ChildFailure, match=r"write `async with spry_py\.aio\.cancel_on_settle"):
        async with open_system([Child("a", task(wrong))]):
            raise AssertionError("never comes to this")


@both_ways
async def test_it_is_started_at_its_first_suspension() -> None:
    record: list[object] = []

    async def plain() -> None:
        record.append("before")
        await for_ever()

    async def shop(scope: Scope) -> None:
        record.append(await scope.start(Child("a", task(plain))))

    async with open_system(shop):
        assert record == ["before", None]


@both_ways
async def test_it_is_started_when_it_says_so() -> None:
    values: list[object] = []

    async def shop(scope: Scope) -> None:
        for number, start in enumerate((task(ready, 1), task(later, 2), task(Server().serve))):
            values.append(await scope.start(Child(f"{number}", start)))
        values.append(await scope.start(Child("module", task(by_attribute))))

    async with open_system(shop):
        assert values[:2] == [1, 2]
        assert isinstance(values[2], Server)
        assert values[3] == "by its module"


@both_ways
async def test_a_thread_of_the_task_may_say_so() -> None:
    async def serve() -> None:
        await asyncio.to_thread(started, "from a thread")
        await for_ever()

    async with open_system([Child("a", task(serve))]) as handle:
        assert handle.child("a").value == "from a thread"


@both_ways
async def test_it_says_so_once() -> None:
    async def twice() -> None:
        started(1)
        started(2)

    report = await end_of(task(twice))
    assert "called task_status.started() twice" in str(report.exception)


@both_ways
async def test_too_late_is_an_error_that_names_the_way_out() -> None:
    async def hidden() -> None:
        await asyncio.sleep(0)
        vars(aio)["started"](1)

    report = await end_of(task(hidden))
    assert "calls_started=True" in str(report.exception)


@both_ways
async def test_one_that_returns_at_once_has_started() -> None:
    async def quick() -> str:
        return "done"

    async with open_system([Child("a", task(quick), restart="transient")]) as handle:
        assert told(handle.child("a").last_report) == (Normal("done"), "none")


@both_ways
async def test_one_that_raises_before_has_failed_its_start() -> None:
    async def broken() -> None:
        raise Boom("at once")

    with pytest.raises(ChildFailure) as caught:
        async with open_system([Child("a", task(broken))]):
            pass  # pragma: no cover
    assert isinstance(caught.value.__cause__, Boom)


@both_ways
async def test_one_that_returns_before_it_has_said_so_has_failed_its_start() -> None:
    with pytest.raises(ChildFailure, match="before it called"):
        async with open_system([Child("a", task(asyncio.sleep, 0, calls_started=True))]):
            pass  # pragma: no cover


@both_ways
async def test_a_start_that_hangs_is_cancelled() -> None:
    record: list[str] = []

    async def hangs() -> None:
        record.append("begun")
        try:
            await for_ever()
        finally:
            record.append("cleaned up")
        started()  # pragma: no cover

    with pytest.raises(ChildFailure) as caught:
        async with open_system([Child("a", task(hangs), start_timeout=0.05)]):
            pass  # pragma: no cover
    assert isinstance(caught.value.__cause__, StartTimeout)
    # on a busy machine its thread may not have come so far
    assert record in (["begun", "cleaned up"], [])


@both_ways
async def test_a_start_may_be_cancelled_at_once() -> None:
    with trio.CancelScope() as scope:
        scope.cancel()
        async with open_system([Child("a", task(ready, 1))]):
            pass  # pragma: no cover
    assert scope.cancelled_caught


@both_ways
async def test_it_needs_a_tree() -> None:
    with pytest.raises(RuntimeError, match="outside a supervision tree"):
        await task(for_ever)()
    for speak in (started, cancel_on_settle):
        with pytest.raises(RuntimeError, match=r"outside a task of asyncio"):
            speak()
    with pytest.raises(RuntimeError, match=r"settled\(\) was called outside"):
        await settled()


# Inside


@both_ways
async def test_context_variables_reach_it() -> None:
    seen: list[object] = []

    async def look() -> None:
        context = current_context()
        seen.extend((COLOUR.get(), context.path, context.incarnation, context.is_settling))
        seen.append(await asyncio.create_task(nested()))
        seen.append(await asyncio.to_thread(lambda: current_context().path))
        await for_ever()

    async def nested() -> str:
        return current_context().path

    COLOUR.set("blue")
    async with open_system([Child("a", task(look))], name="app"):
        while len(seen) < 6:
            await trio.sleep(0.001)
    assert seen == ["blue", "app/a", 1, False, "app/a", "app/a"]


@both_ways
async def test_fail_ends_it_whatever_it_makes_of_that() -> None:
    error = Boom("given up")

    async def gives_up() -> str:
        await asyncio.sleep(0)
        current_context().fail(error)
        try:
            await for_ever()
        except asyncio.CancelledError:
            return "well"
        raise AssertionError

    assert told(await end_of(task(gives_up))) == (Failed(error), "none")


@both_ways
async def test_without_heartbeats_it_is_unresponsive() -> None:
    async def beats_once() -> None:
        await asyncio.sleep(0)
        current_context().heartbeat()
        await for_ever()

    report = await end_of(task(beats_once), heartbeat=0.05)
    assert isinstance(report.exception, Unresponsive)


@both_ways
async def test_its_time_may_be_limited() -> None:
    report = await end_of(task(for_ever), run_timeout=0.05)
    assert isinstance(report.exception, RunTimeout)


@both_ways
async def test_timeouts_and_groups_of_asyncio_work() -> None:
    async def inside() -> list[object]:
        seen: list[object] = []
        try:
            async with asyncio.timeout(0.01):
                await for_ever()
        except TimeoutError:
            own = asyncio.current_task()
            assert own is not None
            seen.append(f"timeout {own.cancelling()}")
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(for_ever())
                group.create_task(fails())
        except* Boom:
            seen.append("group")
        return seen

    async def fails() -> None:
        raise Boom

    report = await end_of(task(inside))
    assert report.reason == Normal(["timeout 0", "group"])


# Ends


@both_ways
async def test_exceptions_come_out_bare() -> None:
    error = Boom("bare")

    async def fails() -> None:
        await asyncio.sleep(0)
        raise error

    report = await end_of(task(fails))
    assert report.exception is error
    assert error.__traceback__ is not None
    assert error.__traceback__.tb_frame.f_code.co_name == "fails"
    assert error.__context__ is None


@both_ways
async def test_an_exit_stops_the_root_and_comes_out_the_same() -> None:
    interrupt = KeyboardInterrupt("from a child")

    async def leaves() -> None:
        await asyncio.sleep(0)
        raise interrupt

    with pytest.raises(KeyboardInterrupt) as caught:
        async with open_system([Child("a", task(leaves)), Child("b", task(for_ever))]):
            await trio.sleep_forever()
    assert caught.value is interrupt


async def cancelled_by_itself() -> None:
    own = asyncio.current_task()
    assert own is not None
    own.cancel()
    await for_ever()


async def raises_it() -> None:
    await asyncio.sleep(0)
    raise asyncio.CancelledError("mine")


async def awaits_a_cancelled_one() -> None:
    other = asyncio.create_task(for_ever())
    await asyncio.sleep(0)
    other.cancel()
    await other


@pytest.mark.parametrize("stray", [cancelled_by_itself, raises_it, awaits_a_cancelled_one])
@both_ways
async def test_a_cancellation_that_no_one_asked_for_is_a_failure(stray: Any) -> None:
    report = await end_of(task(stray))
    assert report.burden == "none"
    assert isinstance(report.exception, RuntimeError)
    assert "no one has asked for" in str(report.exception)
    assert isinstance(report.exception.__cause__, asyncio.CancelledError)


@both_ways
async def test_a_group_that_holds_one_is_what_else_is_in_it() -> None:
    async def fails() -> None:
        await asyncio.sleep(0)
        raise BaseExceptionGroup("both", [asyncio.CancelledError(), Boom("other")])

    report = await end_of(task(fails))
    assert isinstance(report.exception, ExceptionGroup)
    assert isinstance(report.cause, Boom)


@both_ways
async def test_a_task_that_does_not_listen_is_cancelled_at_once() -> None:
    async with open_system([Child("a", task(for_ever))], name="app") as handle:
        a = handle.child("a")
    assert [report_of(a)] == ["Aborted aborted"]


def report_of(child: Any) -> str:
    report = child.last_report
    return f"{type(report.reason).__name__} {report.burden}"


async def settles() -> str:
    async with cancel_on_settle() as block:
        await for_ever()
    own = asyncio.current_task()
    assert own is not None
    return f"{block.cancelled} {current_context().settling_for} {own.cancelling()}"


async def settles_in_a_plain_block() -> str:
    with cancel_on_settle() as block:
        await for_ever()
    own = asyncio.current_task()
    assert own is not None
    return f"{block.cancelled} {current_context().settling_for} {own.cancelling()}"


async def waits_to_settle() -> str:
    await settled()
    await settled()
    with cancel_on_settle() as block:
        await for_ever()
    return f"{block.cancelled} {current_context().settling_for} 0"


async def settles_in_a_nested_task() -> str:
    async with asyncio.TaskGroup() as group:
        nested = group.create_task(settles())
    return nested.result()


@pytest.mark.parametrize(
    "polite", [settles, settles_in_a_plain_block, waits_to_settle, settles_in_a_nested_task]
)
@both_ways
async def test_a_task_that_listens_is_asked_first(polite: Any) -> None:
    async with open_system([Child("a", task(polite), shutdown=60)]) as handle:
        a = handle.child("a")
        await listening(a)
    assert told(a.last_report) == (Normal("True stop 0"), "settling")


async def listening(child: Any) -> None:
    """Tasks are started at their first suspension, some before they listen."""
    while "for_ever" not in child.stack() and "settled" not in child.stack():
        await trio.sleep(0.001)


@both_ways
async def test_a_block_that_is_over_is_cancelled_no_more() -> None:
    async def works() -> str:
        async with cancel_on_settle():
            await asyncio.sleep(0)
        started()
        await settled()
        await asyncio.sleep(0)
        return "not cancelled"

    async with open_system([Child("a", task(works), shutdown=60)]) as handle:
        a = handle.child("a")
    assert told(a.last_report) == (Normal("not cancelled"), "settling")


@both_ways
async def test_one_that_settles_too_slowly_is_cancelled() -> None:
    async def slow() -> None:
        started()
        await settled()
        await for_ever()

    async with open_system([Child("a", task(slow), shutdown=0.05)]) as handle:
        a = handle.child("a")
        await listening(a)
    assert report_of(a) == "Aborted aborted"


@both_ways
async def test_a_clean_up_that_fails_is_told() -> None:
    async def fails() -> None:
        try:
            await for_ever()
        finally:
            raise Boom("in its clean-up")

    async with open_system([Child("a", task(fails))]) as handle:
        a = handle.child("a")
    assert report_of(a) == "Failed aborted"


@both_ways
async def test_a_swallowed_cancellation_is_repeated_and_reported_with_the_stack() -> None:
    swallowed: list[str] = []

    async def deaf() -> str:
        while len(swallowed) < 2:
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(helper())
            except asyncio.CancelledError:
                swallowed.append("swallowed")
        return "at last"

    async def helper() -> None:
        await for_ever()

    async with open_system([Child("a", task(deaf))]) as handle:
        async with handle.events() as events:
            await handle.stop()
            stuck = [event async for event in events if isinstance(event, ChildStuck)]
        a = handle.child("a")
    assert told(a.last_report) == (Normal("at last"), "aborted")
    assert swallowed == ["swallowed", "swallowed"]
    assert [event.path for event in stuck] == ["system/a"]
    assert " in deaf\n" in stuck[0].stack
    assert " in helper\n" in stuck[0].stack


# Restarts


@both_ways
async def test_it_is_restarted_and_gives_up_as_any_other() -> None:
    runs: list[int] = []

    async def fails() -> None:
        runs.append(current_context().incarnation)
        started(len(runs))
        await asyncio.sleep(0)
        raise Boom(f"run {len(runs)}")

    with pytest.raises(TooManyRestarts) as caught:
        async with open_system([Child("a", task(fails))], strategy="one_for_one"):
            await trio.sleep_forever()
    assert runs == [1, 2, 3, 4]
    assert isinstance(caught.value.root_cause, Boom)


@both_ways
async def test_a_replay_hands_on_the_new_value() -> None:
    given: list[object] = []

    async def db() -> None:
        started(f"connection {current_context().incarnation}")
        await for_ever()

    async def api(connection: object) -> None:
        given.append(connection)
        await for_ever()

    async def shop(scope: Scope) -> None:
        connection = await scope.start(Child("db", task(db)))
        await scope.start(Child("api", task(api, connection)))

    async with open_system(shop, strategy="rest_for_one") as handle:
        handle.child("db").fail(Boom("lost"))
        await handle.child("api").wait_incarnation(2)
    assert given == ["connection 1", "connection 2"]


@both_ways
async def test_it_may_be_a_task_of_a_handle() -> None:
    async def double(number: int) -> int:
        await asyncio.sleep(0)
        return 2 * number

    async with open_system([Child("a", task(for_ever))]) as handle:
        assert isinstance(handle, SystemHandle)
        assert await handle.run(task(double, 21)) == 42
