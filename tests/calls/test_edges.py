"""Moments in which two things meet: a replay and a start under way, a call and a busy loop."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import tenacity
import trio
import trio.testing

from spry_py import (
    Child,
    ChildFailure,
    NonChildFailure,
    Scope,
    SpryError,
    SystemHandle,
    SystemSupervisor,
    current_context,
    open_system,
)
from spry_py._program.signals import Signals
from stories import story


async def idle() -> None:
    await trio.sleep_forever()


def test_a_signal_that_comes_after_the_end_stops_nothing() -> None:
    stops: list[str] = []
    service: Any = SimpleNamespace(stops=lambda: stops.append("stop"))
    signals = Signals()
    signals.service = service
    signals.stop()
    assert stops == []


@story
async def test_an_empty_system_that_fails_in_a_replay_goes_on_as_it_was() -> None:
    runs: list[int] = []

    async def system(scope: Scope) -> None:
        runs.append(len(runs))
        if len(runs) == 2:
            raise ValueError("not today")

    async with open_system(system) as handle:
        with pytest.raises(NonChildFailure, match="system"):
            await handle.replay()
        await handle.replay()
    assert runs == [0, 1, 2]


class Slow:
    """A child whose second start takes two seconds, and may fail."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.log: list[str] = []

    async def __call__(self, *, task_status: trio.TaskStatus[str]) -> None:
        number = current_context().incarnation
        if number == 2:
            try:
                await trio.sleep(2)
                if self.error is not None:
                    raise self.error
            except trio.Cancelled:
                self.log.append(f"{number} cancelled at {trio.current_time():g}")
                raise
        self.log.append(f"{number} started at {trio.current_time():g}")
        task_status.started(f"value {number}")
        await trio.sleep_forever()


async def with_a_start_under_way(
    slow: Slow, handle: SystemHandle, nursery: trio.Nursery
) -> list[Any]:
    """The child is down, and a call has begun to start it again; answers what the call got."""
    answers: list[Any] = []

    async def call() -> None:
        try:
            answers.append((await handle.restart_child("slow")).value)
        except SpryError as error:
            answers.append(type(error).__name__)

    await handle.terminate_child("slow")
    nursery.start_soon(call)
    await trio.sleep(0.5)
    assert handle.child("slow").status == "starting"
    return answers


@story
async def test_a_replay_waits_for_a_start_that_a_call_has_begun() -> None:
    slow, values = Slow(), list[Any]()

    async def system(scope: Scope) -> None:
        values.append(await scope.start(Child("slow", slow)))

    async with open_system(system) as handle, trio.open_nursery() as nursery:
        answers = await with_a_start_under_way(slow, handle, nursery)
        await handle.replay()
        assert trio.current_time() == 2
        await trio.lowlevel.checkpoint()
    assert (values, answers) == (["value 1", "value 2"], ["value 2"])


@story
async def test_a_stop_breaks_off_a_replay_that_waits_for_a_start_by_a_call() -> None:
    slow = Slow()
    async with trio.open_nursery() as nursery, open_system([Child("slow", slow)]) as handle:
        answers = await with_a_start_under_way(slow, handle, nursery)
        nursery.start_soon(refused, handle.replay, answers)
        await trio.sleep(0.5)
    assert slow.log == ["1 started at 0", "2 cancelled at 1"]
    assert sorted(answers) == ["Interrupted", "Interrupted"]


async def refused(call: Any, answers: list[Any]) -> None:
    try:
        await call()
    except SpryError as error:
        answers.append(type(error).__name__)


@story
async def test_a_system_that_waits_no_longer_takes_a_start_by_a_call_back() -> None:
    slow = Slow()

    async def system(scope: Scope) -> None:
        with trio.move_on_after(0.25):
            await scope.start(Child("slow", slow))

    async with open_system(system) as handle, trio.open_nursery() as nursery:
        answers = await with_a_start_under_way(slow, handle, nursery)
        await handle.replay()
        assert slow.log == ["1 started at 0", "2 cancelled at 0.75"]
        assert answers == ["Interrupted"]


@story
async def test_a_start_by_a_call_that_fails_fails_the_replay_that_waits_for_it() -> None:
    slow = Slow(OSError("no disk"))
    tree = SystemSupervisor([Child("slow", slow)], name="top", strategy="one_for_one")
    async with open_system(tree) as handle, trio.open_nursery() as nursery:
        answers = await with_a_start_under_way(slow, handle, nursery)
        with pytest.raises(ChildFailure, match="top/slow"):
            await handle.replay()
        assert answers == ["ChildFailure"]
        await trio.sleep(5)
        # nothing has changed: the child is as down as its caller has left it
        assert slow.log == ["1 started at 0"]
        assert handle.child("slow").status == "stopped"


@story
async def test_a_call_of_a_sibling_waits_until_the_replay_is_over() -> None:
    slow = Slow()
    handles: list[SystemHandle] = []
    told: list[str] = []

    async def sibling() -> None:
        await trio.sleep(1)
        await handles[0].start_child(Child("late", idle))
        told.append(f"late started at {trio.current_time():g}")
        await trio.sleep_forever()

    children = [Child("slow", slow), Child("sibling", sibling)]
    async with open_system(children) as handle, trio.open_nursery() as nursery:
        handles.append(handle)
        await with_a_start_under_way(slow, handle, nursery)
        await handle.replay()
        await trio.sleep(1)
    assert told == ["late started at 2"]


@story
async def test_a_stop_that_comes_while_a_changed_child_is_shut_down_starts_it_no_more() -> None:
    log: list[str] = []

    async def lingers(version: int) -> None:
        log.append(f"{version} runs")
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(2)
            log.append(f"{version} ends at {trio.current_time():g}")

    async def system(scope: Scope) -> None:
        await scope.start(Child("a", lingers, len(log)))

    async with trio.open_nursery() as nursery, open_system(system) as handle:
        answers: list[Any] = []
        nursery.start_soon(refused, handle.replay, answers)
        await trio.sleep(1)
    assert log == ["0 runs", "0 ends at 2"]
    assert answers == ["Interrupted"]


@pytest.mark.parametrize("strategy", ["one_for_one", "rest_for_one", "one_for_all"])
def test_between_two_attempts_a_child_is_being_restarted(strategy: Any) -> None:
    told: list[object] = []

    async def flaky(*, task_status: trio.TaskStatus[str]) -> None:
        number = current_context().incarnation
        if number == 2:
            raise ValueError("not yet")
        task_status.started(f"value {number}")
        if number == 1:
            await trio.sleep(1)
            raise ValueError("boom")
        await trio.sleep_forever()

    async def waits(handle: SystemHandle) -> None:
        told.append(await handle.child("a").wait_started())
        report = await handle.child("a").wait()
        told.append((report.incarnation, trio.current_time()))

    async def main() -> None:
        child = Child("a", flaky, backoff=tenacity.wait_fixed(1))
        children = [child, Child("b", idle)]
        tree = open_system(children, strategy=strategy)
        async with trio.open_nursery() as nursery, tree as handle:
            await trio.sleep(2.5)
            told.append(handle.child("a").status)
            nursery.start_soon(waits, handle)
            await trio.sleep(2.5)

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    assert told == ["restarting", "value 3", (3, 5.0)]
