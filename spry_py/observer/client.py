"""Asking an observer over its socket, as commands do that wait for nothing else."""

from __future__ import annotations

import http.client
import json
import math
import select
import socket
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, cast
from urllib.parse import quote

from . import address

# a loop that turns sends something each second
PATIENCE: Final = 2.0
# an action has a reply after 30 s at the latest
_ACTION: Final = 35.0
# a loop that was blocked for so long while a reply was waited for is not waited for any longer
_BLOCKED: Final = 1.0
_LOOK: Final = 0.1
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
        until = time.monotonic() + (self.timeout or 0.0)
        while True:
            try:
                self.sock.connect(str(self._path))
            except BlockingIOError:  # so many wait already
                if time.monotonic() >= until:
                    raise TimeoutError("no one is let in") from None
                time.sleep(_LOOK)
            else:
                return


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
        try:
            return self._ask("POST", f"/do/{action}", {"path": path} if path else {}, _ACTION)
        except TimeoutError:
            asked = f"{action} of {path} was asked for" if path else f"{action} was asked for"
            raise Trouble(f"{asked}, and may still be done; {self._silence()}") from None

    def events(self) -> Iterator[tuple[str, Json]]:
        """What is sent to those who look, until it ends: kind and data. Raises `Trouble`."""
        with self._connected(PATIENCE) as connection:
            reply = self._sent(connection, "GET", "/events", {}, PATIENCE)
            if reply.status != http.HTTPStatus.OK:
                raise Refused(self._message(reply))
            kind = ""
            while line := self._line(reply):
                name, _, value = line.rstrip("\n").partition(": ")
                if name == "event":
                    kind = value
                elif name == "data":
                    yield kind, self._parsed(value)
                elif name == ":":
                    yield "", {}

    def _line(self, reply: http.client.HTTPResponse) -> str:
        try:
            return reply.readline(_MOST_LINE).decode(errors="replace")
        except (OSError, http.client.HTTPException) as error:
            raise self._trouble(error) from None

    def _ask(self, method: str, route: str, query: dict[str, str], timeout: float) -> Json:
        with self._connected(timeout) as connection:
            reply = self._sent(connection, method, route, query, timeout)
            if reply.status >= http.HTTPStatus.BAD_REQUEST:
                raise Refused(self._message(reply))
            return self._body(reply)

    @contextmanager
    def _connected(self, timeout: float) -> Generator[_Connection]:
        connection = _Connection(self.path, min(timeout, PATIENCE))
        try:
            yield connection
        finally:
            connection.close()

    def _sent(
        self,
        connection: _Connection,
        method: str,
        route: str,
        query: dict[str, str],
        timeout: float,
    ) -> http.client.HTTPResponse:
        """The head of the reply. Raises `Trouble`, and `TimeoutError` for what was sent to act."""
        asked = "&".join(f"{name}={_quoted(value)}" for name, value in query.items())
        try:
            connection.request(method, f"{route}?{asked}" if asked else route)
            self._wait(connection, timeout)
            return connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            if method == "POST" and isinstance(error, TimeoutError):
                raise
            raise self._trouble(error) from None

    def _wait(self, connection: _Connection, timeout: float) -> None:
        """Until a reply begins. Raises `TimeoutError`, soon if the loop is known to be blocked."""
        until, blocked_at = time.monotonic() + timeout, math.inf
        while not select.select([connection.sock], [], [], _LOOK)[0]:
            now = time.monotonic()
            blocked_at = min(blocked_at, now) if self.blocked() is not None else math.inf
            if now > min(until, blocked_at + _BLOCKED):
                raise TimeoutError("no reply")

    def _message(self, reply: http.client.HTTPResponse) -> str:
        return str(self._body(reply).get("message", reply.reason))

    def _body(self, reply: http.client.HTTPResponse) -> Json:
        try:
            return self._parsed(reply.read().decode(errors="replace"))
        except (OSError, http.client.HTTPException) as error:
            raise self._trouble(error) from None

    def _parsed(self, text: str) -> Json:
        with suppress(ValueError, RecursionError):
            found = json.loads(text)
            if isinstance(found, dict):
                return cast("Json", found)
        raise Trouble(f"what listens at {self.path} is no observer")

    def _trouble(self, error: Exception) -> Trouble:
        """What is to be said about a process that did not reply."""
        if isinstance(error, TimeoutError):
            return Trouble(self._silence())
        return Trouble(f"process {self.pid} has gone, or closed its observer ({error})")

    def _silence(self) -> str:
        blocked = self.blocked() or "its event loop is blocked"
        return f"process {self.pid} does not respond: {blocked}"

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


def _quoted(value: str) -> str:
    # the names of files may have parts that are no text, and so may keys
    return quote(value, safe="", errors="surrogatepass")


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
        raise Trouble(f"there are several observers; name one of them:\n{paths}")
    return found[0]
