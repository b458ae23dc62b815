"""What a component is doing, and a way to watch that without missing anything."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Self, TypeAlias

import trio

ComponentStatus: TypeAlias = Literal[
    "starting", "recovering", "running", "restarting", "stopping", "stopped"
]


@dataclass(frozen=True, slots=True)
class StatusChange:
    """A component's status from ``at`` on, in seconds on trio's clock.

    ``error`` is what it recovers from (``"recovering"``, ``"restarting"``), or what it has given up
    on (``"stopping"``, ``"stopped"``); ``None`` if there is no such thing.
    """

    status: ComponentStatus
    error: BaseException | None
    at: float


class _Link:
    """A change and the one after it: from a link a reader finds all that follow."""

    __slots__ = ("change", "next")

    def __init__(self, change: StatusChange | None, following: _Link | None = None) -> None:
        self.change: StatusChange | None = change
        self.next: _Link | None = following


class News:
    """The changes of one component, written by its life; the last one is that it has stopped."""

    __slots__ = ("_last", "_readers", "present")

    def __init__(self) -> None:
        self.present: StatusChange = StatusChange("starting", None, trio.current_time())
        self._last = _Link(self.present)
        self._readers = trio.lowlevel.ParkingLot()

    def put(self, status: ComponentStatus, error: BaseException | None = None) -> None:
        """Add a change, unless it is the present status."""
        if self.present.status == status and self.present.error is error:
            return
        self.present = StatusChange(status, error, trio.current_time())
        self._last.next = link = _Link(self.present)
        self._last = link
        self._readers.unpark_all()

    def read(self) -> StatusChanges:
        """The present status, and all that follow."""
        return StatusChanges(_Link(None, self._last), self._readers)


class StatusChanges:
    """An async iterator over the status of a component: the present one, then each change.

    Ends behind ``"stopped"``. A slow reader misses nothing, and does not delay the component: the
    changes it has not read yet are kept for it, however many there are. Cancelling it loses none.
    """

    __slots__ = ("_read", "_readers")

    def __init__(self, before: _Link, readers: trio.lowlevel.ParkingLot) -> None:
        self._read = before
        self._readers = readers

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> StatusChange:
        await trio.lowlevel.checkpoint()
        while self._read.next is None:
            if self._read.change is not None and self._read.change.status == "stopped":
                raise StopAsyncIteration
            await self._readers.park()
        self._read = self._read.next
        assert self._read.change is not None
        return self._read.change
