"""`FarActor`: what runs in a worker process of Ray."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from spry_py.remote import Far, Letter, Report


class FarActor:
    """An actor around a `Far`. Its methods are called in several threads at the same time."""

    def __init__(self, paths: Sequence[str], env: Sequence[tuple[str, str]]) -> None:
        os.environ.update(env)
        # last: what this machine has installed comes first
        sys.path += [path for path in paths if path not in sys.path and os.path.exists(path)]
        self._far = Far(f"{socket.gethostname()} (pid {os.getpid()})")

    def hello(self) -> tuple[str, int]:
        """The name of the machine, and the number of the process."""
        return socket.gethostname(), os.getpid()

    def deliver(self, letters: Sequence[Letter]) -> None:
        """Take letters."""
        self._far.deliver(letters)

    def collect(self, timeout: float) -> list[Report]:
        """The letters that are to be sent; waits for the first for ``timeout`` seconds."""
        return self._far.collect(timeout)

    def leave(self) -> None:
        """End this process as programs end, with what they do at their exit."""
        self._far.close()
        ray: Any = import_module("ray")
        ray.actor.exit_actor()
