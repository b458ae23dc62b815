"""A crowd holds up nothing else: no more than a hundred children between two passes of trio.

But for what trio does as one batch: all tasks that can run in a pass do.
"""

from __future__ import annotations

import pytest
import trio

from spry_py import AlwaysRestart, Child, DynamicSupervisor, Strategy, SystemHandle, open_system
from stories import Boom, story

CROWD = 150
MOST = 100


class Passes(trio.abc.Instrument):
    """What happened between two passes of the scheduler, at most."""

    def __init__(self) -> None:
        self.most = 0
        self._now = 0

    def count(self) -> None:
        self._now += 1
        self.most = max(self.most, self._now)

    def after_io_wait(self, timeout: float) -> None:
        self._now = 0


class Waits(trio.abc.Instrument):
    """How many passes there were."""

    def __init__(self) -> None:
        self.number = 0

    def before_io_wait(self, timeout: float) -> None:
        self.number += 1


class Ends(Passes):
    def task_exited(self, task: trio.lowlevel.Task) -> None:
        self.count()


class Births(Passes):
    def task_spawned(self, task: trio.lowlevel.Task) -> None:
        self.count()


async def ready(*, task_status: trio.TaskStatus[None]) -> None:
    task_status.started()
    await trio.sleep_forever()


def crowd() -> list[Child[None]]:
    return [Child(f"child-{number}", ready) for number in range(CROWD)]


async def fill(pool: SystemHandle, children: list[Child[None]]) -> None:
    for child in children:
        await pool.start_child(child)


@story
async def test_a_list_begins_one_child_in_a_pass() -> None:
    births = Births()
    trio.lowlevel.add_instrument(births)
    async with open_system(crowd()):
        trio.lowlevel.remove_instrument(births)
    assert births.most <= 3  # with those that serve the tree


@story
async def test_an_ordered_stop_ends_one_child_in_a_pass() -> None:
    ends = Ends()
    async with open_system(crowd()):
        trio.lowlevel.add_instrument(ends)
    trio.lowlevel.remove_instrument(ends)
    assert ends.most <= 3


@story
async def test_a_pool_is_stopped_a_hundred_children_in_a_pass_and_at_one_time() -> None:
    ends = Ends()
    async with open_system(DynamicSupervisor()) as pool:
        await fill(pool, crowd())
        began = trio.current_time()
        trio.lowlevel.add_instrument(ends)
    trio.lowlevel.remove_instrument(ends)
    assert (ends.most, trio.current_time()) == (MOST, began)


async def passes_to_stop_what_has_ended(count: int) -> int:
    async def end(*, task_status: trio.TaskStatus[None]) -> None:
        task_status.started()

    passes = Waits()
    children = [Child(f"child-{number}", end, restart="transient") for number in range(count)]
    async with open_system(children, strategy="one_for_one"):
        await trio.sleep(1)
        trio.lowlevel.add_instrument(passes)
    trio.lowlevel.remove_instrument(passes)
    return passes.number


@story
async def test_a_hundred_children_that_have_ended_are_gone_through_in_a_pass() -> None:
    few, many = (
        await passes_to_stop_what_has_ended(1),
        await passes_to_stop_what_has_ended(4 * MOST),
    )
    assert many - few == 4


class Crash:
    """A crowd that crashes in one tick, and what is asked about each of its ends."""

    def __init__(self) -> None:
        self.fall = trio.Event()
        self.asked = Passes()
        self.children = [
            Child(f"child-{number}", self.play, recoverable=self.is_recoverable)
            for number in range(CROWD)
        ]

    async def play(self, *, task_status: trio.TaskStatus[None]) -> None:
        task_status.started()
        if self.fall.is_set():
            await trio.sleep_forever()
        await self.fall.wait()
        raise Boom

    def is_recoverable(self, _: BaseException) -> bool:
        self.asked.count()
        return True

    async def happen(self, handle: SystemHandle) -> None:
        trio.lowlevel.add_instrument(self.asked)
        self.fall.set()
        await trio.sleep(1)
        trio.lowlevel.remove_instrument(self.asked)
        assert {info.incarnation for info in handle.which_children()} == {2}


@pytest.mark.parametrize("strategy", ["one_for_one", "rest_for_one", "one_for_all"])
@story
async def test_a_supervisor_decides_about_a_hundred_ends_in_a_row(strategy: Strategy) -> None:
    crash = Crash()
    async with open_system(crash.children, strategy=strategy, breaker=AlwaysRestart()) as handle:
        await crash.happen(handle)
    assert crash.asked.most == MOST


@story
async def test_a_pool_decides_about_a_hundred_ends_in_a_row() -> None:
    crash = Crash()
    async with open_system(DynamicSupervisor(breaker=AlwaysRestart())) as pool:
        await fill(pool, crash.children)
        await crash.happen(pool)
    assert crash.asked.most == MOST
