"""Tests whose code is asyncio's, and children that write down what happens to them."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable
from typing import Any

import trio

from spry_py import Child
from spry_py.aio import cancel_on_settle, started, task
from stories import HANGS


def in_asyncio(test: Callable[[], Awaitable[None]]) -> Callable[[], None]:
    """Run a test in asyncio, in debug mode; it must end, and leave no task and no guest behind."""

    @functools.wraps(test)
    def tell() -> None:
        async def main() -> None:
            async with asyncio.timeout(HANGS):
                await test()
            assert asyncio.all_tasks() == {asyncio.current_task()}, "a task was left"
            assert not trio.lowlevel.in_trio_run(), "a guest was left"
            own = asyncio.current_task()
            assert own is not None
            assert own.cancelling() == 0

        asyncio.run(main(), debug=True)

    return tell


async def for_ever() -> None:
    """Wait for what never comes."""
    await asyncio.get_running_loop().create_future()


class Notes:
    """What has happened, in order; and children that write it down."""

    def __init__(self) -> None:
        self.words: list[str] = []

    def __call__(self, word: str) -> None:
        self.words.append(word)

    def child(self, key: str, **options: Any) -> Child[Any]:
        """A child that settles, and takes some turns of the loop for it."""
        return Child(key, task(self.live, key), **options)

    async def live(self, key: str) -> None:
        """Write down when it has begun, and when it is about to end."""
        self(f"+{key}")
        try:
            async with cancel_on_settle():
                started(key)
                await for_ever()
            # whoever is stopped at the same time would write between
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        finally:
            self(f"-{key}")

    def system(self, keys: str = "abc") -> list[Child[Any]]:
        """A child for each letter."""
        return [self.child(key) for key in keys]
