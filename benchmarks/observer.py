"""The observer: how soon one sees a large tree and a change in it, and what the tree pays for that.

From the request to the whole first picture, over a unix socket, and from a crash to the change that
tells of it, which waits up to 250 ms for others to be put together with it. What the tree pays is
the time of restarts one after another, with one and with three that look, to that with no observer.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from unittest.mock import patch

import trio

from spry_py import Child, DynamicSupervisor, RateLimited, SystemHandle, open_system
from spry_py.observer import Address, serve

from .harness import Crash, Options, Row, clock, compared, in_turn, parked

FIRST, UPDATE, PERIOD = 1.0, 0.1, 0.25
KEPT, MOST = 4.0, 1.25
_REQUEST = b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n"


@asynccontextmanager
async def observed(handle: SystemHandle) -> AsyncIterator[str]:
    """The path of the socket of an observer, for the duration of a block."""
    with tempfile.TemporaryDirectory() as place, patch.dict("os.environ", XDG_RUNTIME_DIR=place):
        async with trio.open_nursery() as nursery:
            address: Address = await nursery.start(serve, handle)
            assert address.socket is not None
            yield address.socket
            nursery.cancel_scope.cancel()


async def until(stream: trio.SocketStream, mark: bytes) -> None:
    """Read on to a mark, and to the end of the message that it stands in."""
    seen = b""
    found = False
    while not found or b"\n\n" not in seen:
        seen = seen[-len(mark) :] + await stream.receive_some(1 << 20)
        if not found and mark in seen:
            found, seen = True, seen.partition(mark)[2]


async def pictures(count: int) -> tuple[float, float]:
    """Seconds to the first picture of ``count`` children, and from a crash to its change."""
    go = trio.Event()

    async def crashing() -> None:
        await go.wait()
        raise Crash

    async with open_system(DynamicSupervisor(max_children=count + 1, name="pool")) as pool:
        for number in range(count):
            await pool.start_child(Child(f"child-{number}", parked))
        await pool.start_child(Child("crashing", crashing, restart="temporary"))
        async with observed(pool) as path, await trio.open_unix_socket(path) as stream:
            began = clock()
            await stream.send_all(_REQUEST)
            await until(stream, b"event: tree")
            first = clock() - began
            await trio.sleep(4 * PERIOD)
            began = time.perf_counter()
            go.set()
            await until(stream, json.dumps("ChildTerminated").encode())
            return first, time.perf_counter() - began


async def restarts(count: int, viewers: int | None) -> float:
    """Seconds of ``count`` restarts, with so many that look; ``None`` is without an observer."""
    over = trio.Event()
    go = trio.Event()
    left = count

    async def crashing() -> None:
        nonlocal left
        await go.wait()
        left -= 1
        if left < 0:
            over.set()
            await parked()
        await trio.lowlevel.checkpoint()
        raise Crash

    async def look(path: str, *, task_status: trio.TaskStatus[None]) -> None:
        async with await trio.open_unix_socket(path) as stream:
            await stream.send_all(_REQUEST)
            await until(stream, b"event: tree")
            task_status.started()
            while await stream.receive_some(1 << 16):
                pass

    limit = RateLimited(10 * count, 1e9)
    child = Child("child", crashing)
    async with open_system([child], name="top", strategy="one_for_one", breaker=limit) as handle:
        if viewers is None:
            return await _timed(go, over)
        async with observed(handle) as path, trio.open_nursery() as nursery:
            for _ in range(viewers):
                await nursery.start(look, path)
            seconds = await _timed(go, over)
            nursery.cancel_scope.cancel()
            return seconds


async def _timed(go: trio.Event, over: trio.Event) -> float:
    began = clock()
    go.set()
    await over.wait()
    return clock() - began


def rows(options: Options) -> Iterator[Row]:
    count = 1_000 if options.quick else 10_000
    (seen,) = in_turn(min(options.rounds, 3), partial(pictures, count), warm_up=False)
    first = statistics.median(pair[0] for pair in seen)
    update = statistics.median(pair[1] for pair in seen)
    yield _seconds(f"first picture of {count:,}", first, FIRST, "the whole tree, over the socket")
    note = f"of which up to {PERIOD * 1000:.0f} ms are waited for more"
    yield _seconds(f"a change among {count:,}", update, UPDATE + PERIOD, note)
    sides = [partial(restarts, options.children, viewers) for viewers in (None, 0, 1, 3)]
    bare, none, one, three = in_turn(options.rounds, *sides)
    note = "bare: without an observer, which keeps a history and the incidents as text"
    count = options.children
    yield compared("restart, no one looks", none, bare, count=count, target=KEPT, note=note)
    note = "bare: no one looks"
    yield compared("restart, one looks", one, none, count=count, target=MOST, note=note)
    yield compared("restart, three look", three, none, count=count, target=MOST, note=note)


def _seconds(figure: str, seconds: float, most: float, note: str) -> Row:
    target = f"{most * 1000:.0f} ms"
    return Row(figure, f"{seconds * 1000:.0f} ms", "", "", target, seconds <= most, note)
