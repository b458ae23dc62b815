"""Workers for stories on virtual time: they wait for orders and record what becomes of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Literal, NoReturn

import trio
import trio.testing

from spry_py import (
    Child,
    Ignore,
    RateLimited,
    RestartType,
    Strategy,
    SystemHandle,
    SystemSupervisor,
    TerminationReport,
    current_context,
    open_system,
)
from spry_py.testing import Script, Step

AnyChild = Child[Any]
Listing = list[tuple[str, str, int]]

STRATEGIES: tuple[Strategy, ...] = ("one_for_one", "rest_for_one", "one_for_all")
RESTARTS: tuple[RestartType, ...] = ("permanent", "transient", "temporary")


async def calm() -> None:
    """Wait until nobody has anything left to do but to wait; no virtual time passes."""
    await trio.testing.wait_all_tasks_blocked()


class Parcel:
    """An argument that one can see being forgotten."""


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


def open_empty(strategy: Strategy = "one_for_one") -> Any:
    """A system without children, as a root."""
    return open_system(supervise([], strategy, restarts=100))


def listing(handle: SystemHandle) -> Listing:
    """Key, status and incarnation of every child listed, in start order."""
    return [(info.key, info.status, info.incarnation) for info in handle.which_children()]


def counts(handle: SystemHandle) -> tuple[int, int, int, int]:
    """The catalogue's `[specs, active, supervisors, workers]`."""
    counted = handle.count_children()
    return (counted.specs, counted.active, counted.supervisors, counted.workers)


def ending(report: TerminationReport | None) -> tuple[str, str, float]:
    """How a child has ended: reason, burden, and the moment."""
    assert report is not None
    return (type(report.reason).__name__, report.burden, report.ended_at)


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


def die() -> NoReturn:
    """A step of a worker: it crashes, with words that say which run it is."""
    context = current_context()
    raise Crash(f"{context.key}#{context.incarnation}")


def refuse() -> NoReturn:
    """A step of a worker: its start fails."""
    context = current_context()
    raise Refusal(f"{context.key}#{context.incarnation}")


async def swallow() -> None:
    """A step of a worker that does not listen, and returns when it is cancelled."""
    with suppress(trio.Cancelled):
        await trio.sleep_forever()


async def protest() -> None:
    """A step of a worker that does not listen, and crashes when it is cancelled."""
    await swallow()
    die()


async def be_killed() -> None:
    """A step of a worker: it is made to fail from outside its own code."""
    current_context().fail(Crash("killed"))
    await trio.sleep_forever()


Way = Literal["stop", "die", "kill"]
ORDERS: dict[str, Step | None] = {"stop": None, "die": die, "kill": be_killed}


class Worker(Script):
    """An actor of a crew: how a run of it begins and ends is a fact."""

    def __init__(self, crew: Crew, key: str, runs: Sequence[Sequence[Step]]) -> None:
        super().__init__(*runs)
        self._crew = crew
        self._key = key

    def note(self, what: str) -> None:
        super().note(what)
        if what.startswith(("start", "returned", "raised", "aborted")):
            self._crew.facts.append(f"{self._key} {what}")


class Crew:
    """All workers of one story: what they did, in order, and the way to give them orders.

    Workers are known by their key. A fact is one behind which stands a word of `Script.ran`: of the
    start and the end of a run.
    """

    def __init__(self) -> None:
        self.facts: list[str] = []
        self._workers: dict[str, Worker] = {}

    def news(self) -> list[str]:
        """What has happened since this was asked last."""
        news = self.facts[:]
        self.facts.clear()
        return news

    async def tell(self, key: str, order: Step | None) -> list[str]:
        """Let one go on with a step, let everything come to rest, and return what has happened."""
        self._workers[key].go_on(order)
        await calm()
        return self.news()

    async def tell_soon(self, key: str, order: Step | None) -> None:
        """Let one go on when everything has come to rest, from a task beside the story."""
        await calm()
        self._workers[key].go_on(order)

    def child(
        self, key: str, *runs: Sequence[Step], given: Sequence[object] = (), **options: Any
    ) -> AnyChild:
        """Does what is written, a list of steps for each run."""
        self._workers[key] = worker = Worker(self, key, runs)
        return Child(key, worker, *given, **options)

    # The catalogue's fixtures.

    def worker(self, key: str, **options: Any) -> AnyChild:
        """Waits for orders, and listens."""
        return self.child(key, ["start", "wait"], **options)

    def heedless(self, key: str, **options: Any) -> AnyChild:
        """Never listens: aborted at once when it shall end."""
        return self.child(key, ["start", math.inf], **options)

    def slow(self, key: str, seconds: float, **options: Any) -> AnyChild:
        """Needs so many seconds to end when asked."""
        return self.child(key, ["start", "wait", seconds], **options)

    def deaf(self, key: str, **options: Any) -> AnyChild:
        """Has said that it listens, and does not settle when asked."""
        return self.child(key, ["start", "deaf"], **options)

    def gate(self, key: str, **options: Any) -> AnyChild:
        """Its start waits for orders, too."""
        return self.child(key, ["wait", "start", "wait"], **options)

    def fail2(self, key: str, **options: Any) -> AnyChild:
        """Its first start goes well, the later ones fail."""
        return self.child(key, ["start", "wait"], [refuse], **options)

    def ignore1(self, key: str, **options: Any) -> AnyChild:
        """Its first start says ignore, the later ones go well."""
        return self.child(key, [Ignore], ["start", "wait"], **options)

    def hang(self, key: str, flag: trio.Event, **options: Any) -> AnyChild:
        """Starts while the flag is down; later a start takes 2 seconds and fails."""

        async def hang() -> None:
            if flag.is_set():
                await trio.sleep(2)
                refuse()

        return self.child(key, [hang, "start", "wait"], **options)

    # More ways to end, for the table.

    def sulky(self, key: str, **options: Any) -> AnyChild:
        """Raises when asked to settle."""
        return self.child(key, ["start", "wait", die], **options)

    def stoic(self, key: str, **options: Any) -> AnyChild:
        """Does not listen; swallows its cancellation and returns."""
        return self.child(key, ["start", swallow], **options)

    def bitter(self, key: str, **options: Any) -> AnyChild:
        """Does not listen; raises instead of its cancellation."""
        return self.child(key, ["start", protest], **options)
