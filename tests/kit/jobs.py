"""What the stories about tasks share: a supervisor of tasks, and what it is given to do."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio

from spry_py import DynamicSupervisor, Failed, Normal, open_system
from stories import Record


@asynccontextmanager
async def open_desk(**options: Any) -> AsyncIterator[Any]:
    """A dynamic supervisor called `desk`, as a root."""
    async with open_system(DynamicSupervisor(name="desk", **options)) as desk:
        yield desk


async def double(seconds: float) -> float:
    """Sleep that long, and return twice as much."""
    await trio.sleep(seconds)
    return seconds * 2


async def crash(error: BaseException, takes: float | None) -> None:
    """Raise the error after so many seconds; with ``None`` without even a checkpoint."""
    if takes is not None:
        await trio.sleep(takes)
    raise error


def brief(result: object) -> object:
    """A result in short: the value, or the type and the arguments of the exception."""
    if isinstance(result, Normal):
        return result.value
    if isinstance(result, Failed):
        return (type(result.exception).__name__, *result.exception.args)
    return type(result).__name__


class Toil:
    """Jobs that record what happens to them: `+n` at the start, `-n` at the very end."""

    def __init__(self, record: Record, cleanup: float = 0.0) -> None:
        self._record = record
        self._cleanup = cleanup

    async def job(self, seconds: int) -> int:
        """Work that long, and return the number of seconds."""
        self._record(f"+{seconds}")
        try:
            await trio.sleep(seconds)
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(self._cleanup)
            self._record(f"-{seconds}")
        return seconds
