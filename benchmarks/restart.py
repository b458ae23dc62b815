"""A restart, against a bare ``nursery.start`` of a crashing child with the exception caught.

The supervised child crashes right after it has started: each restart is one end and one start.
"""

from __future__ import annotations

from collections.abc import Iterator

import trio

from spry_py import Child, RateLimited, SystemSupervisor, open_system

from .harness import Crash, Options, Row, against, clock, parked


async def supervised(count: int, *, breaker: RateLimited | None = None) -> float:
    """Seconds from the first crash to the start of incarnation ``count + 1``."""
    starts = 0
    began = ended = 0.0
    done = trio.Event()

    async def crashing(*, task_status: trio.TaskStatus[None]) -> None:
        nonlocal starts, began, ended
        task_status.started()
        starts += 1
        if starts == 1:
            began = clock()
        elif starts > count:
            ended = clock()
            done.set()
            await parked()
        raise Crash

    limit = breaker or RateLimited(10 * count, 1e9)
    system = SystemSupervisor(
        [Child("child", crashing)], name="system", strategy="one_for_one", breaker=limit
    )
    async with open_system(system):
        await done.wait()
    return ended - began


async def crash_at_once(*, task_status: trio.TaskStatus[None]) -> None:
    raise Crash


async def bare(count: int) -> float:
    caught = 0
    async with trio.open_nursery() as nursery:
        began = clock()
        for _ in range(count):
            try:
                await nursery.start(crash_at_once)
            except Crash:
                caught += 1
        return clock() - began


async def crash_when_started(*, task_status: trio.TaskStatus[None]) -> None:
    task_status.started()
    raise Crash


async def bare_started(count: int) -> float:
    caught = 0
    began = clock()
    for _ in range(count):
        try:
            async with trio.open_nursery() as nursery:
                await nursery.start(crash_when_started)
        except* Crash:
            caught += 1
    return clock() - began


async def bare_cycle(count: int) -> float:
    """The same cycle: a child starts, crashes, and is started again when its end is seen."""

    async def guarded(ended: trio.Event, *, task_status: trio.TaskStatus[None]) -> None:
        try:
            await crash_when_started(task_status=task_status)
        except Crash:
            ended.set()

    async with trio.open_nursery() as nursery:
        began = clock()
        for _ in range(count):
            ended = trio.Event()
            await nursery.start(guarded, ended)
            await ended.wait()
        return clock() - began


def rows(options: Options) -> Iterator[Row]:
    yield against("restart", options, supervised, bare, target=1.4)
    yield against(
        "restart, crash after started() on both sides",
        options,
        supervised,
        bare_started,
        note="bare: a nursery for each, since the crash comes out of the nursery",
    )
