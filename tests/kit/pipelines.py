"""What the stories about pipes share: workers that write all down, and steps to strike at."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from typing import Any, Never

import trio

from spry_py import (
    AlwaysRestart,
    Child,
    SystemHandle,
    SystemSupervisor,
    current_context,
    open_system,
)
from spry_py.lowlevel import context_of
from spry_py.pipes import DeadLetter, Pipe, Stage, Worker, pipeline
from stories import Boom, Record

Function = Callable[[Pipe[Any, Any]], Awaitable[None]]


def counting(last: int) -> Function:
    """A source of the numbers from 1 on that goes on where it was."""

    async def count(pipe: Pipe[Never, int]) -> None:
        for number in range(pipe.passed_on + 1, last + 1):
            await pipe.put(number)

    return count


class Taker:
    """A worker that writes down what it begins with, and what it comes to the end of."""

    def __init__(self, steps: int = 1) -> None:
        self.steps = steps
        self.begun: list[int] = []
        self.done: list[int] = []

    async def work(self, pipe: Pipe[int, int]) -> None:
        async for number in pipe:
            await self.apply(number)

    async def apply(self, number: int) -> int:
        self.begun.append(number)
        for _ in range(self.steps):
            await trio.lowlevel.checkpoint()
        self.done.append(number)
        return number


class Noted:
    """A worker that records what it takes, and breaks at some items, the first so many times."""

    def __init__(self, record: Record, breaks: dict[int, int] | None = None, lasts: float = 0):
        self.record = record
        self.breaks = breaks or {}
        self.lasts = lasts

    async def work(self, pipe: Pipe[int, int]) -> None:
        self.record(f"start {current_context().incarnation}")
        async for item in pipe:
            await self.apply(item)
        self.record("end")

    async def apply(self, item: int) -> int:
        self.record(f"<{item}")
        await trio.sleep(self.lasts)
        if self.breaks.get(item):
            self.breaks[item] -= 1
            raise Boom(f"at {item}")
        self.record(f"{item}>")
        return item


def collected(into: list[Any]) -> Stage:
    return Stage("end", into.append)


def letters() -> tuple[trio.MemorySendChannel[DeadLetter], Callable[[], list[DeadLetter]]]:
    """A channel for dead letters that never is full, and what takes all that are in it."""
    send, receive = trio.open_memory_channel[DeadLetter](1000)

    def take() -> list[DeadLetter]:
        found = []
        while receive.statistics().current_buffer_used:
            found.append(receive.receive_nowait())
        return found

    return send, take


class Striker(trio.abc.Instrument):
    """Counts the steps of the tasks of a tree, and strikes before some of them."""

    def __init__(self, paths: Collection[str], strikes: Collection[int]) -> None:
        self.paths = paths
        self.strikes = strikes
        self.steps = 0
        self.on_strike: Callable[[trio.lowlevel.Task], object] = fail
        self.struck = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        context = context_of(task)
        if context is None or context.path not in self.paths:
            return
        self.steps += 1
        if self.steps in self.strikes:
            self.struck += 1
            self.on_strike(task)


def fail(task: trio.lowlevel.Task) -> None:
    """Cancel the worker at the await where it stands, and let it have failed."""
    context = context_of(task)
    assert context is not None
    context.fail(Boom(context.key))


class Line:
    """A pipeline of three stages below a supervisor that always restarts it."""

    def __init__(
        self,
        last: int = 3,
        *,
        on_crash: Any = "redeliver",
        maps: bool = True,
        capacity: int = 0,
        workers: int = 1,
        breaker: Any = AlwaysRestart(),  # noqa: B008 - frozen
    ) -> None:
        self.last = last
        self.begun_anew = 0
        self.middle, self.end = Taker(), Taker()
        self.dead, self.take_dead = letters()
        options: Any = {
            "on_crash": on_crash,
            "capacity": capacity,
            "max_deliveries": float("inf"),
            "workers": workers,
        }
        middle = (
            Stage("middle", self.middle.apply, **options)
            if maps
            else Worker("middle", self.middle.work, **options)
        )
        self.stages = (
            Worker("source", counting(last)),
            middle,
            Worker("end", self.end.work, **options),
        )
        self.pipeline = pipeline(*self.stages, dead_letters=self.dead, breaker=breaker)
        self.paths = {
            f"line/pipeline/{key}"
            for key in ("source", "middle", "end", "middle-1", "middle-2", "end-1", "end-2")
        }

    def tree(self) -> SystemSupervisor:
        child = Child("pipeline", self.pipeline, restart="transient")
        return SystemSupervisor([child], name="line", breaker=AlwaysRestart())

    async def run(
        self,
        striker: Striker,
        act: Callable[[SystemHandle], Awaitable[bool]] | None = None,
    ) -> None:
        """To its end; with ``act``, that is done at each strike.

        It answers whether the whole pipeline had come to its end before, and has begun anew.
        """
        orders: list[None] = []
        ordered = trio.Event()
        if act is not None:

            def give_order(task: trio.lowlevel.Task) -> None:
                orders.append(None)
                ordered.set()

            striker.on_strike = give_order
        trio.lowlevel.add_instrument(striker)
        try:
            async with open_system(self.tree()) as handle, trio.open_nursery() as nursery:
                nursery.start_soon(self._end_with, handle, nursery.cancel_scope)
                while act is not None:
                    await ordered.wait()
                    ordered = trio.Event()
                    while orders:
                        orders.pop()
                        self.begun_anew += await act(handle)
        finally:
            trio.lowlevel.remove_instrument(striker)

    async def _end_with(self, handle: SystemHandle, scope: trio.CancelScope) -> None:
        while handle.child("pipeline").status != "done":
            await trio.sleep(1)
        scope.cancel()


def strike_each_step(play: Callable[[int], Striker]) -> None:
    """Play a story once undisturbed, and then once for each of its steps, struck there."""
    number, steps = 0, 15
    while number <= steps:
        striker = play(number)
        # the first run is left alone
        steps = steps if number else striker.steps
        assert striker.struck == (number > 0)
        number += 1
    assert number > 15, "there are more steps than that"
