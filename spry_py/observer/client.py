"""Asking an observer over its socket, as commands do that wait for nothing else."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from . import address

# a loop that turns sends something each second
PATIENCE: Final = 2.0
# an action has a reply after 30 s at the latest
_ACTION: Final = 35.0
_MOST_LINE: Final = 1 << 28

Json = dict[str, Any]


class Trouble(Exception):
    """What a command cannot do, in words for the one who gave it."""


class Refused(Trouble):
    """The tree has refused it."""


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class Client:
    """One observer, by the path of its socket."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def pid(self) -> str:
        """The number of its process, which is in the name of the socket."""
        return self.path.stem.partition("-")[0]

    def get(self, route: str, **query: str) -> Json:
        """What is sent for a look. Raises `Trouble`."""
        return self._ask("GET", route, query, PATIENCE)

    def do(self, action: str, path: str) -> Json:
        """What came of an action. Raises `Trouble`."""
        self.get("/tree", depth="0")  # so that one knows at once if the loop is blocked
        return self._ask("POST", f"/do/{action}", {"path": path} if path else {}, _ACTION)

    def events(self) -> Iterator[tuple[str, Json]]:
        """What is sent to those who look, until it ends: kind and data. Raises `Trouble`."""
        with self._open("GET", "/events", {}, PATIENCE) as reply:
            kind = ""
            while line := self._line(reply):
                name, _, value = line.rstrip("\n").partition(": ")
                if name == "event":
                    kind = value
                elif name == "data":
                    yield kind, json.loads(value)
                elif name == ":":
                    yield "", {}

    def _line(self, reply: http.client.HTTPResponse) -> str:
        try:
            return reply.readline(_MOST_LINE).decode()
        except (TimeoutError, OSError, http.client.HTTPException) as error:
            raise self._trouble(error) from None

    def _ask(self, method: str, route: str, query: dict[str, str], timeout: float) -> Json:
        with self._open(method, route, query, timeout) as reply:
            try:
                body = reply.read()
            except (TimeoutError, OSError, http.client.HTTPException) as error:
                raise self._trouble(error) from None
        found: Json = json.loads(body)
        if reply.status >= 400:
            raise Refused(str(found.get("message", reply.reason)))
        return found

    def _open(
        self, method: str, route: str, query: dict[str, str], timeout: float
    ) -> http.client.HTTPResponse:
        asked = "&".join(f"{name}={quote(value, safe='')}" for name, value in query.items())
        connection = _Connection(self.path, timeout)
        try:
            connection.request(method, f"{route}?{asked}" if asked else route)
            return connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise self._trouble(error) from None

    def _trouble(self, error: Exception) -> Trouble:
        """What is to be said about a process that did not reply."""
        if not isinstance(error, TimeoutError):
            return Trouble(f"process {self.pid} has gone, or closed its observer ({error})")
        blocked = self.blocked()
        if blocked is None:
            return Trouble(f"process {self.pid} does not respond: its event loop is blocked")
        return Trouble(f"process {self.pid} does not respond: {blocked}")

    def blocked(self) -> str | None:
        """Who blocks the loop and where, as the watchdog has last seen it."""
        with suppress(OSError, ValueError, KeyError, TypeError):
            text = address.report_of(self.path).read_text(encoding="utf-8")
            found = json.loads(text)
            who = found["path"] or f"the task {found['task']!r}"
            stack = str(found["stack"]).rstrip("\n")
            return (
                f"{who} has been blocking its event loop for more than {found['seconds']:.3g} s; "
                f"it stands at\n{stack}"
            )
        return None


def choose(pid: int | None, path: str | None) -> Client:
    """The observer that is meant. Raises `Trouble` if there is none, or more than one."""
    if path is not None:
        return Client(Path(path))
    try:
        alive, _ = address.found()
    except OSError as error:
        raise Trouble(f"{error.filename}: {error.strerror}") from None
    found = [Client(one) for one in alive]
    if pid is not None:
        found = [client for client in found if client.pid == str(pid)]
    if not found:
        of = f" of process {pid}" if pid is not None else ""
        raise Trouble(f"no observer{of} is running: start one by spry-py run --observe ...")
    if len(found) > 1:
        paths = "\n".join(f"  --socket {client.path}" for client in found)
        raise Trouble(f"there are several observers; say which one:\n{paths}")
    return found[0]
