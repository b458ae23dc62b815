"""What has ended is not kept alive by the supervisor."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable

import pytest
import trio

from spry_py import Child, Scope, open_system
from stories import Boom, Record, cast, story


class Big:
    """Something one would not like to be kept."""


@pytest.mark.parametrize("ends", ["normal", "failed"])
@pytest.mark.parametrize("strategy", ["one_for_one", "rest_for_one", "one_for_all"])
@story
async def test_the_value_of_an_ended_incarnation_is_not_kept(strategy: str, ends: str) -> None:
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
