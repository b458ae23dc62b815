"""Every item that was taken from outside is passed on, given up, or still held: once, never twice.

A pipeline between two channels is struck at its steps, one by one and, chosen by Hypothesis, many
in one life: its workers fail, its system is replayed with other functions or another shape, it is
terminated in a pool and begins anew.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from typing import Any, Literal, get_args

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from pipelines import Striker, letters, strike_each_step
from spry_py import (
    AlwaysRestart,
    Child,
    DynamicSupervisor,
    NeverRestart,
    Scope,
    SpryError,
    SystemHandle,
    SystemSupervisor,
    open_system,
)
from spry_py.pipes import Pipe, Stage, Worker, pipeline
from stories import Boom

# thousands of failures
pytestmark = pytest.mark.usefixtures("nothing_is_logged")

How = Literal[
    "fail",
    "escalate",
    "replay",
    "reshape",
    "sibling",
    "reshape by sibling",
    "stop",
    "abort",
    "pool",
]
HOWS: tuple[How, ...] = get_args(How)
# those that may give up what is on its way
RESHAPES = ("reshape", "reshape by sibling", "pool")


class Between:
    """A pipeline between two channels, made anew each time its system runs."""

    def __init__(self, how: How, last: int, **options: Any) -> None:
        self.how = how
        self.last = last
        self.options: dict[str, Any] = {"capacity": 1, "max_deliveries": float("inf")} | options
        feed, self.upstream = trio.open_memory_channel[int](last)
        for number in range(1, last + 1):
            feed.send_nowait(number)
        feed.close()
        self.downstream, self.drain = trio.open_memory_channel[int](float("inf"))
        self.dead, self.take_dead = letters()
        self.made = 0
        self.crash = trio.Event()

    def make(self) -> SystemSupervisor:
        self.made += 1
        options = dict(self.options)
        if self.how in RESHAPES:
            options["capacity"] += self.made % 2
        return pipeline(
            Stage("one", partial(self.pass_on, self.made), shutdown=0, **options),
            Worker("two", partial(self.pass_all_on, self.made), shutdown=0, **options),
            Stage("three", partial(self.pass_on, self.made, steps=5), shutdown=0, **options),
            breaker=NeverRestart() if self.how == "escalate" else AlwaysRestart(),
            upstream=self.upstream,
            downstream=self.downstream,
            dead_letters=self.dead,
        )

    async def pass_on(self, made: int, item: int, steps: int = 1) -> int:
        for _ in range(steps):
            await trio.lowlevel.checkpoint()
        return item

    async def pass_all_on(self, made: int, pipe: Pipe[int, int]) -> None:
        async for _ in pipe:
            await trio.lowlevel.checkpoint()

    def child(self) -> Child[Any]:
        return Child("line", self.make(), restart="transient")

    async def __call__(self, scope: Scope) -> None:
        await scope.start(Child("sibling", self.sibling))
        await scope.start(self.child())

    async def sibling(self) -> None:
        await self.crash.wait()
        self.crash = trio.Event()
        raise Boom

    @property
    def tree(self) -> Any:
        if self.how == "pool":
            return DynamicSupervisor(name="root")
        breaker = AlwaysRestart()
        return SystemSupervisor(self, name="root", strategy="rest_for_one", breaker=breaker)

    async def run(self, striker: Striker) -> None:
        """To its end, with an act at each strike."""
        orders, take_orders = trio.open_memory_channel[None](float("inf"))
        if self.how not in ("fail", "escalate"):
            striker.on_strike = lambda task: orders.send_nowait(None)
        trio.lowlevel.add_instrument(striker)
        try:
            async with open_system(self.tree) as root, trio.open_nursery() as nursery:
                if self.how == "pool":
                    await root.start_child(self.child())
                nursery.start_soon(self.act, root, take_orders)
                with trio.fail_after(1000):
                    while not self.is_over(root):
                        await trio.sleep(1)
                nursery.cancel_scope.cancel()
        finally:
            trio.lowlevel.remove_instrument(striker)

    def is_over(self, root: SystemHandle) -> bool:
        if self.how == "pool":
            return root.which_children() == []
        return root.child("line").status == "done"

    async def act(self, root: SystemHandle, orders: trio.MemoryReceiveChannel[None]) -> None:
        async for _ in orders:
            with suppress(SpryError):  # it may have come to its end meanwhile
                await self.act_once(root)

    async def act_once(self, root: SystemHandle) -> None:
        if self.how in ("replay", "reshape"):
            await root.replay()
        elif self.how in ("sibling", "reshape by sibling"):
            self.crash.set()
        elif self.how == "abort":
            root.child("line").value.abort()
            await root.child("line").wait()
            await root.restart_child("line")
        else:
            await root.terminate_child("line")
            if self.how == "stop":
                await root.restart_child("line")
            else:
                await root.start_child(self.child())

    def check(self) -> None:
        """Each item is somewhere, and nowhere else."""
        arrived = list(drained(self.drain))
        dead = [letter.item for letter in self.take_dead()]
        left = list(drained(self.upstream))
        assert sorted(arrived + dead + left) == list(range(1, self.last + 1))
        assert left == []
        if self.how not in RESHAPES and self.options.get("on_crash") != "forward":
            assert dead == []
        if self.options.get("workers", 1) == 1:
            assert arrived == sorted(arrived)
        statistics = self.upstream.statistics(), self.downstream.statistics()
        assert statistics[0].open_receive_channels == statistics[1].open_send_channels == 1


def drained(channel: trio.MemoryReceiveChannel[int]) -> Iterator[int]:
    while channel.statistics().current_buffer_used:
        yield channel.receive_nowait()


PATHS = {f"root/line/{key}" for key in ("one", "two", "three")}
PATHS |= {f"{path}-{number}" for path in PATHS for number in (1, 2)}


def play(line: Between, striker: Striker) -> None:
    trio.run(functools.partial(line.run, striker), clock=MockClock(autojump_threshold=0))
    line.check()


@pytest.mark.parametrize("on_crash", ["redeliver", "forward"])
@pytest.mark.parametrize("how", HOWS)
def test_struck_at_every_single_step(how: How, on_crash: str) -> None:
    def struck_at(number: int) -> Striker:
        striker = Striker(PATHS, [number])
        play(Between(how, 4, on_crash=on_crash), striker)
        return striker

    strike_each_step(struck_at)


@given(
    how=st.sampled_from(HOWS),
    on_crash=st.sampled_from(["redeliver", "forward"]),
    capacity=st.integers(0, 2),
    workers=st.integers(1, 2),
    strikes=st.sets(st.integers(1, 150), max_size=12),
)
def test_struck_again_and_again(
    how: How, on_crash: str, capacity: int, workers: int, strikes: set[int]
) -> None:
    line = Between(how, 5, on_crash=on_crash, capacity=capacity, workers=workers)
    play(line, Striker(PATHS, strikes))
