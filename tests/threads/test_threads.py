"""Blocking functions as children: how they start, live, and end."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable
from functools import partial
from typing import Any, assert_type

import pytest
import trio

from blocking import SECONDS, Jump, by_hand, until, until_asked
from spry_py import (
    Child,
    ChildFailure,
    Failed,
    Normal,
    RunTimeout,
    Scope,
    StartTimeout,
    TerminationReport,
    current_context,
    open_system,
)
from spry_py.threads import ThreadStart, thread
from stories import Boom, Record, story_with_threads


def told(report: TerminationReport | None) -> tuple[object, str]:
    assert report is not None
    return report.reason, report.burden


# What is written


def test_equal_if_its_fields_are_equal() -> None:
    start = thread(print, "a", ["b"])
    assert start == thread(print, "a", ["b"])
    assert hash(start) == hash(thread(print, "a", ["b"]))
    assert start != thread(print, "a", ["c"])
    assert start != thread(sorted, "a", ["b"])  # type: ignore[call-arg, arg-type]
    assert Child("a", start) == Child("a", thread(print, "a", ["b"]))


def test_it_is_frozen_and_says_what_it_is() -> None:
    start = thread(until_asked, 7)
    with pytest.raises(AttributeError):
        start.fn = print  # type: ignore[misc]
    assert repr(start) == "thread(until_asked, 7)"
    assert repr(thread(partial(print))) == "thread(functools.partial(<built-in function print>))"
    assert Child("a", start).kind == "thread"


async def an_async_one() -> None: ...


class AsyncCall:
    async def __call__(self) -> None: ...


@pytest.mark.parametrize(
    ("wrong", "word"),
    [(7, "not 7"), (None, "not None"), (an_async_one, "async one"), (AsyncCall(), "async one")],
)
def test_anything_but_a_blocking_function_is_refused(wrong: Any, word: str) -> None:
    with pytest.raises(TypeError, match=f"thread: fn must be a blocking function.*{word}"):
        thread(wrong)


def speaker(greeting: str, *, task_status: trio.TaskStatus[str]) -> None:
    task_status.started(f"{greeting}, {current_context().path}")
    until_asked()


# How it starts


@story_with_threads
async def test_the_started_value_goes_to_whoever_started_it() -> None:
    values: list[object] = []

    async def system(scope: Scope) -> None:
        start = assert_type(thread(speaker, "hello"), ThreadStart[str])
        greeting = await scope.start(Child("a", start))
        values.append(assert_type(greeting, str))
        values.append(await scope.start(Child("b", thread(until_asked))))

    async with open_system(system, name="top") as tree:
        assert values == ["hello, top/a", None]
        assert [(info.kind, info.status) for info in tree.which_children()] == [
            ("thread", "running"),
            ("thread", "running"),
        ]
        names = {one.name for one in threading.enumerate()}
        assert {"top/a", "top/b"} <= names


@story_with_threads
async def test_it_is_not_started_before_it_says_so() -> None:
    begun, go = threading.Event(), threading.Event()

    def slow(task_status: trio.TaskStatus[int]) -> None:
        begun.set()
        assert go.wait(SECONDS)
        task_status.started(7)
        until_asked()

    async with open_system([]) as tree, trio.open_nursery() as nursery:
        nursery.start_soon(tree.start_child, Child("a", thread(slow)))
        await until(begun)
        assert tree.child("a").status == "starting"
        go.set()
        assert await tree.child("a").wait_started() == 7


@story_with_threads
async def test_it_may_say_so_from_a_thread_of_its_own() -> None:
    def delegating(*, task_status: trio.TaskStatus[int]) -> None:
        other = threading.Thread(target=task_status.started, args=(7,))
        other.start()
        other.join(SECONDS)
        until_asked()

    async with open_system([Child("a", thread(delegating))]) as tree:
        assert tree.child("a").value == 7


def raising(error: BaseException) -> object:
    raise error


def raising_late(error: BaseException, *, task_status: trio.TaskStatus[None]) -> object:
    raise error


@story_with_threads
async def test_one_that_raises_before_it_has_started_has_failed_its_start() -> None:
    error = Boom("no")
    with pytest.raises(ChildFailure) as caught:
        async with open_system([Child("a", thread(raising_late, error))]):
            raise AssertionError("not reached")
    assert caught.value.__cause__ is error


@story_with_threads
async def test_one_that_returns_before_it_has_started_has_failed_its_start() -> None:
    def mute(*, task_status: trio.TaskStatus[None]) -> None: ...

    with pytest.raises(ChildFailure, match=r"returned before it called task_status\.started"):
        async with open_system([Child("a", thread(mute))]):
            raise AssertionError("not reached")


@story_with_threads
async def test_started_twice_is_an_error_in_the_thread() -> None:
    def twice(*, task_status: trio.TaskStatus[int]) -> str:
        task_status.started(1)
        with pytest.raises(RuntimeError, match="twice"):
            task_status.started(2)
        return "refused"

    async with open_system([Child("a", thread(twice), restart="transient")]) as tree:
        assert told(await tree.child("a").wait()) == (Normal("refused"), "none")


@by_hand
async def test_a_start_that_takes_too_long_ends_when_its_function_does(jump: Jump) -> None:
    late = []

    def too_late(*, task_status: trio.TaskStatus[None]) -> None:
        until_asked()
        with pytest.raises(RuntimeError, match="after its start was cancelled") as caught:
            task_status.started()
        late.append(caught.value)

    async def failing() -> None:
        with pytest.raises(ChildFailure) as caught:
            await tree.start_child(Child("a", thread(too_late), start_timeout=3))
        assert isinstance(caught.value.__cause__, StartTimeout)

    async with open_system([]) as tree, trio.open_nursery() as nursery:
        nursery.start_soon(failing)
        await jump(0)
        await jump(3)
    assert len(late) == 1


@story_with_threads
async def test_without_a_thread_to_be_had_the_start_fails() -> None:
    async def none_left(*args: object, **options: object) -> None:
        raise RuntimeError("can't start new thread")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trio.to_thread, "run_sync", none_left)
        with pytest.raises(ChildFailure) as caught:
            async with open_system([Child("a", thread(until_asked))]):
                raise AssertionError("not reached")
    assert repr(caught.value.__cause__) == repr(RuntimeError("can't start new thread"))


@story_with_threads
async def test_cancelled_before_it_runs_it_never_does() -> None:
    ran: list[int] = []

    async def child() -> bool:
        with trio.CancelScope() as scope:
            scope.cancel()
            await thread(ran.append, 1)()
        return scope.cancelled_caught

    async with open_system([Child("a", child, restart="transient")]) as tree:
        assert told(await tree.child("a").wait()) == (Normal(True), "none")
    assert ran == []


# How it ends


@pytest.mark.parametrize("fn", [lambda: 7, partial(int, "7"), (7).__int__])
def test_what_it_returns_is_its_value(fn: Callable[[], object]) -> None:
    async def main() -> None:
        async with open_system([Child("a", thread(fn), restart="transient")]) as tree:
            assert told(await tree.child("a").wait()) == (Normal(7), "none")

    trio.run(main)


@story_with_threads
async def test_what_it_raises_is_its_failure_and_its_traceback_begins_there() -> None:
    error = Boom("in the thread")
    go = threading.Event()

    def failing() -> None:
        assert go.wait(SECONDS)
        raising(error)

    async with open_system([Child("a", thread(failing), restart="temporary")]) as tree:
        handle = tree.child("a")
        go.set()
        report = await handle.wait()
    assert told(report) == (Failed(error), "none")
    assert report.exception is error
    assert [frame.name for frame in traceback.extract_tb(error.__traceback__)] == [
        "failing",
        "raising",
    ]


@story_with_threads
async def test_a_failure_is_followed_by_a_restart() -> None:
    runs: list[int] = []

    def failing_once() -> None:
        runs.append(current_context().incarnation)
        if len(runs) == 1:
            raise Boom
        until_asked()

    async with open_system([Child("a", thread(failing_once))]) as tree:
        while len(runs) < 2:
            await trio.sleep(0.001)
        assert tree.child("a").restarts == 1
    assert runs == [1, 2]


@story_with_threads
async def test_asked_to_finish_it_hears_and_finishes() -> None:
    seen = []
    begun = threading.Event()

    def listener() -> str:
        seen.append(current_context().is_settling)
        begun.set()
        until_asked()
        seen.append(current_context().is_settling)
        trio.from_thread.check_cancelled()
        return "done"

    record = Record()

    async def last() -> None:
        try:
            await trio.sleep_forever()
        finally:
            record("last")

    async with open_system([Child("z", last), Child("a", thread(listener))]) as tree:
        await until(begun)
    assert told(tree.child("a").last_report) == (Normal("done"), "settling")
    assert seen == [False, True]
    assert record.order == "last"


@pytest.mark.parametrize("error", [Boom("late"), None], ids=["raises", "returns"])
def test_how_it_ends_after_an_abort_is_not_lost(error: Boom | None) -> None:
    def late() -> str:
        until_asked()
        if error is not None:
            raise error
        return "late"

    async def main() -> None:
        async with open_system([Child("a", thread(late), shutdown=0)]) as tree:
            pass
        expected = Failed(error) if error is not None else Normal("late")
        assert told(tree.child("a").last_report) == (expected, "aborted")

    trio.run(main)


@story_with_threads
async def test_cancelled_from_outside_it_still_settles() -> None:
    handles = []
    with trio.CancelScope() as scope:
        async with open_system([Child("a", thread(until_asked, "value"))]) as tree:
            handles.append(tree.child("a"))
            scope.cancel()
            await trio.sleep_forever()
    assert told(handles[0].last_report) == (Normal("value"), "settling")


@by_hand
async def test_past_its_run_timeout_it_is_asked_and_has_failed(jump: Jump) -> None:
    child = Child("a", thread(until_asked), run_timeout=5, restart="temporary")
    async with open_system([child], name="top") as tree:
        handle = tree.child("a")
        await jump(5)
        report = await handle.wait()
    assert isinstance(report.exception, RunTimeout)


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_an_exit_exception_stops_the_tree_and_comes_out_of_it(kind: type[BaseException]) -> None:
    record = Record()
    error = kind()

    async def other() -> None:
        await current_context().settled()
        record("settled")

    async def main() -> None:
        with pytest.raises(kind) as caught:
            async with open_system([Child("b", other), Child("a", thread(raising, error))]):
                await trio.sleep_forever()
        assert caught.value is error

    trio.run(main)
    assert record.order == "settled"
