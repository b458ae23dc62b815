"""Events: how fast they reach a subscriber, and what they cost a tree without subscribers.

Delivery is what a tree takes longer for with a subscriber that reads every event, shared out among
the events; on the bare side the same number of objects goes through a trio memory channel. The cost
without subscribers is a comparison with a tree whose code emits no events at all.
"""

from __future__ import annotations

import ast
import inspect
import math
import statistics
from collections.abc import Awaitable, Callable, Iterator
from functools import cache, partial
from types import ModuleType
from typing import Any
from unittest.mock import patch

import trio

import spry_py._handles.supervisors
import spry_py._telemetry.listener
from spry_py import (
    Child,
    RateLimited,
    SystemHandle,
    SystemSupervisor,
    open_system,
)
from spry_py.events import Event

from . import flat, restart
from .harness import Crash, Options, Row, clock, compared, in_turn, parked

PER_SECOND = 50_000
MOST = 1.1
EVENTS_OF_A_RESTART = 4


async def restarts(count: int, *, listens: bool) -> float:
    """Seconds from the first crash until the last of ``count`` restarts, and until it is heard."""
    go, over = trio.Event(), trio.Event()
    left = count

    async def crashing(*, task_status: trio.TaskStatus[None]) -> None:
        nonlocal left
        task_status.started()
        await go.wait()
        left -= 1
        if left < 0:
            over.set()
            await parked()
        raise Crash

    limit = RateLimited(10 * count, 1e9)
    children = [Child("child", crashing)]
    system = SystemSupervisor(children, name="system", strategy="one_for_one", breaker=limit)
    async with open_system(system) as handle, trio.open_nursery() as nursery:
        heard = trio.Event()
        if listens:
            await nursery.start(read, handle, EVENTS_OF_A_RESTART * count, heard)
        began = clock()
        go.set()
        await over.wait()
        if listens:
            await heard.wait()
        return clock() - began


async def read(
    handle: SystemHandle, count: int, heard: trio.Event, *, task_status: trio.TaskStatus[None]
) -> None:
    """Read so many events; each must be the next one."""
    async with handle.events(math.inf) as events:
        task_status.started()
        last = 0
        event: Event
        async for event in events:
            assert event.seq == last + 1
            last = event.seq
            if last == count:
                break
    heard.set()


async def channel(count: int) -> float:
    """Seconds for as many objects through a memory channel, four at a time."""
    sender, receiver = trio.open_memory_channel[object](math.inf)
    began = clock()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(receive, receiver, EVENTS_OF_A_RESTART * count)
        for _ in range(count):
            for number in range(EVENTS_OF_A_RESTART):
                sender.send_nowait(number)
            await trio.lowlevel.checkpoint()
    return clock() - began


async def receive(receiver: trio.MemoryReceiveChannel[object], count: int) -> None:
    for _ in range(count):
        await receiver.receive()


def delivery(options: Options) -> Row:
    count = options.children
    events = EVENTS_OF_A_RESTART * count
    with_one, without, bare = in_turn(
        options.rounds,
        partial(restarts, count, listens=True),
        partial(restarts, count, listens=False),
        partial(channel, count),
    )
    more = statistics.median(a - b for a, b in zip(with_one, without, strict=True))
    theirs = statistics.median(bare)
    rate = events / more
    whole = events / statistics.median(with_one)
    return Row(
        "delivery of an event",
        f"{more / events * 1e6:.1f} us",
        f"{theirs / events * 1e6:.1f} us",
        f"{more / theirs:.2f}",
        f"{PER_SECOND:,}/s",
        rate >= PER_SECOND,
        f"{rate:,.0f} events/s, all delivered; {whole:,.0f}/s with the restarts they tell of",
    )


class _WithoutEvents(ast.NodeTransformer):
    """Leaves out whatever is done only if there are subscribers."""

    def __init__(self) -> None:
        self.left_out = 0

    def visit_If(self, node: ast.If) -> ast.AST:
        if ast.unparse(node.test).startswith("self.subscribers"):
            self.left_out += 1
            return ast.copy_location(ast.Pass(), node)
        self.generic_visit(node)
        return node


@cache
def silent_teller() -> Any:
    """The class `Teller` without a trace of events."""
    compiler = _WithoutEvents()
    tree = compiler.visit(ast.parse(inspect.getsource(spry_py._telemetry.listener)))
    assert compiler.left_out > 10
    module = ModuleType(spry_py._telemetry.listener.__name__)
    module.__package__ = "spry_py._telemetry"
    exec(compile(tree, str(spry_py._telemetry.listener.__file__), "exec"), vars(module))
    return module.Teller


async def silently(work: Callable[[int], Awaitable[float]], count: int) -> float:
    """The same work in trees without events."""
    with patch.object(spry_py._handles.supervisors, "Teller", silent_teller()):
        return await work(count)


def unheard(figure: str, options: Options, work: Callable[[int], Awaitable[float]]) -> Row:
    count = options.children
    ours, silent = in_turn(options.rounds, partial(work, count), partial(silently, work, count))
    note = "bare: the same with all events compiled out"
    return compared(figure, ours, silent, count=count, target=MOST, note=note)


def rows(options: Options) -> Iterator[Row]:
    yield delivery(options)
    yield unheard("life of a child, nobody listens", options, flat.life)
    yield unheard("restart, nobody listens", options, restart.supervised)
