"""`Post`: the end of a channel in the program that has started the process."""

from __future__ import annotations

import os
import pickle
from collections import deque
from typing import Any

import trio

from .channel import HEAD, MESSAGE, NO_MORE, RECEIVED, Ahead, Frames, packed


class Post:
    """Messages to and from one process. `Process` has its methods for the user."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._ahead = Ahead()
        self._frames = Frames(self._heard)
        self._leaving: deque[bytes] = deque()
        self._arrived: deque[bytes] = deque()
        self._received = 0
        # written by `_heard` and `feed`; by `feed`; by `close`
        self._is_over = self._is_gone = self._is_closed = False
        self._turns = trio.StrictFIFOLock()
        # woken when there may be room, a message, something to write
        self._senders = trio.lowlevel.ParkingLot()
        self._receivers = trio.lowlevel.ParkingLot()
        self._writer = trio.lowlevel.ParkingLot()

    @property
    def unreceived(self) -> range:
        """The numbers of the messages that were sent, and that the function has not received."""
        return self._ahead.unreceived

    async def send(self, message: object) -> None:
        """Wait for room, and send."""
        data = packed(message)
        async with self._turns:
            while not (self._ahead.has_room() or self._is_gone or self._is_closed):
                await self._senders.park()
            if self._is_closed:
                raise trio.ClosedResourceError(f"the channel to {self._path!r} has been closed")
            if self._is_gone:
                raise trio.BrokenResourceError(f"the process of {self._path!r} receives no more")
            self._ahead.send(len(data))
            self._put(HEAD.pack(MESSAGE, len(data)) + data)

    async def receive(self) -> Any:
        """Wait for a message; the end of them is `trio.EndOfChannel`."""
        await trio.lowlevel.checkpoint_if_cancelled()
        while not self._arrived:
            if self._is_over:
                await trio.lowlevel.cancel_shielded_checkpoint()
                raise trio.EndOfChannel(f"the process of {self._path!r} sends no more")
            await self._receivers.park()
        data = self._arrived.popleft()
        self._received += 1
        self._put(HEAD.pack(RECEIVED, self._received))
        await trio.lowlevel.cancel_shielded_checkpoint()
        return pickle.loads(data)

    def close(self) -> None:
        """Send no more."""
        if not self._is_closed:
            self._is_closed = True
            self._put(HEAD.pack(NO_MORE, 0))
            self._senders.unpark_all()

    def _put(self, frame: bytes) -> None:
        self._leaving.append(frame)
        self._writer.unpark_all()

    def feed(self, data: bytes) -> None:
        """Take what has arrived; nothing is the end."""
        self._frames.feed(data)
        if not data:
            self._is_over = self._is_gone = True
            self._senders.unpark_all()
            self._receivers.unpark_all()

    def _heard(self, kind: bytes, number: int, data: bytes) -> None:
        if kind == MESSAGE:
            self._arrived.append(data)
            self._receivers.unpark()
        elif kind == RECEIVED:
            self._ahead.received(number)
            self._senders.unpark()
        else:
            self._is_over = True
            self._receivers.unpark_all()

    async def write(self, fd: int) -> None:
        """Write what is to leave, for the life of the process."""
        while True:
            while not self._leaving:
                await self._writer.park()
            if not await write_all(fd, self._leaving[0]):
                return
            self._leaving.popleft()


async def write_all(fd: int, data: bytes) -> bool:
    """Write all of it, but for a part if cancelled; `False` if the other side has closed it."""
    left = memoryview(data)
    while left:
        await trio.lowlevel.wait_writable(fd)
        try:
            left = left[os.write(fd, left) :]
        except BlockingIOError:
            continue
        except (BrokenPipeError, ConnectionResetError):
            return False
    return True
