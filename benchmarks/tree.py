"""A tree of supervisors with fan-out 10, up and down, against bare nurseries nested alike."""

from __future__ import annotations

import statistics
from collections.abc import Awaitable, Callable, Iterator

import trio

from spry_py import Child, Scope, SystemSupervisor, open_system

from .harness import Options, Row, clock, compared, in_turn, ready, round_by_round

FAN_OUT = 10
LEVELS, QUICK_LEVELS = 4, 3


def level(below: int) -> Callable[[Scope], Awaitable[None]]:
    """The system of a supervisor that has ``below`` levels below it."""

    async def system(scope: Scope) -> None:
        for number in range(FAN_OUT):
            if below == 1:
                await scope.start(Child(f"leaf-{number}", ready))
            else:
                await scope.start(Child(f"node-{number}", SystemSupervisor(level(below - 1))))

    return system


async def supervised(levels: int) -> tuple[float, float]:
    began = clock()
    async with open_system(level(levels)):
        up = clock()
    return up - began, clock() - up


async def node(below: int, *, task_status: trio.TaskStatus[None]) -> None:
    async with trio.open_nursery() as nursery:
        for _ in range(FAN_OUT):
            if below == 1:
                await nursery.start(ready)
            else:
                await nursery.start(node, below - 1)
        task_status.started()


async def bare(levels: int) -> tuple[float, float]:
    began = clock()
    async with trio.open_nursery() as nursery:
        await nursery.start(node, levels)
        up = clock()
        nursery.cancel_scope.cancel()
    return up - began, clock() - up


def rows(options: Options) -> Iterator[Row]:
    levels = QUICK_LEVELS if options.quick else LEVELS
    nodes = sum(FAN_OUT**depth for depth in range(levels + 1))
    ours, theirs = in_turn(options.rounds, lambda: supervised(levels), lambda: bare(levels))
    up, down = (
        statistics.median(round_by_round([a[part] for a in ours], [b[part] for b in theirs]))
        for part in (0, 1)
    )
    yield compared(
        f"tree of {nodes:,} nodes, per node",
        [sum(parts) for parts in ours],
        [sum(parts) for parts in theirs],
        count=nodes,
        target=1.75,
        note=f"up {up:.2f}, down {down:.2f} (bare: all at once, in no order)",
    )
