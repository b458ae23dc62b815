"""Workers for stories on virtual time: they wait for orders and record what becomes of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import trio
import trio.testing

from spry_py import (
    Child,
    Ignore,
    RateLimited,
    SystemHandle,
    SystemSupervisor,
    cancel_on_settle,
    current_context,
)

Strategy = Literal["one_for_one", "rest_for_one", "one_for_all"]
Restart = Literal["permanent", "transient", "temporary"]
AnyChild = Child[Any]
Listing = list[tuple[str, str, int]]

STRATEGIES: tuple[Strategy, ...] = ("one_for_one", "rest_for_one", "one_for_all")
RESTARTS: tuple[Restart, ...] = ("permanent", "transient", "temporary")


async def calm() -> None:
    """Wait until nobody has anything left to do but to wait; no virtual time passes."""
    await trio.testing.wait_all_tasks_blocked()


class Crash(Exception):
    """What a worker raises when it is told to die."""


class Refusal(Exception):
    """What a worker raises when its start shall fail."""


def supervise(
    children: Sequence[AnyChild],
    strategy: Strategy,
    restarts: int = 2,
    within: float = 3600.0,
) -> SystemSupervisor:
    """The catalogue's `S(strategy, restarts/within)`; `within` in seconds."""
    return SystemSupervisor(
        list(children), strategy=strategy, breaker=RateLimited(restarts, within)
    )


def listing(handle: SystemHandle) -> Listing:
    """Key, status and incarnation of every child listed, in start order."""
    return [(info.key, info.status, info.incarnation) for info in handle.which_children()]


def counts(handle: SystemHandle) -> tuple[int, int, int, int]:
    """The catalogue's `[specs, active, supervisors, workers]`."""
    counted = handle.count_children()
    return (counted.specs, counted.active, counted.supervisors, counted.workers)


def subsystem(handle: SystemHandle, path: str) -> SystemHandle:
    """The handle of a nested supervisor that has started."""
    value = handle.find(path).value
    assert isinstance(value, SystemHandle)
    return value


def causes(error: BaseException) -> list[BaseException]:
    """An exception and everything it says it was raised from, outermost first."""
    chain = [error]
    while chain[-1].__cause__ is not None:
        chain.append(chain[-1].__cause__)
    return chain


@dataclass
class Shift:
    """One incarnation of one worker, from its own point of view."""

    crew: Crew
    name: str
    incarnation: int
    orders: trio.MemoryReceiveChannel[str]

    @property
    def value(self) -> str:
        return f"{self.name}#{self.incarnation}"

    def note(self, word: str) -> None:
        self.crew.facts.append(f"{self.value} {word}")

    def up(self, task_status: trio.TaskStatus[str]) -> None:
        """Say so before anybody who waits for this start can go on."""
        self.note("up")
        task_status.started(self.value)

    def refuse(self) -> None:
        self.note("refused")
        raise Refusal(self.value)

    def ignore(self) -> None:
        self.note("ignored")
        raise Ignore

    async def obey(self) -> str:
        """Wait for an order and carry it out."""
        order = await self.orders.receive()
        if order == "die":
            self.note("died")
            raise Crash(self.value)
        assert order == "stop"
        self.note("stopped")
        return self.value

    async def stay(self) -> str:
        """Wait for an order, listening; end at once when asked to settle."""
        with cancel_on_settle():
            return await self.obey()
        self.note("settled")
        return self.value


