"""What a process writes: always read, cut to lines of bounded length, and logged.

A process may write faster than its lines can be logged. It is never held up for that: what cannot
be logged in time is dropped, oldest first, and counted.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import math
import os
import sys
from collections import deque
from collections.abc import Callable
from typing import Final

import trio

from spry_py import Context
from spry_py.lowlevel import log

LONGEST_LINE: Final = 4096
# what a pattern may look for in a longer one
LONGEST_LOOK: Final = 1 << 16
# how much is read, and how many lines are logged, between two looks at everything else
AT_ONCE: Final = 1 << 16
WIDE: Final = 1 << 20
LINES_AT_ONCE: Final = 256
# what can lie in a pipe after its last writer of ours; what still writes then is none of ours
AT_THE_END: Final = 1 << 20
# what may wait to be logged
MOST_LINES: Final = 1 << 14
MOST_BYTES: Final = 1 << 20
# and at the end, if lines were dropped before
LAST_LINES: Final = 1 << 10
# how long nothing is logged while lines are dropped, since reading comes first then
PAUSE: Final = 0.01
REPORTS_EVERY: Final = 1.0


def nothing(now: float) -> float:
    """There is nothing to be handed on."""
    return math.inf


class Drain:
    """One end of a pipe or socket, read whenever there is something.

    ``feed`` is called with what was read, and once with ``b""`` at the end; ``hand_on`` after each
    of them, with the time (``inf`` at the end), and again after as many seconds as it returns.
    """

    def __init__(
        self,
        fd: int,
        feed: Callable[[bytes], object],
        hand_on: Callable[[float], float] = nothing,
    ) -> None:
        os.set_blocking(fd, False)
        self._fd = fd
        self._feed = feed
        self._hand_on = hand_on
        self._is_over = False
        self._at_once = AT_ONCE
        self._is_wide = False

    async def pump(self) -> None:
        """Read until the end. Cancelling it loses nothing: what was read has been handed on."""
        pause = math.inf
        while pause < math.inf or not self._is_over:
            await self._wait(pause)
            self._read()
            pause = self._hand_on(trio.current_time())

    async def _wait(self, pause: float) -> None:
        if self._is_over or pause <= 0:
            await trio.sleep(pause)
            return
        with trio.move_on_after(pause):
            await trio.lowlevel.wait_readable(self._fd)

    async def rest(self) -> None:
        """Read what is there, and hand it on, without waiting for more."""
        left = AT_THE_END
        while left > 0 and (count := self._read()):
            left -= count
            self._hand_on(math.inf)
            await trio.lowlevel.checkpoint()
        while self._hand_on(math.inf) < math.inf:
            await trio.lowlevel.checkpoint()

    def close(self) -> None:
        """Let go of it: that is the end, even if a process still holds it."""
        try:
            if not self._is_over:
                self._feed(b"")
            self._hand_on(math.inf)
        finally:
            os.close(self._fd)

    def _read(self) -> int:
        if self._is_over:
            return 0
        try:
            data = os.read(self._fd, self._at_once)
        except BlockingIOError:
            return 0
        except ConnectionResetError:
            # a socket whose other end was killed with something unread
            data = b""
        self._is_over = not data
        if len(data) == AT_ONCE:
            self._widen()
        self._feed(data)
        return len(data)

    def _widen(self) -> None:
        """It was full: make it larger, so that the process waits for us less often."""
        if not self._is_wide and sys.platform == "linux":
            self._is_wide = True
            with contextlib.suppress(OSError):
                # not a pipe, or too much in pipes already
                fcntl.fcntl(self._fd, fcntl.F_SETPIPE_SZ, WIDE)
                self._at_once = WIDE // 4


class Lines:
    """Bytes into lines. Too long ones are cut; what is no text, or no line, is shown escaped.

    ``look`` sees each line as it was written, and what stands behind the last one, such as a
    prompt; ``lost`` is called with the number of lines that were dropped.
    """

    def __init__(
        self,
        emit: Callable[[str], object],
        look: Callable[[str], object],
        lost: Callable[[int], object],
    ) -> None:
        self._emit = emit
        self._look = look
        self._lost = lost
        # what has not been handed on, with the number of line ends in it
        self._waiting: deque[tuple[bytes, int]] = deque()
        self._lines = 0
        self._bytes = 0
        self._is_over = False
        self._begun = bytearray()
        self._is_cut = False
        # what comes next belongs to a line whose beginning was dropped
        self._is_torn = False
        self._dropped = 0
        self._is_flooded = False
        self._next_at = -math.inf
        self._report_at = math.inf

    def feed(self, data: bytes) -> None:
        """Go on with more bytes; none at all are the end."""
        self._is_over = not data
        if data:
            count = data.count(b"\n")
            self._waiting.append((data, count))
            self._lines += count
            self._bytes += len(data)
        self._shrink(MOST_LINES)

    def _put_back(self, data: bytes, count: int) -> None:
        self._waiting.appendleft((data, count))
        self._lines += count
        self._bytes += len(data)

    def _take(self) -> tuple[bytes, int]:
        data, count = self._waiting.popleft()
        self._lines -= count
        self._bytes -= len(data)
        return data, count

    def _shrink(self, most: int) -> None:
        while self._lines > most or self._bytes > MOST_BYTES:
            self._drop(most)

    def _drop(self, most: int) -> None:
        data, count = self._take()
        # the last words are worth most; in so many bytes there are no more lines
        room = max(0, min(most - self._lines, MOST_BYTES - self._bytes))
        cut = len(data) - room
        data, kept = data[:cut], data[cut:]
        if kept:
            in_kept = kept.count(b"\n")
            self._put_back(kept, in_kept)
            count -= in_kept
        self._dropped += count
        self._is_flooded = True
        self._is_torn = not data.endswith(b"\n")
        self._begun.clear()
        self._is_cut = False

    def hand_on(self, now: float) -> float:
        """Log some of what waits; returns in how many seconds to go on.

        ``inf``: when there is more.
        """
        if now == math.inf and self._is_flooded:
            self._shrink(LAST_LINES)
        if now >= self._next_at:
            self._tell_some()
            self._is_flooded = self._is_flooded and bool(self._waiting)
            self._next_at = now + PAUSE if self._is_flooded else -math.inf
        if self._dropped:
            self._report(now)
        if self._waiting:
            return self._next_at - now if now < self._next_at < math.inf else 0.0
        return self._report_at - now if self._dropped else math.inf

    def _report(self, now: float) -> None:
        if self._report_at == math.inf:
            self._report_at = now + REPORTS_EVERY
        if now >= self._report_at:
            self._lost(self._dropped)
            self._dropped = 0
            self._report_at = math.inf

    def _tell_some(self) -> None:
        left = LINES_AT_ONCE
        while self._waiting and left > 0:
            data, count = self._take()
            *lines, rest = data.split(b"\n", left)
            for line in lines:
                self._add(line)
                self._finish()
            left -= max(len(lines), 1)
            if count > len(lines):
                self._put_back(rest, count - len(lines))
            else:
                self._add(rest)
        if not self._waiting and (self._begun or self._is_torn):
            if self._is_over:
                self._finish()
            elif not self._is_torn:
                self._look(text_of(self._begun))

    def _add(self, piece: bytes) -> None:
        if not self._is_torn:
            room = LONGEST_LOOK - len(self._begun)
            self._begun += piece[:room]
            self._is_cut = self._is_cut or len(piece) > room

    def _finish(self) -> None:
        if self._is_torn:
            self._is_torn = False
            self._dropped += 1
            return
        raw, self._begun = self._begun, bytearray()
        is_cut, self._is_cut = self._is_cut or len(raw) > LONGEST_LINE, False
        self._look(text_of(raw.removesuffix(b"\r")))
        line = printable(text_of(raw[:LONGEST_LINE].rstrip())) + ("…" if is_cut else "")
        if line:
            self._emit(line)


def text_of(raw: bytes | bytearray) -> str:
    return raw.decode(errors="backslashreplace")


def printable(text: str) -> str:
    """The text with what a terminal would act upon escaped."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\t" else ascii(c)[1:-1] for c in text)


class Teller:
    """Writes log records about one incarnation of a child that is a process."""

    def __init__(self, context: Context, carrier: dict[str, str]) -> None:
        self._path = context.path
        self._fields: dict[str, object] = {
            "spry.child.key": context.key,
            "spry.child.path": context.path,
            "spry.child.incarnation": context.incarnation,
        }
        _, trace, span, flags = (*carrier.get("traceparent", "").split("-"), "", "", "")[:4]
        if flags:
            self._fields |= {"trace_id": trace, "span_id": span, "trace_flags": int(flags, 16)}

    def __call__(
        self, text: str, pid: int, stream: str | None = None, level: int = logging.INFO
    ) -> None:
        """Log a line that the process has written to ``stream``, or something else about it."""
        fields = self._fields | {"process.pid": pid}
        if stream is not None:
            fields["log.iostream"] = stream
        log(self._path, level, f"{self._path}: {text}", fields)
