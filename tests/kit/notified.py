"""A service manager that hears what it is told: a socket of our own."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

VARIABLES = "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"


class Receiver:
    """What has come in, message by message."""

    def __init__(self, messages: socket.socket, where: str) -> None:
        self.where = where
        self._messages = messages

    def take(self) -> list[str]:
        """All that has come since the last time."""
        taken: list[str] = []
        self._messages.settimeout(0)
        while True:
            try:
                taken.append(self._messages.recv(4096).decode())
            except BlockingIOError:
                return taken

    def next(self, seconds: float = 60.0) -> str:
        """The next message; waits for it, and blocks meanwhile."""
        self._messages.settimeout(seconds)
        return self._messages.recv(4096).decode()


@contextmanager
def receiving(where: str | None = None) -> Iterator[Receiver]:
    """A receiver at a path of its own, or at an abstract name ``@...``."""
    with (
        tempfile.TemporaryDirectory() as directory,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as messages,
    ):
        where = where or os.path.join(directory, "notify")
        messages.bind(f"\0{where[1:]}" if where.startswith("@") else where)
        yield Receiver(messages, where)


@contextmanager
def notified(monkeypatch: pytest.MonkeyPatch, **variables: str) -> Iterator[Receiver]:
    """The same, named by the environment of this process."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    with receiving() as receiver:
        monkeypatch.setenv("NOTIFY_SOCKET", receiver.where)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        yield receiver
