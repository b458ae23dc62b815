"""Restarts by the thousand leave nothing behind: no task, no thread, no callback, no file."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
from typing import Any

import pytest
import trio

import spry_py
from hosts import for_ever
from spry_py import AlwaysRestart, Child, current_context
from spry_py.aio import SystemHandle, open_system, task


async def fails(pauses: tuple[int, int]) -> None:
    """Fail again and again, but stand still in those incarnations."""
    await asyncio.create_task(asyncio.sleep(0))
    if current_context().incarnation in pauses:
        await for_ever()
    raise OSError("again")


def what_is_there() -> dict[str, int]:
    gc.collect()
    objects = gc.get_objects()
    return {
        "tasks": sum(isinstance(one, asyncio.Task) for one in objects),
        "loops": sum(isinstance(one, asyncio.AbstractEventLoop) for one in objects),
        "selectors and sockets": len(os.listdir("/proc/self/fd")),
        "threads": threading.active_count(),
        "objects": len(objects),
    }


def tree(times: int) -> Any:
    child = Child("a", task(fails, (100, 100 + times)))
    return spry_py.SystemSupervisor([child], strategy="one_for_one", breaker=AlwaysRestart())


async def restarted(handle: Any, times: int) -> None:
    """Let it be restarted some times, and then so many times more: there is as much as before."""
    await handle.child("a").wait_incarnation(100)
    before = what_is_there()
    handle.child("a").fail(OSError("again"))
    await handle.child("a").wait_incarnation(100 + times)
    after = what_is_there()
    more = {what: after[what] - before[what] for what in after}
    # one for each restart would show; trio keeps a thread for the next time, and more on busy days
    assert more.pop("objects") < times // 2
    assert more.pop("threads") < 10
    assert not any(count > 0 for count in more.values()), more


def as_guest(times: int) -> None:
    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        async with open_system(tree(times)) as handle:
            assert isinstance(handle, SystemHandle)
            await restarted(handle, times)
            assert len(loop._ready) < 10
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert (len(loop._ready), len(loop._scheduled)) == (0, 0)

    asyncio.run(main())


def in_threads(times: int) -> None:
    async def main() -> None:
        async with spry_py.open_system(tree(times)) as handle:
            await restarted(handle, times)

    trio.run(main)


WAYS = pytest.mark.parametrize("way", [as_guest, in_threads])


@pytest.fixture(autouse=True)
def silent(caplog: pytest.LogCaptureFixture) -> None:
    """Records of logs are kept by pytest, with all that they hold."""
    caplog.set_level("CRITICAL", "spry_py")


@WAYS
def test_hundreds_of_restarts(way: Any) -> None:
    way(300)


@pytest.mark.slow
@WAYS
def test_ten_thousand_restarts(way: Any) -> None:
    way(10_000)
