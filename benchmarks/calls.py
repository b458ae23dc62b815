"""Calls from outside: what a start through a handle costs, and whether a crowd makes it dearer."""

from __future__ import annotations

import statistics
from collections.abc import Iterator

import trio

from spry_py import Child, DynamicSupervisor, open_system

from .flat import started_scoped
from .harness import Options, Row, against, clock, in_turn, micros, ready

CALLS = 200


async def started(count: int) -> float:
    async with open_system(DynamicSupervisor()) as handle:
        began = clock()
        for number in range(count):
            await handle.start_child(Child(f"child-{number}", ready))
        return clock() - began


async def bare(count: int) -> float:
    async with trio.open_nursery() as nursery:
        began = clock()
        for _ in range(count):
            await nursery.start(ready)
        seconds = clock() - began
        nursery.cancel_scope.cancel()
    return seconds


async def started_and_ended(count: int) -> float:
    async with open_system(DynamicSupervisor()) as handle:
        began = clock()
        for number in range(count):
            await handle.start_child(Child(f"child-{number}", ready))
            await handle.terminate_child(f"child-{number}")
        return clock() - began


async def bare_started_and_ended(count: int) -> float:
    """A scope for each task, which is cancelled, and its end waited for."""
    async with trio.open_nursery() as nursery:
        began = clock()
        for _ in range(count):
            scope, ended = trio.CancelScope(), trio.Event()
            await nursery.start(started_scoped, scope, ended)
            scope.cancel()
            await ended.wait()
        return clock() - began


async def among(crowd: int) -> float:
    """Start and terminate children, one after the other, on a supervisor that has many."""
    async with open_system(DynamicSupervisor()) as handle:
        for number in range(crowd):
            await handle.start_child(Child(f"child-{number}", ready))
        began = clock()
        for number in range(CALLS):
            await handle.start_child(Child(f"one-more-{number}", ready))
            await handle.terminate_child(f"one-more-{number}")
        return clock() - began


def rows(options: Options) -> Iterator[Row]:
    yield against("start_child of a ready child", options, started, bare, target=1.6)
    yield against(
        "start_child and terminate_child",
        options,
        started_and_ended,
        bare_started_and_ended,
        target=1.15,
    )
    few, many = (1_000, 10_000) if options.quick else (1_000, 100_000)
    rounds = min(options.rounds, 3 if options.quick else 5)
    small, large = in_turn(rounds, lambda: among(few), lambda: among(many))
    ratio = statistics.median(large) / statistics.median(small)
    yield Row(
        f"start_child and terminate_child among {few:,} and {many:,}",
        f"{micros(statistics.median(small), CALLS)} to {micros(statistics.median(large), CALLS)}",
        "",
        f"{ratio:.2f}",
        "1.3",
        ratio <= 1.3,
        "the ratio is that of the large crowd to the small one",
    )
