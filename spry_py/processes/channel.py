"""Messages between a program and a function in its own process: frames, and the end of the latter.

It is imported there by its file name, without the package, as `call` is.
"""

from __future__ import annotations

import pickle
import socket
import struct
import sys
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from typing import Any, Final

# A frame is its kind, a number, and, if it carries a message, so many bytes.
HEAD: Final = struct.Struct(">cQ")
MESSAGE: Final = b"m"
# the number says how many messages its sender has received in all
RECEIVED: Final = b"r"
# its sender sends no more messages
NO_MORE: Final = b"n"

LARGEST: Final = 1 << 26
# messages sent and not received yet, and their bytes: where one end is slow, the other waits
MOST_AHEAD: Final = 64
MOST_BYTES_AHEAD: Final = 1 << 20
AT_ONCE: Final = 1 << 16


def packed(message: object) -> bytes:
    """A message as bytes; raises `TypeError` or `ValueError` if it cannot be sent."""
    try:
        data = pickle.dumps(message)
    except Exception as exception:
        raise TypeError(f"send: the message {message!r:.200} cannot be pickled") from exception
    if len(data) > LARGEST:
        raise ValueError(
            f"send: a message has at most {LARGEST} bytes when pickled, not {len(data)}"
        )
    return data


class Ahead:
    """What one end has sent, and the other has not received yet."""

    def __init__(self) -> None:
        # written by `send` and `received` alone
        self.sent: int = 0
        self._sizes: deque[int] = deque()
        self._bytes = 0

    @property
    def unreceived(self) -> range:
        """The numbers of these messages; the first message has the number 1."""
        return range(self.sent - len(self._sizes) + 1, self.sent + 1)

    def has_room(self) -> bool:
        """Whether one more may be sent. A large one may be, if little else is on its way."""
        return len(self._sizes) < MOST_AHEAD and self._bytes < MOST_BYTES_AHEAD

    def send(self, size: int) -> None:
        """One more is sent."""
        self.sent += 1
        self._sizes.append(size)
        self._bytes += size

    def received(self, count: int) -> None:
        """The other end has received so many in all."""
        while self._sizes and count > self.sent - len(self._sizes):
            self._bytes -= self._sizes.popleft()


class Frames:
    """Bytes into frames."""

    def __init__(self, hear: Callable[[bytes, int, bytes], object]) -> None:
        self._hear = hear
        self._begun = bytearray()

    def feed(self, data: bytes) -> None:
        """Take what has arrived; ``hear`` is called with kind, number and message of each frame."""
        self._begun += data
        at = 0
        while len(self._begun) - at >= HEAD.size:
            kind, number = HEAD.unpack_from(self._begun, at)
            body = at + HEAD.size
            end = body + (number if kind == MESSAGE else 0)
            if len(self._begun) < end:
                break
            self._hear(kind, number, bytes(self._begun[body:end]))
            at = end
        del self._begun[:at]


