"""Trio as a guest of asyncio, against trio by itself: what each step and each wait costs there.

Each step of trio's is a callback of the host's loop. A wait in which nothing else is ready goes
through a thread, and wakes the host's loop when it is over.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable, Iterator

import trio

from .harness import Options, Row, clock, compared


async def checkpoints(count: int) -> float:
    began = clock()
    for _ in range(count):
        await trio.lowlevel.checkpoint()
    return clock() - began


async def waits(count: int) -> float:
    began = clock()
    for _ in range(count):
        await trio.sleep(1e-6)
    return clock() - began


def as_guest(main: Callable[[int], Awaitable[float]], count: int) -> float:
    """Run a function of trio's as a guest, in the way in which `spry_py.aio` does."""

    async def host() -> float:
        loop = asyncio.get_running_loop()
        seconds: asyncio.Future[float] = loop.create_future()
        trio.lowlevel.start_guest_run(
            main,
            count,
            run_sync_soon_threadsafe=loop.call_soon_threadsafe,
            run_sync_soon_not_threadsafe=loop.call_soon,
            done_callback=lambda outcome: seconds.set_result(outcome.unwrap()),
            host_uses_signal_set_wakeup_fd=True,
        )
        return await seconds

    return asyncio.run(host())


def rows(options: Options) -> Iterator[Row]:
    for figure, main in (("a checkpoint of a guest", checkpoints), ("a wait of a guest", waits)):
        count = 10 * options.children if main is checkpoints else options.children
        ours: list[float] = []
        theirs: list[float] = []
        for number in range(options.rounds + 1):
            gc.collect()
            guest, bare = as_guest(main, count), trio.run(main, count)
            if number:
                ours.append(guest)
                theirs.append(bare)
        yield compared(figure, ours, theirs, count=count)
