"""Calls on a supervisor, after Elixir's SupervisorTest: each test bears its number."""

from __future__ import annotations

import functools
from typing import Any, cast

import pytest
import trio

from callers import answer
from spry_py import (
    Child,
    ChildNotFound,
    Normal,
    SystemHandle,
    SystemSupervisor,
    open_system,
)
from stories import story
from workers import Crash, Crew, counts, die, listing, open_empty


@story
async def test_c08_start_link() -> None:
    async def stack(items: tuple[str, ...], *, task_status: trio.TaskStatus[list[str]]) -> None:
        task_status.started(list(items))
        await trio.sleep(2)

    async with open_system([], name="here", strategy="one_for_one") as handle:
        child = await handle.start_child(Child("stack", stack, ("hello",)))
        assert child.value.pop() == "hello"
        assert child.value == []
        await trio.sleep(3)
        assert (child.value, child.incarnation) == (["hello"], 2)
        assert handle.find("stack").path == "here/stack"


async def plain(value: str, *, task_status: trio.TaskStatus[str]) -> None:
    task_status.started(value)
    await trio.sleep_forever()


class Service:
    async def __call__(self, value: str, *, task_status: trio.TaskStatus[str]) -> None:
        await plain(value, task_status=task_status)


@pytest.mark.parametrize(
    "child",
    [
        Child("child1", plain, "hello"),
        Child("child1", cast(Any, functools.partial(plain, "hello"))),
        Child("child1", cast(Any, Service()), "hello"),
        Child("child1", Service().__call__, "hello"),
    ],
    ids=["function", "partial", "object", "method"],
)
@story
async def test_c11_c12_c13_start_child_takes_every_kind_of_child(child: Child[Any]) -> None:
    async with open_empty() as handle:
        started = await handle.start_child(child)
        assert (started.value, started.kind) == ("hello", "worker")
        assert counts(handle) == (1, 1, 0, 1)


@story
async def test_c13_start_child_takes_a_supervisor() -> None:
    crew = Crew()
    async with open_empty() as handle:
        started = await handle.start_child(Child("child1", SystemSupervisor([crew.worker("x")])))
        assert isinstance(started.value, SystemHandle)
        assert counts(handle) == (1, 1, 1, 0)


@story
async def test_c15_with_valid_child_spec() -> None:
    crew = Crew()
    async with open_empty() as handle:
        for seconds in (0, 1):
            child = crew.worker("child1", shutdown=seconds, restart="temporary")
            started = await handle.start_child(child)
            await handle.terminate_child("child1")
            report = await started.wait()
            assert (report.burden, report.failed) == (
                "aborted" if seconds == 0 else "settling",
                False,
            )
        assert [fact.split()[1] for fact in crew.news()] == [
            "start",
            "aborted",
            "start",
            "returned",
        ]


@story
async def test_c16_child_life_cycle() -> None:
    crew = Crew()
    async with open_empty() as handle:
        assert (listing(handle), counts(handle)) == ([], (0, 0, 0, 0))
        child = await handle.start_child(crew.worker("child1"))
        assert (listing(handle), counts(handle)) == ([("child1", "running", 1)], (1, 1, 0, 1))
        assert await answer(handle.delete_child("child1")) == "ChildRunning"
        assert await answer(handle.terminate_child("child1")) == "ok"
        assert child.value is None
        assert (await handle.restart_child("child1")).value == child.value == "child1#2"
        assert await answer(handle.terminate_child("child1")) == "ok"
        assert await answer(handle.delete_child("child1")) == "ok"
        with pytest.raises(ChildNotFound):
            handle.child("child1")
        assert (listing(handle), counts(handle)) == ([], (0, 0, 0, 0))
        await handle.stop()
        assert (await handle.wait()).reason == Normal(None)
    assert crew.news() == [
        "child1 start",
        "child1 returned",
        "child1 start #2",
        "child1 returned",
    ]


@story
async def test_c16_a_crash_between_the_calls_changes_no_answer() -> None:
    crew = Crew()
    async with open_empty() as handle:
        await handle.start_child(crew.worker("child1"))
        crew.news()
        assert await crew.tell("child1", die) == ["child1 raised Crash", "child1 start #2"]
        report = handle.child("child1").last_report
        assert report is not None
        assert isinstance(report.exception, Crash)
        assert await answer(handle.restart_child("child1")) == "ChildRunning"
        assert await answer(handle.terminate_child("child1")) == "ok"
        assert (await handle.restart_child("child1")).value == "child1#3"
