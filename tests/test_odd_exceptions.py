"""An exception may be any object that Python lets somebody raise, and is treated like any other."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import odd
from spry_py import DynamicSupervisor, open_system
from stories import story

every_kind = pytest.mark.parametrize("make", odd.ALL.values(), ids=odd.ALL.keys())


@every_kind
@story
async def test_what_a_block_raises_comes_out_as_it_is(make: Callable[[], Exception]) -> None:
    async def block(around: str) -> None:
        async with open_system(DynamicSupervisor()) as pool:
            if around == "map":
                async with pool.map(work, [1]):
                    raise error
            if around == "events":
                async with pool.events():
                    raise error
            raise error

    async def work(item: int) -> None: ...

    for around in ("open_system", "map", "events"):
        error = make()
        with pytest.raises(type(error)) as caught:
            await block(around)
        assert caught.value is error
