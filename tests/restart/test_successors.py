"""A child that comes back at once runs again in the next pass of trio's scheduler."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar

import pytest
import trio

from spry_py import (
    AlwaysRestart,
    Child,
    DynamicSupervisor,
    NeverRestart,
    SystemSupervisor,
    TooManyRestarts,
    open_system,
)
from stories import Boom, story

whose: ContextVar[str] = ContextVar("whose", default="nobody's")


class Passes(trio.abc.Instrument):
    """Counts the passes of trio's scheduler."""

    def __init__(self) -> None:
        self.count = 0

    def before_io_wait(self, timeout: float) -> None:
        self.count += 1


class Faller:
    """Crashes when it is told to, and notes in which passes it ends and begins."""

    def __init__(self, passes: Passes) -> None:
        self.passes = passes
        self.fall = trio.Event()
        self.ended: list[int] = []
        self.began: list[int] = []
        self.saw: list[str] = []

    async def __call__(self, *, task_status: trio.TaskStatus[None]) -> None:
        self.began.append(self.passes.count)
        self.saw.append(whose.get())
        whose.set("a former incarnation's")
        task_status.started()
        await self.fall.wait()
        self.fall = trio.Event()
        self.ended.append(self.passes.count)
        raise Boom


def alone(faller: Faller) -> SystemSupervisor:
    return SystemSupervisor([Child("it", faller)], strategy="one_for_one", breaker=AlwaysRestart())


def in_pool(_: Faller) -> DynamicSupervisor:
    return DynamicSupervisor(breaker=AlwaysRestart())


Make = Callable[[Faller], SystemSupervisor | DynamicSupervisor]


@pytest.mark.parametrize("make", [alone, in_pool])
@story
async def test_it_runs_in_the_next_pass_of_the_scheduler(make: Make) -> None:
    passes = Passes()
    trio.lowlevel.add_instrument(passes)
    faller = Faller(passes)
    whose.set("the supervisor's")
    async with open_system(make(faller)) as tree:
        if make is in_pool:
            await tree.start_child(Child("it", faller))
        for _ in range(3):
            faller.fall.set()
            await trio.sleep(1)
    waits = [after - before for before, after in zip(faller.ended, faller.began[1:], strict=True)]
    assert waits == [1, 1, 1]
    # each in a task of its own, born in the context of the supervisor
    assert faller.saw == ["the supervisor's"] * 4


@story
async def test_a_refusal_is_followed_as_ever() -> None:
    faller = Faller(Passes())
    children = [Child("it", faller)]
    with pytest.raises(TooManyRestarts, match="it"):
        async with open_system(children, strategy="one_for_one", breaker=NeverRestart()):
            faller.fall.set()
            await trio.sleep_forever()
    assert len(faller.began) == 1


@story
async def test_its_breaker_is_asked_in_the_context_of_the_supervisor() -> None:
    asked: list[str] = []

    class Breaker:
        def may_restart(self, key: str, now: float) -> bool:
            asked.append(whose.get())
            return True

    faller = Faller(Passes())
    whose.set("the supervisor's")
    children = [Child("it", faller)]
    async with open_system(children, strategy="one_for_one", breaker=Breaker):
        for _ in range(2):
            faller.fall.set()
            await trio.sleep(1)
    assert asked == ["the supervisor's"] * 2
