"""Ordered stop, against bare tasks stopped one by one in reverse, each by its own cancel scope.

Both sides wait for the end of one before they stop the next, and both are timed until their nursery
is closed.
"""

from __future__ import annotations

from collections.abc import Iterator

import trio
import trio.testing

from spry_py import Child, Scope, current_context, open_system

from .harness import Options, Row, against, clock, parked, ready


async def listening(*, task_status: trio.TaskStatus[None]) -> None:
    task_status.started()
    await current_context().settled()


async def supervised(count: int) -> float:
    async def system(scope: Scope) -> None:
        for number in range(count):
            await scope.start(Child(f"child-{number}", ready))

    async with open_system(system) as handle:
        began = clock()
        await handle.stop()
        return clock() - began


async def supervised_listening(count: int) -> float:
    async def system(scope: Scope) -> None:
        for number in range(count):
            await scope.start(Child(f"child-{number}", listening))

    async with open_system(system) as handle:
        began = clock()
        await handle.stop()
        return clock() - began


async def scoped(scope: trio.CancelScope, ended: trio.Event) -> None:
    with scope:
        await parked()
    ended.set()


async def bare(count: int) -> float:
    tasks = [(trio.CancelScope(), trio.Event()) for _ in range(count)]
    async with trio.open_nursery() as nursery:
        for scope, ended in tasks:
            nursery.start_soon(scoped, scope, ended)
        await trio.testing.wait_all_tasks_blocked()
        began = clock()
        for scope, ended in reversed(tasks):
            scope.cancel()
            await ended.wait()
    return clock() - began


async def told(asked: trio.Event, ended: trio.Event) -> None:
    await asked.wait()
    ended.set()


async def bare_listening(count: int) -> float:
    tasks = [(trio.Event(), trio.Event()) for _ in range(count)]
    async with trio.open_nursery() as nursery:
        for asked, ended in tasks:
            nursery.start_soon(told, asked, ended)
        await trio.testing.wait_all_tasks_blocked()
        began = clock()
        for asked, ended in reversed(tasks):
            asked.set()
            await ended.wait()
    return clock() - began


def rows(options: Options) -> Iterator[Row]:
    yield against("ordered stop, per child", options, supervised, bare, target=1.25)
    yield against(
        "ordered stop of children that settle",
        options,
        supervised_listening,
        bare_listening,
        note="bare: an event each instead of a cancel scope, and no time limit",
    )
