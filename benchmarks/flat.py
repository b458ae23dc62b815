"""Whether a child and a restart cost the same in a large supervisor as in a small one.

The ratio is the cost at the large size over the cost at the small one; bare trio is measured at
both sizes too, for the collector and the caches make it grow as well.
"""

from __future__ import annotations

import gc
import statistics
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial

import trio

from spry_py import Child, RateLimited, Scope, open_system

from . import restart
from .harness import Options, Row, clock, in_turn, ready
from .stop import scoped

SMALL, LARGE, QUICK_LARGE = 1_000, 100_000, 10_000
TARGET = 1.3
# One run of the small size is too short to be a fair sample of a busy machine.
REPEATS = 10


async def life(count: int) -> float:
    """Seconds to start and stop ``count`` children of one supervisor."""

    async def system(scope: Scope) -> None:
        for number in range(count):
            await scope.start(Child(f"child-{number}", ready))

    began = clock()
    async with open_system(system):
        pass
    return clock() - began


async def started_scoped(
    scope: trio.CancelScope, ended: trio.Event, *, task_status: trio.TaskStatus[None]
) -> None:
    task_status.started()
    await scoped(scope, ended)


async def bare_life(count: int) -> float:
    tasks: list[tuple[trio.CancelScope, trio.Event]] = []
    began = clock()
    async with trio.open_nursery() as nursery:
        for _ in range(count):
            tasks.append((trio.CancelScope(), trio.Event()))
            await nursery.start(started_scoped, *tasks[-1])
        for scope, ended in reversed(tasks):
            scope.cancel()
            await ended.wait()
    return clock() - began


async def restarts(count: int) -> float:
    """``count`` restarts with a breaker whose window remembers every one of them."""
    return await restart.supervised(count, breaker=RateLimited(1_000_000, 1e9))


async def each(work: Callable[[int], Awaitable[float]], count: int, repeats: int) -> float:
    """Microseconds per child, the median of some repetitions."""
    return statistics.median([await work(count) for _ in range(repeats)]) / count * 1e6


def flatness(
    figure: str,
    options: Options,
    spry_py: Callable[[int], Awaitable[float]],
    bare: Callable[[int], Awaitable[float]],
) -> Row:
    large = QUICK_LARGE if options.quick else LARGE
    answers = in_turn(
        max(1, options.rounds // 7),  # each is long enough to be steady
        partial(each, spry_py, SMALL, REPEATS),
        partial(each, spry_py, large, 1),
        partial(each, bare, SMALL, REPEATS),
        partial(each, bare, large, 1),
        warm_up=False,
    )
    few, many, bare_few, bare_many = map(statistics.median, answers)
    ratio = many / few
    return Row(
        f"{figure}, {SMALL:,} to {large:,}",
        f"{few:.1f} to {many:.1f} us",
        f"{bare_few:.1f} to {bare_many:.1f} us",
        f"{ratio:.2f}",
        f"{TARGET}",
        ratio <= TARGET,
        f"the ratio is spry_py's large to small; bare trio's is {bare_many / bare_few:.2f}",
    )


@contextmanager
def no_collector() -> Iterator[None]:
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def rows(options: Options) -> Iterator[Row]:
    yield flatness("life of a child", options, life, bare_life)
    if gc.isenabled():
        with no_collector():
            yield flatness("... without the collector", options, life, bare_life)
    yield flatness("restart", options, restarts, restart.bare)
