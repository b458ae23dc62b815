"""What has ended is not kept alive by the supervisor."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
import trio

from actors import cast
from spry_py import (
    Child,
    ChildFailure,
    Interrupted,
    Scope,
    Strategy,
    SupervisorStopped,
    SystemHandle,
    SystemSupervisor,
    open_system,
)
from spry_py.threads import thread
from stories import Boom, Record, story, story_with_threads


class Big:
    """Something one would not like to be kept."""


@pytest.mark.parametrize("ends", ["normal", "failed"])
@pytest.mark.parametrize("strategy", ["one_for_one", "rest_for_one", "one_for_all"])
@story
async def test_the_value_of_an_ended_incarnation_is_not_kept(strategy: Strategy, ends: str) -> None:
    values: list[Callable[[], Big | None]] = []
    again = trio.Event()

    def make() -> Big:
        big = Big()
        values.append(weakref.ref(big))
        return big

    async def owner(*, task_status: trio.TaskStatus[Big]) -> None:
        task_status.started(make())
        await again.wait()
        if len(values) > 1:
            await trio.sleep_forever()
        if ends == "failed":
            raise Boom

    async with open_system([Child("owner", owner)], strategy=strategy) as tree:
        again.set()
        await trio.sleep(1)
        gc.collect()
        assert len(values) == 2
        assert values[0]() is None
        assert tree.child("owner").value is values[1]()


@story
async def test_arguments_and_value_of_a_spent_temporary_child_are_not_kept() -> None:
    kept: list[Callable[[], Big | None]] = []

    async def holder(big: Big, *, task_status: trio.TaskStatus[Big]) -> None:
        task_status.started(big)
        await trio.sleep(1)

    async def system(scope: Scope) -> None:
        big = Big()
        kept.append(weakref.ref(big))
        await scope.start(Child("holder", holder, big, restart="temporary"))

    async with open_system(system):
        await trio.sleep(2)
        gc.collect()
        assert [one() for one in kept] == [None]


@story
async def test_arguments_of_a_replaced_declaration_are_not_kept() -> None:
    kept: list[Callable[[], Big | None]] = []
    record = Record()
    (a,) = cast(record, "a")

    async def holder(big: Big) -> None:
        await trio.sleep_forever()

    async def system(scope: Scope) -> None:
        await scope.start(a.child())
        big = Big()
        kept.append(weakref.ref(big))
        await scope.start(Child("holder", holder, big))

    async with open_system(system, strategy="rest_for_one"):
        a.die()
        await trio.sleep(1)
        gc.collect()
        assert len(kept) == 2
        assert [one() is None for one in kept] == [True, False]


@story
async def test_what_a_replay_has_replaced_is_not_kept_if_it_took_a_group_back() -> None:
    kept: list[Callable[[], Big | None]] = []

    async def holder(big: Big) -> None:
        await trio.sleep_forever()

    async def broken() -> None:
        raise Boom

    async def system(scope: Scope) -> None:
        big = Big()
        kept.append(weakref.ref(big))
        await scope.start(Child("holder", holder, big))
        if len(kept) > 1:
            with suppress(ChildFailure):
                await scope.start_together(Child("broken", broken))

    async with open_system(system, strategy="one_for_one") as tree:
        await tree.terminate_child("holder")
        await tree.replay()
        gc.collect()
        assert [one() is None for one in kept] == [True, False]


@story
async def test_what_lay_in_the_mailbox_of_an_ended_supervisor_is_not_kept() -> None:
    kept: list[Callable[[], Big | None]] = []
    hangs = 0.0

    async def system(scope: Scope) -> None:
        await trio.sleep(hangs)

    async def holder(big: Big) -> None:
        await trio.sleep_forever()

    async def call(handle: SystemHandle) -> None:
        big = Big()
        kept.append(weakref.ref(big))
        with suppress(SupervisorStopped):
            await handle.start_child(Child("holder", holder, big))

    async def replay(handle: SystemHandle) -> None:
        with suppress(Interrupted):
            await handle.replay()

    async with open_system([Child("sub", SystemSupervisor(system))]) as tree:
        handle = tree.child("sub").value
        hangs = 100.0
        async with trio.open_nursery() as nursery:
            nursery.start_soon(replay, handle)
            await trio.sleep(1)
            nursery.start_soon(call, handle)
            await trio.sleep(1)
            await tree.terminate_child("sub")
        gc.collect()
        assert handle.status == "stopped"
        assert [one() for one in kept] == [None]


@story_with_threads
async def test_a_thread_that_has_ended_is_not_kept_by_the_child_that_called_it() -> None:
    kept: list[Callable[[], Big | None]] = []
    done = trio.Event()

    def look_at(big: Big) -> None:
        pass

    async def calls() -> None:
        big: Any = None
        for _ in range(3):
            big = Big()
            kept.append(weakref.ref(big))
            await thread(look_at, big)()
        del big
        done.set()
        await trio.sleep_forever()

    async with open_system([Child("calls", calls)]):
        await done.wait()
        gc.collect()
        assert [one() for one in kept] == [None] * 3
