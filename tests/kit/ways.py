"""The two ways in which children of asyncio run: trio as a guest of their loop, or in threads."""

from __future__ import annotations

import asyncio
import functools
import inspect
import os
from collections.abc import Awaitable, Callable
from typing import ParamSpec

import pytest
import trio

from stories import HANGS, NeverShown

P = ParamSpec("P")


def as_guest(main: Callable[[], Awaitable[None]], debug: bool = True) -> None:
    """Run trio as a guest of asyncio, begun here; no task of either is left behind."""

    async def host() -> None:
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[None] = loop.create_future()

        def done(outcome: object) -> None:
            failure: BaseException | None = getattr(outcome, "error", None)
            failures.append(failure)
            ended.set_result(None)

        failures: list[BaseException | None] = []
        trio.lowlevel.start_guest_run(
            main,
            run_sync_soon_threadsafe=loop.call_soon_threadsafe,
            done_callback=done,
            host_uses_signal_set_wakeup_fd=True,
        )
        await ended
        assert asyncio.all_tasks() == {asyncio.current_task()}, "a task was left"
        if failures[0] is not None:
            raise failures[0]

    asyncio.run(host(), debug=debug)


def in_threads(main: Callable[[], Awaitable[None]]) -> None:
    """Run trio by itself; the loops of asyncio have threads of their own, all gone at the end."""
    before = len(os.listdir("/dev/fd"))
    trio.run(main)
    assert len(os.listdir("/dev/fd")) == before, "a loop was left open"


WAYS = {"guest": as_guest, "thread": in_threads}


def both_ways(test: Callable[P, Awaitable[None]]) -> Callable[P, None]:
    """Run an async test of trio's twice: children of asyncio in the host's loop, and in threads."""

    @functools.wraps(test)
    def tell(*args: P.args, **kwargs: P.kwargs) -> None:
        way = str(kwargs.pop("way"))

        async def main() -> None:
            before = trio.lowlevel.current_statistics().tasks_living
            with trio.fail_after(HANGS):
                await test(*args, **kwargs)
            after = trio.lowlevel.current_statistics().tasks_living
            assert after == before, "something was left running"

        try:
            WAYS[way](main)
        except KeyboardInterrupt as interrupt:
            raise NeverShown("the story let a KeyboardInterrupt out") from interrupt

    tell.__signature__ = _with_way(test)  # type: ignore[attr-defined]
    return pytest.mark.parametrize("way", WAYS)(tell)


def _with_way(test: Callable[..., object]) -> object:
    signature = inspect.signature(test)
    way = inspect.Parameter("way", inspect.Parameter.KEYWORD_ONLY)
    return signature.replace(parameters=[*signature.parameters.values(), way])
