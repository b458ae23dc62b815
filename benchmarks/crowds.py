"""How late a bystander is while a crowd of children starts, stops or falls, without the collector.

The bystander sleeps 1 ms at a time. Where the library sets the pace it is late by 50 ms at most;
where a crowd falls in one tick, which trio runs as one batch, it is compared with the same program
on bare trio.
"""

from __future__ import annotations

import statistics
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import TypeAlias

import trio

from spry_py import AlwaysRestart, Child, DynamicSupervisor, SystemHandle, open_system

from .flat import no_collector
from .harness import Crash, Options, Row, clock, in_turn, parked, ready, round_by_round, spread

NAP = 0.001
MOST = 0.050
MOST_AGAINST_BARE = 1.5
CROWDS, QUICK_CROWDS = (10_000, 100_000), (2_000,)

Tree: TypeAlias = AbstractAsyncContextManager[SystemHandle]


class Bystander:
    """Sleeps and looks at the clock; ``late`` is the most it was late by since `begin`."""

    def __init__(self) -> None:
        self.late = 0.0
        self._before = 0.0

    async def live(self) -> None:
        self.begin()
        while True:
            await trio.sleep(NAP)
            self._look()

    def begin(self) -> None:
        self.late, self._before = 0.0, clock()

    def end(self) -> float:
        """How late it was, what is going on at this moment included."""
        self._look()
        return self.late

    def _look(self) -> None:
        now = clock()
        self.late = max(self.late, now - self._before - NAP)
        self._before = now


async def beside(work: Callable[[Bystander], Awaitable[float]]) -> float:
    bystander = Bystander()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bystander.live)
        late = await work(bystander)
        nursery.cancel_scope.cancel()
    return late


# Where the library sets the pace


def children(count: int) -> list[Child[None]]:
    return [Child(f"child-{number}", ready) for number in range(count)]


async def boot(count: int, bystander: Bystander) -> float:
    tree = open_system(children(count))
    bystander.begin()
    async with tree:
        return bystander.end()


async def ordered_stop(count: int, bystander: Bystander) -> float:
    async with open_system(children(count)):
        bystander.begin()
    return bystander.end()


async def pool_of(handle: SystemHandle, count: int) -> None:
    for child in children(count):
        await handle.start_child(child)


async def stop_of_a_pool(count: int, bystander: Bystander) -> float:
    async with open_system(DynamicSupervisor()) as handle:
        await pool_of(handle, count)
        bystander.begin()
    return bystander.end()


async def look(count: int, bystander: Bystander) -> float:
    async with open_system(children(count)) as handle:
        bystander.begin()
        async with handle.follow() as _:  # kept: it is not let go of in the same tick
            return bystander.end()


# Where a crowd falls in one tick


class Falling:
    """Children that wait for the same event and crash; later runs go on."""

    def __init__(self) -> None:
        self.fall = trio.Event()
        self.fallen = 0
        self.all_are_back = trio.Event()

    async def once(self, *, task_status: trio.TaskStatus[None]) -> None:
        task_status.started()
        await self.fall.wait()
        raise Crash

    async def child(self, *, task_status: trio.TaskStatus[None]) -> None:
        if not self.fall.is_set():
            await self.once(task_status=task_status)
        await self.serve(task_status=task_status)

    async def serve(self, *, task_status: trio.TaskStatus[None]) -> None:
        task_status.started()
        self.fallen -= 1
        if self.fallen == 0:
            self.all_are_back.set()
        await parked()


async def crash_together(tree: Callable[[Falling, int], Tree], count: int, one: Bystander) -> float:
    falling = Falling()
    falling.fallen = count
    async with tree(falling, count) as handle:
        if not handle.which_children():
            for number in range(count):
                await handle.start_child(Child(f"child-{number}", falling.child))
        one.begin()
        falling.fall.set()
        await falling.all_are_back.wait()
        return one.end()


def alone(falling: Falling, count: int) -> Tree:
    system = [Child(f"child-{number}", falling.child) for number in range(count)]
    return open_system(system, strategy="one_for_one", breaker=AlwaysRestart())


def in_a_pool(_: Falling, __: int) -> Tree:
    return open_system(DynamicSupervisor(breaker=AlwaysRestart()))


def in_a_group(falling: Falling, count: int) -> Tree:
    system = [Child(f"child-{number}", falling.child) for number in range(count)]
    return open_system(system, strategy="one_for_all", breaker=AlwaysRestart())


async def bare_crash_together(count: int, bystander: Bystander) -> float:
    falling = Falling()
    falling.fallen = count

    async def life(*, task_status: trio.TaskStatus[None]) -> None:
        with trio.CancelScope():
            try:
                await falling.once(task_status=task_status)
            except Crash:
                nursery.start_soon(again)

    async def again() -> None:
        with trio.CancelScope():
            await falling.serve(task_status=trio.TASK_STATUS_IGNORED)

    async with trio.open_nursery() as nursery:
        for _ in range(count):
            await nursery.start(life)
        bystander.begin()
        falling.fall.set()
        await falling.all_are_back.wait()
        late = bystander.end()
        nursery.cancel_scope.cancel()
    return late


def millis(seconds: float) -> str:
    return f"{seconds * 1e3:.1f} ms"


def paced(figure: str, work: Callable[[int, Bystander], Awaitable[float]], count: int) -> Row:
    (lates,) = in_turn(1, partial(beside, partial(work, count)), warm_up=False)
    (late,) = lates
    aim = f"{MOST * 1e3:.0f} ms"
    return Row(f"{figure} of {count:,}", millis(late), "", "", aim, late <= MOST)


def together(figure: str, tree: Callable[[Falling, int], Tree], count: int, rounds: int) -> Row:
    ours, theirs = in_turn(
        rounds,
        partial(beside, partial(crash_together, tree, count)),
        partial(beside, partial(bare_crash_together, count)),
        warm_up=False,
    )
    late, bare = statistics.median(ours), statistics.median(theirs)
    ratios = round_by_round(ours, theirs)
    ratio = statistics.median(ratios)
    return Row(
        f"{count:,} crashes in one tick, {figure}",
        millis(late),
        millis(bare),
        f"{ratio:.2f}",
        f"{MOST_AGAINST_BARE}",
        ratio <= MOST_AGAINST_BARE,
        spread(ratios),
    )


def rows(options: Options) -> Iterator[Row]:
    rounds = max(1, options.rounds // 7)  # each is long enough to be steady
    with no_collector():
        for count in QUICK_CROWDS if options.quick else CROWDS:
            yield paced("bystander: boot of a list", boot, count)
            yield paced("bystander: ordered stop", ordered_stop, count)
            yield paced("bystander: stop of a pool", stop_of_a_pool, count)
            yield paced("bystander: follow()", look, count)
            yield together("each alone", alone, count, rounds)
            yield together("in a pool", in_a_pool, count, rounds)
            yield together("one_for_all", in_a_group, count, rounds)
