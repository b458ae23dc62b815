"""What an idle child occupies above a bare parked task, as ``tracemalloc`` counts it."""

from __future__ import annotations

import gc
import statistics
import tracemalloc
from collections.abc import Awaitable, Callable, Iterator
from functools import partial

import trio

from spry_py import Child, Scope, open_system

from .harness import Options, Row, in_turn, parked, ready

TARGET = 1024
# Enough to average over, and short of the size at which the tables of both sides double.
MOST = 2_000
ROUNDS = 3


def occupied() -> int:
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


async def supervised(start: Callable[..., Awaitable[None]], count: int) -> int:
    before = 0

    async def system(scope: Scope) -> None:
        nonlocal before
        before = occupied()
        for number in range(count):
            await scope.start(Child(f"child-{number}", start))

    async with open_system(system):
        return occupied() - before


async def bare(task: Callable[..., Awaitable[None]], count: int) -> int:
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


async def bare_started(count: int) -> int:
    """As `bare`, by ``nursery.start``: what ``task_status`` refers to stays alive with the task."""
    async with trio.open_nursery() as nursery:
        before = occupied()
        for _ in range(count):
            await nursery.start(ready)
        after = occupied()
        nursery.cancel_scope.cancel()
    return after - before


def row(
    figure: str, child: float, task: float, *, target: float | None = None, note: str = ""
) -> Row:
    above = child - task
    aim, ok = ("", None) if target is None else (f"{target:+,.0f} B", above <= target)
    return Row(figure, f"{child:,.0f} B", f"{task:,.0f} B", f"{above:+,.0f} B", aim, ok, note)


def rows(options: Options) -> Iterator[Row]:
    count = min(options.children, MOST)
    tracemalloc.start()
    try:
        answers = in_turn(
            ROUNDS,
            partial(supervised, ready, count),
            partial(bare, ready, count),
            partial(bare, scoped, count),
            partial(bare_started, count),
            partial(supervised, parked, count),
            partial(bare, parked, count),
        )
    finally:
        tracemalloc.stop()
    child, task, in_scope, started, silent, silent_task = (
        statistics.median(side) / count for side in answers
    )
    scope = f"of which a trio.CancelScope of its own: {in_scope - silent_task:,.0f} B"
    yield row("memory of an idle child", child, task, target=TARGET, note=scope)
    yield row("... against a task of nursery.start", child, started)
    yield row("... that takes no task_status", silent, silent_task)
