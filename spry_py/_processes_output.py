"""What a process writes: always read, cut to lines of bounded length, told as log records."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import Final

import trio

from . import Context
from ._logs import write

LONGEST_LINE: Final = 4096
# how much is read between two looks at everything else
AT_ONCE: Final = 4096
# what can lie in a pipe once nobody writes to it any more; who still writes is none of ours
AT_THE_END: Final = 1 << 20


class Drain:
    """One end of a pipe or socket, read whenever there is something.

    ``feed`` is called with what was read, and once with ``b""`` at the end.
    """

    def __init__(self, fd: int, feed: Callable[[bytes], object], at_once: int = AT_ONCE) -> None:
        os.set_blocking(fd, False)
        self._fd = fd
        self._feed = feed
        self._at_once = at_once
        self._is_over = False

    async def pump(self) -> None:
        """Read until the end. Cancelling it loses nothing: what was read has been handed on."""
        while not self._is_over:
            await trio.lowlevel.wait_readable(self._fd)
            self._read()

    def rest(self) -> None:
        """Read what is there, without waiting for more."""
        left = AT_THE_END
        while left > 0 and (count := self._read()):
            left -= count

    def close(self) -> None:
        """Read what is there, and let go of it: that is the end, whoever holds it still."""
        try:
            self.rest()
            if not self._is_over:
                self._feed(b"")
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
        self._feed(data)
        return len(data)


class Lines:
    """Bytes into lines. Too long ones are cut; what is no text, or no line, is shown escaped."""

    def __init__(self, tell: Callable[[str], object]) -> None:
        self._tell = tell
        self._begun = b""
        self._is_cut = False

    def feed(self, data: bytes) -> None:
        """Go on with more bytes; none at all are the end."""
        first, *others = data.split(b"\n")
        self._add(first)
        for piece in others:
            self._finish()
            self._add(piece)
        if not data:
            self._finish()

    def _add(self, piece: bytes) -> None:
        room = LONGEST_LINE - len(self._begun)
        self._begun += piece[:room]
        self._is_cut = self._is_cut or len(piece) > room

    def _finish(self) -> None:
        text = self._begun.rstrip().decode(errors="backslashreplace")
        line = printable(text) + ("…" if self._is_cut else "")
        self._begun, self._is_cut = b"", False
        if line:
            self._tell(line)


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
        """Tell a line that the process has written to ``stream``, or something else about it."""
        fields = self._fields | {"process.pid": pid}
        if stream is not None:
            fields["log.iostream"] = stream
        write(self._path, level, f"{self._path}: {text}", fields)
