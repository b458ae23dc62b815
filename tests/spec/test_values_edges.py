"""Specifications at the edges of what is allowed: odd keys, odd start functions, comparison."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Generator
from enum import StrEnum
from typing import Any

import pytest
import trio

from spry_py import Child, DynamicSupervisor, Normal, Scope, SystemSupervisor, open_system
from stories import story

SUPERVISOR = SystemSupervisor([])


class Key(StrEnum):
    DB = "db"


async def idle() -> None:
    await trio.sleep_forever()


@story
async def test_a_member_of_a_str_enum_is_a_key() -> None:
    async with open_system([Child(Key.DB, idle)]) as tree:
        assert [info.path for info in tree.which_children()] == ["system/db"]


def test_a_worker_that_becomes_a_supervisor_gets_the_shutdown_of_one() -> None:
    child = Child("a", idle)
    assert child.replace(start=SUPERVISOR) == Child("a", SUPERVISOR)
    assert child.replace(shutdown=3).replace(start=SUPERVISOR).shutdown == 3


def test_replace_names_the_fields_there_are_not() -> None:
    with pytest.raises(TypeError, match="no field color, size"):
        Child("a", idle).replace(size=1, color="red")  # type: ignore[call-overload]


def test_a_supervisor_takes_no_arguments() -> None:
    make: Any = Child
    with pytest.raises(TypeError, match="args must be empty for a supervisor, not \\(1,\\)"):
        make("a", SUPERVISOR, 1)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Child("a", idle, shutdown=3),
        lambda: DynamicSupervisor(max_children=3),
        lambda: SystemSupervisor(_system, name="a"),
    ],
)
def test_equal_specifications_are_one_in_a_set(make: Callable[[], object]) -> None:
    assert make() == make()
    assert len({make(), make()}) == 1
    assert make() not in (None, "a", 3)


async def _system(scope: Scope) -> None:
    await scope.start(Child("a", idle))


def test_at_least_one_must_be_able_to_run() -> None:
    with pytest.raises(ValueError, match="max_running must be 1 or more, not 0"):
        DynamicSupervisor(max_running=0)


def test_a_supervisor_is_no_system_of_another() -> None:
    make: Any = SystemSupervisor
    with pytest.raises(TypeError, match="to nest it, make it a child"):
        make(SUPERVISOR)


def test_a_class_is_no_system() -> None:
    class System:
        pass

    make: Any = SystemSupervisor
    with pytest.raises(TypeError, match="not the class"):
        make(System)


class _Later:
    """An awaitable that is no coroutine."""

    def __init__(self, work: Callable[[], Awaitable[object]]) -> None:
        self._work = work

    def __await__(self) -> Generator[Any, Any, object]:
        return self._work().__await__()


@story
async def test_a_start_function_may_return_any_awaitable() -> None:
    async def work() -> str:
        await trio.sleep(1)
        return "done"

    def start() -> Awaitable[object]:
        return _Later(work)

    async with open_system([Child("a", start, restart="transient")]) as tree:
        report = await tree.child("a").wait()
    assert (report.reason, report.started_at, report.ended_at) == (Normal("done"), 0, 1)


@story
async def test_a_start_function_may_be_a_wrapper() -> None:
    async def work(name: str) -> str:
        return name

    @functools.wraps(work)
    def start(name):  # type: ignore[no-untyped-def]
        return work(name * 2)

    async with open_system([Child("a", start, "x", restart="transient")]) as tree:
        assert (await tree.child("a").wait()).reason == Normal("xx")


class _Unreadable:
    __signature__ = "none that inspect could read"

    async def __call__(self) -> str:
        return "done"


@story
async def test_one_whose_signature_cannot_be_read_is_given_no_task_status() -> None:
    async with open_system([Child("a", _Unreadable(), restart="transient")]) as tree:
        assert (await tree.child("a").wait()).reason == Normal("done")


@story
async def test_a_handle_and_a_picture_say_how_it_fares() -> None:
    async def once() -> None:
        await trio.sleep(1 if trio.current_time() < 1 else 99)

    async with open_system([Child("a", once)], name="top") as tree:
        assert repr(tree.child("a")) == "<ChildHandle 'top/a', running>"
        await trio.sleep(2)
        assert tree.render() == (
            "top/  [running]  up 2 s; 2 of 3 restarts left\n  a  [running, 1 restart]  up 1 s"
        )