class Crew:
    """All workers of one story: what they did, in order, and the way to give them orders.

    Workers are known by their key. A fact reads `key#incarnation word`, the words being up,
    refused, ignored (starts) and stopped, died, settled, aborted (ends).
    """

    def __init__(self) -> None:
        self.facts: list[str] = []
        self._desks: dict[str, trio.MemorySendChannel[str]] = {}

    def news(self) -> list[str]:
        """What has happened since this was asked last."""
        news = self.facts[:]
        self.facts.clear()
        return news

    async def tell(self, name: str, order: str) -> list[str]:
        """Give one order, let everything come to rest, and return what has happened."""
        self._desks[name].send_nowait(order)
        await calm()
        return self.news()

    async def tell_soon(self, name: str, order: str) -> None:
        """Give one order when everything has come to rest, from a task beside the story."""
        await calm()
        self._desks[name].send_nowait(order)

    @contextmanager
    def shift(self) -> Iterator[Shift]:
        """Give an incarnation its desk, and record an abort."""
        context = current_context()
        desk, orders = trio.open_memory_channel[str](8)
        self._desks[context.key] = desk
        shift = Shift(self, context.key, context.incarnation, orders)
        try:
            with desk, orders:
                yield shift
        except trio.Cancelled:
            shift.note("aborted")
            raise

    # The catalogue's fixtures.

    def worker(self, key: str, **options: Any) -> AnyChild:
        """Waits for orders, and listens."""
        return Child(key, self._plain, **options)

    def heedless(self, key: str, **options: Any) -> AnyChild:
        """Waits for orders, and never listens: aborted at once when it shall end."""
        return Child(key, self._heedless, **options)

    def slow(self, key: str, seconds: float, **options: Any) -> AnyChild:
        """Needs so many seconds to end when asked."""
        return Child(key, self._slow, seconds, **options)

    def deaf(self, key: str, **options: Any) -> AnyChild:
        """Has said that it listens, and does not settle when asked."""
        return Child(key, self._deaf, **options)

    def gate(self, key: str, **options: Any) -> AnyChild:
        """Its start waits until it is told ok, ignore or fail."""
        return Child(key, self._gate, **options)

    def fail2(self, key: str, **options: Any) -> AnyChild:
        """Its first start goes well, the later ones fail."""
        return Child(key, self._fail2, **options)

    def ignore1(self, key: str, **options: Any) -> AnyChild:
        """Its first start says ignore, the later ones go well."""
        return Child(key, self._ignore1, **options)

    def hang(self, key: str, flag: trio.Event, **options: Any) -> AnyChild:
        """Starts while the flag is down; later a start takes 2 seconds and fails."""
        return Child(key, self._hang, flag, **options)

    # More ways to end, for the table.

    def sulky(self, key: str, **options: Any) -> AnyChild:
        """Raises when asked to settle."""
        return Child(key, self._sulky, **options)

    def stoic(self, key: str, **options: Any) -> AnyChild:
        """Does not listen; swallows its cancellation and returns."""
        return Child(key, self._stoic, **options)

    def bitter(self, key: str, **options: Any) -> AnyChild:
        """Does not listen; raises instead of its cancellation."""
        return Child(key, self._bitter, **options)

    async def _plain(self, *, task_status: trio.TaskStatus[str]) -> str:
        with self.shift() as shift:
            shift.up(task_status)
            return await shift.stay()

    async def _heedless(self, *, task_status: trio.TaskStatus[str]) -> str:
        with self.shift() as shift:
            shift.up(task_status)
            return await shift.obey()

    async def _slow(self, seconds: float, *, task_status: trio.TaskStatus[str]) -> str:
        with self.shift() as shift:
            shift.up(task_status)
            with cancel_on_settle():
                return await shift.obey()
            await trio.sleep(seconds)
            shift.note("settled")
            return shift.value

    async def _deaf(self, *, task_status: trio.TaskStatus[str]) -> str:
        with self.shift() as shift:
            with cancel_on_settle():
                pass
            shift.up(task_status)
            return await shift.obey()

    async def _gate(self, *, task_status: trio.TaskStatus[str]) -> str:
        with self.shift() as shift:
            answer = await shift.orders.receive()
            if answer == "fail":
                shift.refuse()
            if answer == "ignore":
                shift.ignore()
            shift.up(task_status)
            return await shift.stay()

    async def _fail2(self, *, task_status: trio.TaskStatus[str]) -> str:
        with self.shift() as shift:
            if shift.incarnation > 1:
                shift.refuse()
            shift.up(task_status)
            return await shift.stay()

    async def _ignore1(self, *, task_status: trio.TaskStatus[str]) -> str:
        with self.shift() as shift:
            if shift.incarnation == 1:
                shift.ignore()
            shift.up(task_status)
            return await shift.stay()

    async def _hang(self, flag: trio.Event, *, task_status: trio.TaskStatus[str]) -> str:
        with self.shift() as shift:
            if flag.is_set():
                await trio.sleep(2)
                shift.refuse()
            shift.up(task_status)
            return await shift.stay()

    async def _sulky(self, *, task_status: trio.TaskStatus[str]) -> str:
        with self.shift() as shift:
            shift.up(task_status)
            with cancel_on_settle():
                return await shift.obey()
            shift.note("sulked")
            raise Crash(shift.value)

    async def _stoic(self, *, task_status: trio.TaskStatus[str]) -> str:
        with self.shift() as shift:
            shift.up(task_status)
            try:
                return await shift.obey()
            except trio.Cancelled:
                shift.note("swallowed")
                return shift.value

    async def _bitter(self, *, task_status: trio.TaskStatus[str]) -> str:
        with self.shift() as shift:
            shift.up(task_status)
            try:
                return await shift.obey()
            except trio.Cancelled:
                shift.note("protested")
                raise Crash(shift.value) from None
