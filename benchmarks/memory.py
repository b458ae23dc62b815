"""What an idle child occupies above a bare parked task, as ``tracemalloc`` counts it."""

from __future__ import annotations

import gc
import statistics
import tracemalloc
from collections.abc import Awaitable, Callable, Iterator
from functools import partial

import trio

from spry_py import Child, Scope, open_system

from .harness import Options, Row, in_turn, parked

TARGET = 1024
# Enough to average over, and short of the size at which the tables of both sides double.
MOST = 2_000
ROUNDS = 3


def occupied() -> int:
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


async def supervised(count: int) -> int:
    before = 0

    async def system(scope: Scope) -> None:
        nonlocal before
        before = occupied()
        for number in range(count):
            await scope.start(Child(f"child-{number}", parked))

    async with open_system(system):
        return occupied() - before


async def bare(task: Callable[[], Awaitable[None]], count: int) -> int:
    async with trio.open_nursery() as nursery:
        before = occupied()
        for _ in range(count):
            nursery.start_soon(task)
            # One at a time, as children start: tables that a crowd would swell stay small.
            await trio.lowlevel.checkpoint()
        after = occupied()
        nursery.cancel_scope.cancel()
    return after - before


async def scoped() -> None:
    with trio.CancelScope():
        await trio.sleep_forever()


def rows(options: Options) -> Iterator[Row]:
    count = min(options.children, MOST)
    tracemalloc.start()
    try:
        answers = in_turn(
            ROUNDS,
            partial(supervised, count),
            partial(bare, parked, count),
            partial(bare, scoped, count),
        )
    finally:
        tracemalloc.stop()
    child, task, in_scope = (statistics.median(side) / count for side in answers)
    above = child - task
    yield Row(
        "memory of an idle child",
        f"{child:,.0f} B",
        f"{task:,.0f} B",
        f"+{above:,.0f} B",
        f"+{TARGET:,} B",
        above <= TARGET,
        f"of which a trio.CancelScope of its own: {in_scope - task:,.0f} B",
    )
