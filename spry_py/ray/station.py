"""`Station`: one process on the cluster, as its gateway sees it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Final

from spry_py.remote import Letter, Order, Report

from .cluster import Cluster
from .end import End, end_of

# how long (seconds) one call waits for letters
COLLECT_FOR: Final = 10.0
# how long a process that is to end may take before it is killed
LEAVES_WITHIN: Final = 5.0
DESTROYED_WITHIN: Final = 1.0
# how soon an actor is called again that could not be reached
AGAIN: Final = 1.0


class Station:
    """Carries letters to and from one actor, and knows when it has ended.

    ``hear`` is called with what comes from there, ``end`` once, when nothing more will come.
    All of it runs in the thread of the gateway.
    """

    def __init__(
        self,
        cluster: Cluster,
        hear: Callable[[list[Report]], object],
        end: Callable[[Station, End], object],
    ) -> None:
        self._cluster = cluster
        self._hear = hear
        self._end = end
        # the orders that are there, or on their way; written by the gateway
        self.orders: dict[str, Order] = {}
        self.born_at: float = time.monotonic()
        # written by `made`, `_greeted`, `_fail`
        self._actor: Any = None
        self._name = ""
        self.is_up: bool = False
        self.is_over: bool = False
        # the last letter of each order holds all that those before it did
        self._letters: dict[str, Letter] = {}
        self._is_delivering = False
        self._collect_at = math.inf
        self._kill_at = math.inf

    def made(self, actor: Any) -> None:
        """Take the actor, or the exception that came instead of it."""
        if isinstance(actor, Exception):
            self._fail(End(f"Ray has refused to start its process: {actor}", is_dead=True))
            return
        self._actor = actor
        self._cluster.ask(actor.hello, (), self._greeted)
        self._collect()
        self._flush()

    def put(self, letter: Letter) -> None:
        """Have a letter delivered."""
        self._letters[letter.id] = letter
        self._flush()

    def leave(self) -> None:
        """Have the process end; if it does not, it is killed."""
        self._kill_at = min(self._kill_at, time.monotonic() + LEAVES_WITHIN)
        if self.is_up:
            self._cluster.ask(self._actor.leave, (), self._left)
        else:
            self._kill_at = -math.inf

    def destroy(self) -> None:
        """Have the process killed, unless it leaves by itself when it hears of it."""
        self._kill_at = min(self._kill_at, time.monotonic() + DESTROYED_WITHIN)

    def give_up(self, why: str) -> None:
        """It is not waited for any more. Nothing has run there."""
        self._kill_at = -math.inf
        self.tend()
        self._fail(End(why, is_dead=True))

    def tend(self) -> None:
        """Do what is due."""
        now = time.monotonic()
        if self._actor is not None and self._kill_at <= now:
            self._kill_at = math.inf
            self._cluster.kill(self._actor)
        if self._collect_at <= now:
            self._collect()

    def _greeted(self, future: Future[tuple[str, int]]) -> None:
        error = future.exception()
        if error is None:
            self.is_up = True
            host, pid = future.result()
            self._name = f"its process (pid {pid} on {host})"
        else:
            self._note(error)

    def _flush(self) -> None:
        if self._actor is None or self._is_delivering or not self._letters:
            return
        letters, self._letters = list(self._letters.values()), {}
        self._is_delivering = True
        self._cluster.ask(self._actor.deliver, (letters,), self._delivered)

    def _delivered(self, future: Future[None]) -> None:
        self._is_delivering = False
        error = future.exception()
        if error is not None:
            self._note(error)
        if not self.is_over:
            self._flush()

    def _collect(self) -> None:
        self._collect_at = math.inf
        self._cluster.ask(self._actor.collect, (COLLECT_FOR,), self._collected)

    def _collected(self, future: Future[list[Report]]) -> None:
        error = future.exception()
        if error is not None:
            self._note(error)
            self._collect_at = time.monotonic() + AGAIN if not self.is_over else math.inf
            return
        self._collect()
        reports = future.result()
        if reports:
            self._hear(reports)

    def _left(self, future: Future[None]) -> None:
        error = future.exception()
        if error is not None:
            self._note(error)

    def _note(self, error: BaseException) -> None:
        end = end_of(error, self._name or "its process")
        if end is not None:
            self._fail(end)

    def _fail(self, end: End) -> None:
        if not self.is_over:
            self.is_over = True
            self._end(self, end)
