"""Subscriptions to the events of a tree: a bounded buffer for each, filled without waiting.

Publishing never waits and never fails, so that the tree depends on no subscriber. A full buffer
loses its oldest event: who is slow still learns how things are now, and how they ended.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Final, Self

import trio
from trio.lowlevel import enable_ki_protection

from spry_py._kernel.facts import Event, EventsLost, Stream
from spry_py._kernel.here import refuse_elsewhere
from spry_py._spec.check import Block, check_count

IN_A_ROW: Final = 16


class Subscription:
    """An async iterator over the events at and below one path."""

    __slots__ = (
        "_below",
        "_buffer",
        "_capacity",
        "_is_closed",
        "_last_lost",
        "_lost",
        "_path",
        "_readers",
        "_row",
        "_stream",
        "token",
    )

    def __init__(
        self, stream: Stream, path: str, capacity: float, token: trio.lowlevel.TrioToken
    ) -> None:
        self._stream = stream
        # the run of trio that it may be read in
        self.token = token
        self._path = path
        self._below = f"{path}/"
        self._capacity = capacity
        self._buffer: deque[Event] = deque()
        # how many are missing before the first in the buffer, and the last of them
        self._lost = 0
        self._last_lost: Event | None = None
        self._readers = trio.lowlevel.ParkingLot()
        self._is_closed = False
        # reads in a row that found something, since the last one that let other tasks run
        self._row = 0

    def offer(self, event: Event) -> None:
        """Keep an event for the reader, if it is one of ours."""
        path = event.path
        if path.startswith(self._below) or path == self._path:
            if len(self._buffer) >= self._capacity:
                self._lost += 1
                self._last_lost = self._buffer.popleft()
            self._buffer.append(event)
            if self._readers:
                self._readers.unpark()

    def wake(self) -> None:
        """Let all readers look again."""
        self._readers.unpark_all()

    def close(self) -> None:
        """The subscriber has left."""
        self._is_closed = True
        self._buffer.clear()
        self.wake()

    def __aiter__(self) -> Self:
        return self

    @enable_ki_protection
    async def __anext__(self) -> Event:
        """The next event; waits for it, and ends when the root has ended.

        Cancelling it loses no event. A checkpoint, but that of the events that are there already
        only each 16th lets other tasks run, which makes them several times as cheap. Raises
        `trio.ClosedResourceError` after the end of the ``async with`` block.
        """
        if self._buffer:
            self._row = (self._row + 1) % IN_A_ROW
            if self._row:
                await trio.lowlevel.checkpoint_if_cancelled()
            else:
                await trio.lowlevel.checkpoint()
        while not self._buffer:
            if self._is_closed:
                raise trio.ClosedResourceError("this subscription has been left already")
            if self._stream.has_ended:
                await trio.lowlevel.checkpoint()
                raise StopAsyncIteration
            refuse_elsewhere(self.token, "the iteration over SystemHandle.events")
            await self._readers.park()
        return self._tell_lost() if self._lost else self._buffer.popleft()

    def _tell_lost(self) -> EventsLost:
        count, last = self._lost, self._last_lost
        assert last is not None
        self._lost, self._last_lost = 0, None
        return EventsLost(last.seq, last.at, self._path, count, time=last.time)


def subscribe(
    stream: Stream, path: str, capacity: float, token: trio.lowlevel.TrioToken
) -> AbstractAsyncContextManager[AsyncIterator[Event]]:
    """A subscription for the duration of an ``async with`` block.

    Raises `TypeError` or `ValueError` at once for a bad ``capacity``.
    """
    check_count("events", "capacity", capacity, infinite=True, least=1)
    return _Subscribed(Subscription(stream, path, capacity, token), stream)


class _Subscribed(Block[AsyncIterator[Event]]):
    """A subscription, from entering the block to its end. A class: see `_run`."""

    call, target = "handle.events", "events"

    def __init__(self, subscriber: Subscription, stream: Stream) -> None:
        self._subscriber = subscriber
        self._stream = stream

    @enable_ki_protection
    async def __aenter__(self) -> Subscription:
        refuse_elsewhere(self._subscriber.token, "the block of SystemHandle.events")
        self._stream.join(self._subscriber)
        return self._subscriber

    @enable_ki_protection
    async def __aexit__(self, *_: object) -> None:
        self._stream.leave(self._subscriber)
        self._subscriber.close()
