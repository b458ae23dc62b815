"""Runs on virtual time, recorded: what the reference and the pictures are made of."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import trio
from trio.testing import MockClock

from spry_py import (
    Child,
    NeverRestart,
    Scope,
    SystemHandle,
    SystemSupervisor,
    Unrecoverable,
    cancel_on_settle,
)
from spry_py.events import Event
from spry_py.lowlevel import open_subscribed
from spry_py.pipes import Pipe, Stage, Worker, pipeline
from spry_py.telemetry import Captured, capture

Deed = Callable[[SystemHandle], Awaitable[object]]


@dataclass
class Recorded:
    """One run on virtual time, which begins at 0: its events, and its telemetry."""

    telemetry: Captured
    events: list[Event] = field(default_factory=list)

    def offer(self, event: Event) -> None:
        self.events.append(event)

    def wake(self) -> None:
        """Nothing more comes."""


def record(tree: SystemSupervisor, seconds: float, deed: Deed | None = None) -> Recorded:
    """Run a tree so long, do something with it, and stop it in order."""

    async def play() -> None:
        async with open_subscribed(tree, recorded) as handle:
            await trio.sleep(seconds)
            if deed is not None:
                await deed(handle)

    with capture() as telemetry, quiet():
        recorded = Recorded(telemetry)
        # what a tree fails with is a part of its record
        with suppress(Exception):
            trio.run(play, clock=MockClock(autojump_threshold=0))
    return recorded


@contextmanager
def quiet() -> Iterator[None]:
    """Without the log of the trees on the terminal."""
    logger = logging.getLogger("spry_py")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(level)


# Children with a fixed fate


@dataclass(frozen=True)
class Serves:
    """Takes so long to start, and to finish when it is asked."""

    up: float = 0.0
    down: float = 0.0

    async def __call__(self, *, task_status: trio.TaskStatus[None]) -> None:
        await trio.sleep(self.up)
        task_status.started()
        with cancel_on_settle():
            await trio.sleep_forever()
        await trio.sleep(self.down)


class Fails:
    """Fails so many seconds after it was started, the first so many times."""

    def __init__(
        self, after: float, times: float = 1, up: float = 0.0, error: str = "gone"
    ) -> None:
        self.after, self.left, self.up, self.error = after, times, up, error

    async def __call__(self, *, task_status: trio.TaskStatus[None]) -> None:
        await trio.sleep(self.up)
        task_status.started()
        if self.left <= 0:
            with cancel_on_settle():
                await trio.sleep_forever()
            return
        self.left -= 1
        await trio.sleep(self.after)
        raise ConnectionResetError(self.error)


async def stubborn(seconds: float) -> None:
    try:
        await trio.sleep_forever()
    finally:
        with trio.CancelScope(shield=True):
            await trio.sleep(seconds)


# The three runs of the pictures


def stop() -> Recorded:
    """A stop: in reverse order, each child with its own time; one outlives it and is aborted."""

    async def shop(scope: Scope) -> None:
        await scope.start(Child("db", Serves(up=0.5, down=1.0)))
        await scope.start(Child("jobs", Serves(up=0.3, down=9.0), shutdown=2.0))
        await scope.start(Child("api", Serves(up=0.3, down=1.5)))

    return record(SystemSupervisor(shop), 3.0)


def replay() -> Recorded:
    """A replay: `db` fails, `api` and `web` go down, all three come back with a new connection."""
    connect = Fails(2.0, up=0.6)

    async def shop(scope: Scope) -> None:
        await scope.start(Child("config", Serves()))
        await scope.start(Child("db", connect))
        await scope.start(Child("api", Serves(up=0.4, down=0.8)))
        await scope.start(Child("web", Serves(up=0.3, down=0.5)))

    return record(SystemSupervisor(shop, strategy="rest_for_one"), 7.0)


def escalation() -> Recorded:
    """An escalation: `feed` fails until its supervisor gives up; the one above starts it anew."""
    feed = Fails(1.0, times=4, up=0.2)

    async def market(scope: Scope) -> None:
        await scope.start(Child("cache", Serves(down=0.4)))
        await scope.start(Child("feed", feed))

    async def shop(scope: Scope) -> None:
        await scope.start(Child("db", Serves()))
        await scope.start(Child("market", SystemSupervisor(market, strategy="one_for_one")))

    return record(SystemSupervisor(shop, strategy="one_for_one"), 9.0)


# More, so that everything a tree can emit is emitted


def troubles() -> Recorded:
    """Slow, stuck, discarded, aborted; the root gives up at the end."""

    async def fall() -> None:
        await trio.sleep(40)
        raise ValueError("beyond help")

    async def unhelpful() -> None:
        await trio.sleep(1)
        raise Unrecoverable("wrong password")

    async def shop(scope: Scope) -> None:
        await scope.start(Child("slow", Serves(up=11.0)))
        await scope.start(Child("stubborn", stubborn, 3.0, shutdown=1.0))
        await scope.start(Child("unhelpful", unhelpful, on_unrecoverable="discard"))
        await scope.start(Child("fall", fall))

    tree = SystemSupervisor(shop, breaker=NeverRestart(), strategy="one_for_one")
    return record(tree, 60.0)


def boot_that_fails() -> Recorded:
    async def connect(*, task_status: trio.TaskStatus[None]) -> None:
        raise OSError("no route to host")

    return record(SystemSupervisor([Child("db", connect)], name="shop"), 1.0)


def delivery() -> Recorded:
    failures = iter([True, False, False])

    async def take(pipe: Pipe[Any, int]) -> None:
        for number in range(2):
            await pipe.put(number)
            await trio.sleep(1)

    def work(number: int) -> None:
        if next(failures):
            raise ValueError(number)

    return record(pipeline(Worker("read", take), Stage("store", work), name="lines"), 5.0)


@cache
def all_runs() -> tuple[Recorded, ...]:
    return stop(), replay(), escalation(), troubles(), boot_that_fails(), delivery()
