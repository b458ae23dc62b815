"""Check: one question to one endpoint, and what came of it.

What comes back over the network, or does not, is data here: `check` returns it and does not raise.
"""

import os
import re
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeAlias

import trio
from trio.abc import Stream

from .targets import HTTP_PORT, Target

Connect: TypeAlias = Callable[[str, int], Awaitable[Stream]]

HEAD_LIMIT = 16 * 1024
END_OF_HEAD = re.compile(rb"\r?\n\r?\n")
STATUS_LINE = re.compile(rb"HTTP/1\.\d ([1-9]\d\d)(?: [^\r\n]*)?\r?\n")


class BadAnswer(Exception):
    """The endpoint was reached, and what it sent does not count as up."""


@dataclass(frozen=True, slots=True)
class Check:
    """`reached`: there was a connection. `error`: why it counts as down, `None` if it is up."""

    reached: bool
    error: str | None = None

    @property
    def up(self) -> bool:
        return self.error is None


async def check(target: Target, connect: Connect) -> Check:
    """Ask the endpoint once, in at most `target.timeout` seconds."""
    reached = False
    try:
        with trio.fail_after(target.timeout):
            async with await connect(target.host, target.port) as stream:
                reached = True
                if target.scheme == "http":
                    await ask(stream, target)
    except trio.TooSlowError:
        return Check(reached, f"no {'answer' if reached else 'connection'} in {target.timeout:g} s")
    except (OSError, trio.BrokenResourceError, BadAnswer) as error:
        return Check(reached, in_words(error))
    return Check(reached)


async def ask(stream: Stream, target: Target) -> None:
    """GET over HTTP/1.1; raises `BadAnswer` unless the status is below 400."""
    await stream.send_all(request(target))
    status = await final_status(stream)
    if status >= 400:
        raise BadAnswer(f"status {status}")


def request(target: Target) -> bytes:
    host = f"[{target.host}]" if ":" in target.host else target.host
    if target.port != HTTP_PORT:
        host = f"{host}:{target.port}"
    lines = (
        f"GET {target.path} HTTP/1.1",
        f"Host: {host}",
        "User-Agent: spry-py-uptime",
        "Accept: */*",
        "Connection: close",
    )
    return "".join(f"{line}\r\n" for line in (*lines, "")).encode("ascii")


async def final_status(stream: Stream) -> int:
    """The first status that is not interim: a server may send any number of 1xx heads before it."""
    received = b""
    while True:
        head, received = await next_head(stream, received)
        match = STATUS_LINE.match(head)
        if match is None:
            raise BadAnswer(f"not HTTP/1: {head[:40]!r}")
        status = int(match[1])
        if status >= 200 or status == 101:
            return status


async def next_head(stream: Stream, received: bytes) -> tuple[bytes, bytes]:
    """One whole head, and what was received after it."""
    while (end := END_OF_HEAD.search(received)) is None:
        if len(received) > HEAD_LIMIT:
            raise BadAnswer(f"not HTTP/1: {received[:40]!r}")
        data = await stream.receive_some()
        if not data:
            raise BadAnswer(f"closed after {len(received)} bytes, in the middle of an answer")
        received += data
    return received[: end.end()], received[end.end() :]


def in_words(error: BaseException) -> str:
    """The reason at the bottom: trio wraps the error of the system in errors of its own."""
    while True:
        if isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        elif isinstance(error, OSError) and error.errno:
            # Not always the system's own words: trio puts the address before them.
            of_system = not isinstance(error, socket.gaierror)
            return os.strerror(error.errno) if of_system else str(error.strerror)
        elif error.__cause__ is not None:
            error = error.__cause__
        else:
            return str(error) or type(error).__name__
