"""Starting a child that signals readiness, against ``await nursery.start`` of the same function."""

from __future__ import annotations

from collections.abc import Iterator

import trio

from spry_py import Child, Scope, open_system

from .harness import Options, Row, against, clock, ready


async def supervised(count: int) -> float:
    seconds = 0.0

    async def system(scope: Scope) -> None:
        nonlocal seconds
        began = clock()
        for number in range(count):
            await scope.start(Child(f"child-{number}", ready))
        seconds = clock() - began

    async with open_system(system):
        pass
    return seconds


async def bare(count: int) -> float:
    async with trio.open_nursery() as nursery:
        began = clock()
        for _ in range(count):
            await nursery.start(ready)
        seconds = clock() - began
        nursery.cancel_scope.cancel()
    return seconds


def rows(options: Options) -> Iterator[Row]:
    yield against("start of a child", options, supervised, bare, target=1.1)
