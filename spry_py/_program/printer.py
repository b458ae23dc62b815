"""Lines on their way to a stream that may be slow, full, narrow in its letters, or gone."""

from __future__ import annotations

import os
import queue
import select
import threading
from typing import Any, Final

MOST_WAITING: Final = 10_000
# So much a pipe takes at once when `poll` reports that it takes anything.
_AT_ONCE: Final = 512


class Printer:
    """Writes lines without ever waiting for the stream that they go to.

    What the stream takes at once is written at once, in order with all else that the program
    prints; the rest goes to a thread. Where ``MOST_WAITING`` lines are waiting for it a further one
    is lost, and counted in the place where it is missing. An error of the stream (closed, full,
    cannot encode a letter) is not raised: after the first one nothing more is written.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._encoding: str = getattr(stream, "encoding", None) or "utf-8"
        # a copy: the number may belong to another file by the time it is written to
        self._file = _copy_of(stream)
        self._lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        # how many were handed to the thread, and, written by the thread, how many it has dealt with
        self._given = 0
        self._done = 0
        self._lost = 0
        self._is_gone = False

    @property
    def waiting(self) -> int:
        """How many lines wait for the stream."""
        return self._given - self._done

    def print(self, line: str) -> None:
        """Write a line, now or when the stream takes it; returns at once."""
        if self._is_gone:
            return
        if self.waiting >= MOST_WAITING:
            self._lost += 1
            return
        lost, self._lost = self._lost, 0
        text = f"({lost} lines are missing here: no one read them)\n" if lost else ""
        data = f"{text}{line}\n".encode(self._encoding, "backslashreplace")
        rest = data if self.waiting else self._write_what_is_taken(data)
        if rest:
            self._hand_over(rest)

    def close(self, within: float = 2.0) -> None:
        """Write what is left, for ``within`` seconds at most."""
        if self._thread is not None:
            self._lines.put(None)
            self._thread.join(within)
        if self._file is not None and not self.waiting:
            os.close(self._file)
            self._file = None
        self._is_gone = True

    def _write_what_is_taken(self, data: bytes) -> bytes:
        """Write as much as does not have to wait, and return the rest."""
        try:
            while data and self._file is not None and _is_ready(self._file):
                data = data[os.write(self._file, data[:_AT_ONCE]) :]
        except BlockingIOError:
            pass
        except OSError:
            self._is_gone = True
            return b""
        return data

    def _hand_over(self, data: bytes) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="spry_py printer", daemon=True)
            self._thread.start()
        self._given += 1
        self._lines.put(data)

    def _work(self) -> None:
        while (data := self._lines.get()) is not None:
            try:
                if not self._is_gone:
                    self._write(data)
            except (OSError, ValueError, AttributeError):  # AttributeError: there is no stream
                self._is_gone = True
            self._done += 1

    def _write(self, data: bytes) -> None:
        if self._file is None:
            self._stream.write(data.decode(self._encoding))
            self._stream.flush()
        while data and self._file is not None:
            try:
                data = data[os.write(self._file, data) :]
            except BlockingIOError:
                select.select([], [self._file], [])


def _copy_of(stream: Any) -> int | None:
    """The number of the file behind a stream, opened once more; ``None`` if there is none."""
    try:
        return os.dup(stream.fileno())
    except (AttributeError, OSError, ValueError):
        return None


def _is_ready(file: int) -> bool:
    """Whether a file takes something at once; false where the system has no `poll`."""
    if not hasattr(select, "poll"):
        return False
    poll = select.poll()
    poll.register(file, select.POLLOUT)
    return bool(poll.poll(0))
