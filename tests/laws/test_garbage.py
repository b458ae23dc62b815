"""What has ended is freed at once: a tree leaves nothing of a child to the cyclic collector."""

from __future__ import annotations

import gc
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest
import trio

from spry_py import (
    AlwaysRestart,
    Child,
    DynamicSupervisor,
    Strategy,
    SystemHandle,
    SystemSupervisor,
    UnrecoverableFailure,
    open_system,
)
from stories import Boom, story

FEW, MANY = 10, 300

# pytest keeps the records, each with its exception
pytestmark = pytest.mark.usefixtures("nothing_is_logged")

Life = Callable[[int], Awaitable[SystemHandle | None]]


def left_by(life: Life, count: int) -> int:
    """How many objects the collector finds after a tree, when its handle has gone as well."""
    kept: list[SystemHandle | None] = []

    @story
    async def lives() -> None:
        kept.append(await life(count))

    gc.collect()
    gc.disable()
    try:
        lives()
        assert kept[0] is None or len(kept[0].which_children()) >= count
        kept.clear()
        return gc.collect()
    finally:
        gc.enable()


def children(count: int) -> list[Child[None]]:
    return [Child(f"child-{number}", trio.sleep_forever) for number in range(count)]


async def is_stopped(count: int) -> None:
    async with open_system(children(count)):
        pass


async def is_kept(count: int) -> SystemHandle:
    async with open_system(children(count)) as tree:
        pass
    return tree


async def pool_is_stopped(count: int) -> None:
    async with open_system(DynamicSupervisor()) as pool:
        for child in children(count):
            await pool.start_child(child)


async def has_subsystems(count: int) -> SystemHandle:
    subsystem = Child("subsystem", SystemSupervisor([Child("pool", DynamicSupervisor())]))
    async with open_system([*children(count), subsystem]) as tree:
        pool = tree.system("subsystem/pool")
        for child in children(count):
            await pool.start_child(child)
    assert len(pool.which_children()) == count
    return tree


async def gives_up(count: int) -> None:
    async def crashes() -> None:
        await trio.sleep(1)
        raise Boom

    last = Child("last", crashes, recoverable=lambda error: False)
    with suppress(UnrecoverableFailure):
        async with open_system([*children(count), last]):
            await trio.sleep_forever()


async def is_cancelled(count: int) -> SystemHandle:
    kept: list[SystemHandle] = []
    with trio.CancelScope() as scope:
        async with open_system(children(count)) as tree:
            kept.append(tree)
            scope.cancel()
    return kept[0]


def restarts(strategy: Strategy) -> Life:
    async def life(count: int) -> SystemHandle:
        fall = trio.Event()

        async def crashes_once() -> None:
            if not fall.is_set():
                await fall.wait()
                raise Boom
            await trio.sleep_forever()

        crashing = [Child(f"child-{number}", crashes_once) for number in range(count)]
        subsystem = Child("subsystem", SystemSupervisor(children(count)))
        both = [*crashing, subsystem]
        async with open_system(both, strategy=strategy, breaker=AlwaysRestart()) as tree:
            fall.set()
            await trio.sleep(1)
            await tree.child("subsystem").restart()
        return tree

    life.__name__ = f"restarts {strategy}"
    return life


LIVES: list[Life] = [
    is_stopped,
    is_kept,
    pool_is_stopped,
    has_subsystems,
    gives_up,
    is_cancelled,
    restarts("one_for_one"),
    restarts("one_for_all"),
]


@pytest.mark.parametrize("life", LIVES, ids=lambda life: life.__name__)
def test_no_child_is_left_to_the_collector(life: Life) -> None:
    left_by(life, FEW)
    assert left_by(life, MANY) - left_by(life, FEW) < (MANY - FEW) / 10


def test_an_ordered_stop_keeps_no_cancellation_of_those_that_have_ended() -> None:
    alive: list[int] = []

    async def counts() -> None:
        try:
            await trio.sleep_forever()
        finally:
            alive.append(sum(type(one) is trio.Cancelled for one in gc.get_objects()))

    @story
    async def stops() -> None:
        async with open_system([Child("counts", counts), *children(MANY)]):
            pass

    gc.collect()
    gc.disable()
    try:
        stops()
    finally:
        gc.enable()
    assert alive == [1]