class Channel:
    """The end of a channel that a function in its own process is given, if it takes ``channel``.

    Messages are pickled, and arrive in order. At most 64 messages, or somewhat more than 1 MiB, are
    on their way: `send` waits until the program receives. Its methods may be called from any
    thread, `asend` and `areceive` from tasks of trio and of asyncio; a cancelled one has sent, or
    received, nothing.
    """

    def __init__(self, sock: socket.socket) -> None:
        sock.set_inheritable(False)
        self._sock = sock
        # guards all of the following
        self._news = threading.Condition()
        self._ahead = Ahead()
        self._leaving: deque[bytes] = deque()
        self._arrived: deque[bytes] = deque()
        self._received = 0
        # the program sends no more; nothing can be sent; this end has been closed
        self._is_over = self._is_broken = self._is_closed = False
        # called once, by the thread that has seen something new
        self._wakers: list[Callable[[], object]] = []
        for work in (self._read, self._write):
            threading.Thread(target=work, daemon=True).start()

    def send(self, message: object) -> None:
        """Send a message, as soon as there is room for one.

        Raises `TypeError` if it cannot be pickled, `ValueError` if it is larger than 64 MiB, and
        `BrokenPipeError` if the channel is closed or the program is gone.
        """
        data = packed(message)
        with self._news:
            self._news.wait_for(self._may_send)
            self._put(data)

    def receive(self) -> Any:
        """Wait for the next message, and return it; raise `EOFError` if there is none any more."""
        with self._news:
            self._news.wait_for(lambda: self._arrived or self._is_over)
            data = self._take()
        return pickle.loads(data)

    async def asend(self, message: object) -> None:
        """`send` in a task."""
        data = packed(message)
        while True:
            with self._news:
                if self._may_send():
                    self._put(data)
                    return
            await self._something_new(self._may_send)

    async def areceive(self) -> Any:
        """`receive` in a task."""
        while True:
            with self._news:
                if self._arrived or self._is_over:
                    data = self._take()
                    break
            await self._something_new(lambda: bool(self._arrived) or self._is_over)
        return pickle.loads(data)

    def __iter__(self) -> Iterator[Any]:
        """The messages that come, until the program sends no more."""
        while True:
            try:
                message = self.receive()
            except EOFError:
                return
            yield message

    async def __aiter__(self) -> AsyncIterator[Any]:
        """The messages that come, until the program sends no more."""
        while True:
            try:
                message = await self.areceive()
            except EOFError:
                return
            yield message

    def close(self) -> None:
        """Send no more, and wait until all has left. The end of the function does this as well."""
        with self._news:
            if not self._is_closed:
                self._is_closed = True
                self._leaving.append(HEAD.pack(NO_MORE, 0))
                self._news.notify_all()
            self._news.wait_for(lambda: not self._leaving or self._is_broken)

    # With the lock

    def _may_send(self) -> bool:
        return self._ahead.has_room() or self._is_broken or self._is_closed

    def _put(self, data: bytes) -> None:
        if self._is_closed:
            raise BrokenPipeError("this channel has been closed")
        if self._is_broken:
            raise BrokenPipeError("the program at the other end of this channel is gone")
        self._ahead.send(len(data))
        self._leaving.append(HEAD.pack(MESSAGE, len(data)) + data)
        self._news.notify_all()

    def _take(self) -> bytes:
        if not self._arrived:
            raise EOFError("no more messages: the program has closed its end of this channel")
        data = self._arrived.popleft()
        self._received += 1
        if not self._is_broken:
            self._leaving.append(HEAD.pack(RECEIVED, self._received))
            self._news.notify_all()
        return data

    # In threads of its own

    def _read(self) -> None:
        frames = Frames(self._heard)
        with suppress(OSError):
            while data := self._sock.recv(AT_ONCE):
                with self._news:
                    frames.feed(data)
                    self._wake()
        with self._news:
            self._is_over = self._is_broken = True
            self._wake()

    def _heard(self, kind: bytes, number: int, data: bytes) -> None:
        if kind == MESSAGE:
            self._arrived.append(data)
        elif kind == RECEIVED:
            self._ahead.received(number)
        else:
            self._is_over = True

    def _write(self) -> None:
        while not self._is_broken:
            with self._news:
                self._news.wait_for(lambda: self._leaving or self._is_broken)
                data = b"".join(self._leaving)
                count = len(self._leaving)
            try:
                self._sock.sendall(data)
            except OSError:
                self._is_broken = True
            with self._news:
                for _ in range(count):
                    self._leaving.popleft()
                self._wake()

    def _wake(self) -> None:
        self._news.notify_all()
        wakers, self._wakers = self._wakers, []
        for wake in wakers:
            # of a loop that is over by now
            with suppress(Exception):
                wake()

    # In tasks

    async def _something_new(self, is_there: Callable[[], bool]) -> None:
        """Wait until something has happened, unless it has by now."""
        event, wake = signal_here()
        with self._news:
            if is_there():
                return
            self._wakers.append(wake)
        await event.wait()


def signal_here() -> tuple[Any, Callable[[], object]]:
    """An event of the loop of this task, and how other threads set it."""
    # neither is imported for those who use neither
    asyncio, trio = sys.modules.get("asyncio"), sys.modules.get("trio")
    if trio is not None and trio.lowlevel.in_trio_task():
        event = trio.Event()
        token = trio.lowlevel.current_trio_token()
        return event, lambda: token.run_sync_soon(event.set)
    if asyncio is None:
        raise RuntimeError("asend() and areceive() work in tasks of trio and of asyncio")
    loop, happened = asyncio.get_running_loop(), asyncio.Event()
    return happened, lambda: loop.call_soon_threadsafe(happened.set)
