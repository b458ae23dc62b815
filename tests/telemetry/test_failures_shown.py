"""The traceback of a failure begins in the user's file, wherever that failure is shown."""

from __future__ import annotations

import traceback
from typing import Any

import pytest
import trio

from spry_py import (
    AlwaysRestart,
    Child,
    ChildFailure,
    DynamicSupervisor,
    NeverRestart,
    NonChildFailure,
    Scope,
    TerminationReport,
    TooManyRestarts,
    UnrecoverableFailure,
    current_context,
    open_system,
)
from spry_py.components import component
from spry_py.periodic import periodic
from spry_py.threads import thread
from stories import Boom, story, story_with_threads


def first_place(error: BaseException | None) -> tuple[str, str]:
    """The file and the function in which the traceback of an exception begins."""
    assert error is not None
    first = traceback.extract_tb(error.__traceback__)[0]
    return first.filename, first.name


def here(function: str) -> tuple[str, str]:
    return __file__, function


async def crash() -> None:
    await trio.sleep(1)
    raise Boom("in crash")


async def crash_in_a_nursery() -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(crash)


async def crash_at_once(*, task_status: trio.TaskStatus[None]) -> None:
    raise Boom("in crash_at_once")


class Crashes:
    """An object whose `run` fails."""

    async def run(self) -> None:
        await crash()


async def failed(child: Child[Any]) -> list[BaseException | None]:
    """What is shown of the failure of a child, in each of the places that show it."""
    shown: list[BaseException | None] = []

    async def hook(report: TerminationReport) -> None:
        shown.append(report.exception)
        # as it is at that moment: what is raised later only adds to it
        assert first_place(report.exception)[0] == __file__

    handle: Any = None
    with pytest.raises(TooManyRestarts) as caught:
        async with open_system([child.replace(on_termination=hook)], breaker=NeverRestart) as tree:
            handle = tree.child(child.key)
            await trio.sleep_forever()
    assert handle.last_report is not None
    return [*shown, handle.last_report.exception, caught.value.__cause__]


@story
async def test_of_a_child() -> None:
    for error in await failed(Child("child", crash)):
        assert first_place(error) == here("crash")


@story
async def test_of_a_child_with_a_group() -> None:
    for error in await failed(Child("child", crash_in_a_nursery)):
        assert isinstance(error, ExceptionGroup)
        assert first_place(error) == here("crash_in_a_nursery")
        assert first_place(error.exceptions[0]) == here("crash")


@story
async def test_of_a_child_that_runs_again_and_again() -> None:
    for error in await failed(Child("child", periodic(crash, every=1))):
        assert first_place(error) == here("crash")


@story_with_threads
async def test_of_a_child_in_a_thread() -> None:
    def crash_in_thread() -> None:
        raise Boom("in the thread")

    for error in await failed(Child("child", thread(crash_in_thread))):
        assert first_place(error) == here("crash_in_thread")


@story
async def test_of_a_component() -> None:
    run: Any = None
    with pytest.raises(UnrecoverableFailure) as caught:
        async with open_system([Child("thing", component(Crashes), breaker=NeverRestart)]) as tree:
            run = tree.find("thing/run")
            await trio.sleep_forever()
    assert caught.value.root_cause is not None
    assert first_place(caught.value.root_cause) == here("run")
    assert run.last_report is not None
    assert first_place(run.last_report.exception) == here("run")


@story
async def test_of_a_child_that_was_failed_by_its_context() -> None:
    async def fail() -> None:
        await trio.sleep(1)
        try:
            raise Boom("told")
        except Boom as error:
            current_context().fail(error)
        await trio.sleep_forever()

    for error in await failed(Child("child", fail)):
        assert first_place(error) == here("fail")


@story
async def test_of_a_start() -> None:
    with pytest.raises(ChildFailure) as caught:
        async with open_system([Child("child", crash_at_once)]):
            raise AssertionError("it has not started")
    assert first_place(caught.value.__cause__) == here("crash_at_once")


@story
async def test_of_a_system_function() -> None:
    async def system(scope: Scope) -> None:
        await crash()

    with pytest.raises(NonChildFailure) as caught:
        async with open_system(system):
            raise AssertionError("it has not started")
    assert first_place(caught.value.__cause__) == here("system")


@pytest.mark.parametrize("where", ["on_termination", "recoverable", "backoff", "own", "breaker"])
@story
async def test_of_what_is_asked_about_a_child(where: str) -> None:
    def ask(*_: object) -> Any:
        raise Boom("in ask")

    async def hook(report: object) -> None:
        ask()

    class Breaks:
        may_restart = ask

    options: dict[str, dict[str, Any]] = {
        "on_termination": {"on_termination": hook},
        "recoverable": {"recoverable": ask},
        "backoff": {"backoff": ask},
        "own": {"breaker": Breaks},
        "breaker": {},
    }
    breaker: Any = Breaks if where == "breaker" else AlwaysRestart
    with pytest.raises(UnrecoverableFailure) as caught:
        async with open_system([Child("child", crash, **options[where])], breaker=breaker):
            await trio.sleep_forever()
    asked = "hook" if where == "on_termination" else "ask"
    assert first_place(caught.value.__cause__) == here(asked)


@story
async def test_of_a_task_in_its_result_and_in_what_is_raised() -> None:
    async def each(item: int) -> None:
        await crash()

    async with open_system(DynamicSupervisor()) as pool:
        async with pool.map(each, [1]) as results:
            [result] = [result async for result in results]
        assert first_place(result.exception) == here("each")  # type: ignore[union-attr]
        with pytest.raises(Boom) as caught:
            await pool.run(crash)
    # it has come all the way to this test, from where it was raised
    frames = traceback.extract_tb(caught.value.__traceback__)
    assert (frames[0].filename, frames[-1].name) == here("crash")
