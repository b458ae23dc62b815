"""Objects for the stories of components: they do as they were told, and record it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import trio

from spry_py import SystemHandle, cancel_on_settle
from spry_py.components import Component, StatusChange
from stories import Boom, Record

Act = Callable[["Thing"], Awaitable[object]]


async def stay(thing: Thing) -> object:
    """Run until somebody else ends it."""
    return await trio.sleep_forever()


def fail(error: BaseException, after: float = 1.0) -> Act:
    """Raise after so many seconds."""

    async def act(thing: Thing) -> object:
        await trio.sleep(after)
        raise error

    return act


def finish(value: object, after: float = 1.0) -> Act:
    """Return after so many seconds."""

    async def act(thing: Thing) -> object:
        await trio.sleep(after)
        return value

    return act


async def listen(thing: Thing) -> object:
    """Run until asked, then take two more seconds."""
    with cancel_on_settle():
        await trio.sleep_forever()
    await trio.sleep(2)
    return "listened"


async def resist(thing: Thing) -> object:
    """Run, and take three seconds to be cancelled."""
    try:
        return await trio.sleep_forever()
    finally:
        with trio.CancelScope(shield=True):
            await trio.sleep(3)


def by_run(*acts: Act) -> Act:
    """What the n-th run does."""

    async def act(thing: Thing) -> object:
        return await acts[min(thing.runs, len(acts)) - 1](thing)

    return act


async def nothing(thing: Thing) -> object:
    return None


async def sulk(thing: Thing) -> object:
    with cancel_on_settle():
        await trio.sleep_forever()
    raise Boom("sulks")


def of(tree: SystemHandle, path: str = "thing") -> Component:
    value = tree.find(path).value
    assert isinstance(value, SystemHandle)
    return Component.of(value)


class Thing:
    """An object with all methods that a component may have.

    Its n-th run does the n-th of ``acts``; the last one stands for all that follow. ``others`` says
    what its other methods do, by name. A fact reads `+thing1.2` for the second run of the first
    object, and `-thing1.2` for its very end.
    """

    def __init__(self, record: Record, made: list[Thing], acts: list[Act], **others: Act) -> None:
        made.append(self)
        self.record = record
        self.number = len(made)
        self.acts = acts
        self.others = others
        self.runs = 0
        self.alive = 0

    async def start(self) -> str:
        self.runs += 1
        return str(await self._do("start") or self.name)

    @property
    def name(self) -> str:
        return f"thing{self.number}.{self.runs}"

    async def run(self) -> object:
        self.record(f"+{self.name}")
        self.alive += 1
        try:
            return await self.acts[min(self.runs, len(self.acts)) - 1](self)
        finally:
            self.alive -= 1
            self.record(f"-{self.name}")

    async def recover(self, error: BaseException) -> None:
        self.record(f"recover {error!r}")
        await self._do("recover")

    async def handle_irrecoverable(self, error: BaseException) -> None:
        self.record(f"irrecoverable {error!r}")
        await self._do("handle_irrecoverable")

    async def cleanup(self) -> None:
        self.record(f"cleanup {self.number}")
        await self._do("cleanup")

    async def _do(self, name: str) -> object:
        assert not self.alive, f"{name} of {self.name} while it runs"
        act = self.others.get(name)
        return await act(self) if act is not None else None


async def watch(component: Component, told: list[str]) -> None:
    """Write down each status, to the end."""
    async for change in component.statuses():
        told += [in_words(change)]


def in_words(change: StatusChange) -> str:
    error = f" {change.error!r}" if change.error is not None else ""
    return f"{change.at:g} {change.status}{error}"


class Things:
    """What one story knows of its things: those made, and what they recorded."""

    def __init__(self) -> None:
        self.record = Record()
        self.made: list[Thing] = []

    def make(self, *acts: Act, **others: Act) -> Callable[[], Thing]:
        """What makes one more such thing."""
        return lambda: Thing(self.record, self.made, list(acts), **others)


def boom(number: int) -> Boom:
    return Boom(f"number {number}")


class Plain:
    """The least that a component can be."""

    def __init__(self, record: Record) -> None:
        self.record = record

    async def run(self) -> Any:
        self.record("runs")
        await trio.sleep(1)
        raise Boom("plain")
