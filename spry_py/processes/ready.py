"""What makes a command ready: a line, an open port, or systemd's notification."""

from __future__ import annotations

import errno
import os
import re
import socket
import tempfile
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

import trio

from .run import in_use

if TYPE_CHECKING:
    from .run import Run

POLL: Final = 0.05
ANSWERS_WITHIN: Final = 1.0


@dataclass(frozen=True, slots=True)
class Line:
    """See `line`."""

    pattern: re.Pattern[str]

    async def prepare(self, run: Run) -> None:
        run.on_line = partial(self._look, run)

    def _look(self, run: Run, line: str) -> None:
        match = self.pattern.search(line)
        if match is not None:
            run.ready(match)


@dataclass(frozen=True, slots=True)
class Port:
    """See `port`."""

    host: str
    number: int

    async def prepare(self, run: Run) -> None:
        if await self._is_open():
            raise in_use(self.host, self.number)
        run.tasks.append(partial(self._poll, run))

    async def _poll(self, run: Run) -> None:
        while not await self._is_open():  # noqa: ASYNC110 - nothing can be waited for here
            await trio.sleep(POLL)
        run.ready()

    async def _is_open(self) -> bool:
        with trio.move_on_after(ANSWERS_WITHIN):
            try:
                stream = await trio.open_tcp_stream(self.host, self.number)
            except OSError:
                return False
            # a socket may connect to itself, if it was given that very port
            is_other: bool = stream.socket.getsockname() != stream.socket.getpeername()
            await stream.aclose()
            return is_other
        return False


@dataclass(frozen=True, slots=True)
class Notify:
    """See `notify`."""

    async def prepare(self, run: Run) -> None:
        # a path that no other user can write to, and short enough for a socket
        where = run.closing.enter_context(
            tempfile.TemporaryDirectory(prefix="spry-", ignore_cleanup_errors=True)
        )
        path = os.path.join(where, "notify")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as messages:
            bind(messages, path)
            run.variables["NOTIFY_SOCKET"] = path
            run.add_drain(messages.detach(), partial(self._hear, run))

    def _hear(self, run: Run, message: bytes) -> None:
        # the last of each name counts: however much is sent at once is soon heard
        lines = message.decode(errors="replace").splitlines()
        pairs = (line.partition("=") for line in lines)
        fields = {name: value for name, _, value in pairs}
        if fields.get("READY") == "1":
            run.ready()
        if fields.get("WATCHDOG") == "1":
            run.context.heartbeat()
        if "STATUS" in fields:
            run.log(f"status: {fields['STATUS']}")


def bind(messages: socket.socket, path: str) -> None:
    """Have it receive at a path, which is named if that is refused."""
    try:
        messages.bind(path)
    except OSError as error:
        why = f"{error.strerror or error}: notify() cannot receive here (TMPDIR sets the directory)"
        raise OSError(error.errno or errno.ENAMETOOLONG, why, path) from error
