"""Foreign servers for the tests of back ends: started on free ports, and ended by their own id."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

STARTS_WITHIN = 60.0
ENDS_WITHIN = 10.0
ATTEMPTS = 3


def free_port() -> int:
    """A port that nobody listens on; somebody may before we do, so a start is tried again."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def polled(look: Callable[[], T | None], seconds: float, step: float = 0.02) -> T | None:
    """What `look` finds, once it does; `None` if it never has within that many seconds."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = look()
        if found is not None:
            return found
        time.sleep(step)
    return None


class Server:
    """A server with the ports that it was given, and what it has written so far."""

    def __init__(self, process: subprocess.Popen[bytes], ports: list[int], log: Path) -> None:
        self.process = process
        self.ports = ports
        self._log = log

    @property
    def log(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")

    def is_up(self) -> bool | None:
        """Whether it listens everywhere; `None` as long as nobody can tell."""
        if self.process.poll() is not None:
            return False
        return True if all(listens(port) for port in self.ports) else None

    def kill(self) -> None:
        """End it at once, without a chance to say goodbye, and all that it has started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(ENDS_WITHIN)


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1.0).close()
    except OSError:
        return False
    return True


@contextmanager
def serving(
    command: Callable[[list[int]], Sequence[str]], ports: int, cwd: Path, **variables: str
) -> Iterator[Server]:
    """The server that `command` makes for so many free ports, listening on all of them."""
    said = []
    for _ in range(ATTEMPTS):
        server = _spawned(command, [free_port() for _ in range(ports)], cwd, variables)
        try:
            if polled(server.is_up, STARTS_WITHIN):
                yield server
                return
            said.append(server.log)
        finally:
            server.kill()
    raise AssertionError("it does not come up:\n" + "\n".join(said))


def _spawned(
    command: Callable[[list[int]], Sequence[str]],
    ports: list[int],
    cwd: Path,
    variables: dict[str, str],
) -> Server:
    log = cwd / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command(ports),
            cwd=cwd,
            env=os.environ | variables,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return Server(process, ports, log)
