"""Lines on their way to a stream that may be slow, full, narrow in its letters, or gone."""

from __future__ import annotations

import io
import os
import queue
import select
import threading
from typing import Any, Final

MOST_WAITING: Final = 10_000


class Printer:
    """Writes lines in a thread of its own: no stream ever holds up whoever has lines for it.

    Where ``MOST_WAITING`` lines are waiting already a further one is lost, and counted in the place
    where it is missing. What the stream makes of it (closed, full, cannot encode a letter) is
    nobody's error: from the first one that lasts, nothing more is written.
    """

    def __init__(self, stream: Any) -> None:
        self._encoding: str = getattr(stream, "encoding", None) or "utf-8"
        self._stream = stream
        # a copy: the number may belong to another file by the time it is written to
        self._file = _copy_of(stream)
        self._lost = 0
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._thread = threading.Thread(target=self._work, name="spry_py printer", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """How many lines have not been taken up yet."""
        return self._lines.qsize()

    @property
    def is_writing(self) -> bool:
        """Whether anything more will be written."""
        return self._thread.is_alive()

    def print(self, line: str) -> None:
        """Write a line when its turn comes; returns at once."""
        if self.waiting >= MOST_WAITING:
            self._lost += 1
            return
        lost, self._lost = self._lost, 0
        if lost:
            self._lines.put(f"({lost} lines are missing here: nobody read them)\n")
        self._lines.put(f"{line}\n")

    def close(self, within: float = 2.0) -> None:
        """Write what is left, for ``within`` seconds at most."""
        self._lines.put(None)
        self._thread.join(within)
        if self._file is not None and not self.is_writing:
            os.close(self._file)
            self._file = None

    def _work(self) -> None:
        while (line := self._lines.get()) is not None:
            try:
                self._write(line)
            except (OSError, ValueError, AttributeError):
                return  # AttributeError: there is no stream at all

    def _write(self, line: str) -> None:
        data = line.encode(self._encoding, "backslashreplace")
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
    except (AttributeError, OSError, ValueError, io.UnsupportedOperation):
        return None
