"""Whether the event loop turns: asked from any thread, and true while it is blocked, too."""

from __future__ import annotations

import time
import weakref
from contextlib import suppress

import trio
from trio.lowlevel import TrioToken

_here: trio.lowlevel.RunVar[Turns | None] = trio.lowlevel.RunVar("spry_py turns", default=None)


class Turns(trio.abc.Instrument):
    """Notes, at each turn of the loop, since when it works; one for all that look at one run.

    Two short calls for each turn, whatever the number of tasks in it, as long as anybody looks.
    """

    def __init__(self) -> None:
        # Written by trio's thread, read by others: seconds of real time, ``None`` while it waits
        # for something to happen.
        self.since: float | None = time.monotonic()
        self.is_over: bool = False
        # how many look; written in trio's thread
        self.lookers = 0

    def before_io_wait(self, timeout: float) -> None:
        self.since = None

    def after_io_wait(self, timeout: float) -> None:
        self.since = time.monotonic()

    def after_run(self) -> None:
        self.is_over = True


class Look:
    """One look at the turns of a run, from its making until it is dropped.

    Made in any thread. Until the loop has taken it up, what counts is how long that takes.
    """

    def __init__(self, token: TrioToken) -> None:
        self._made = time.monotonic()
        # filled in by trio's thread
        self._seen: list[Turns] = []
        self._has_missed_it = False
        try:
            if _is_here(token):
                _begin(self._seen)
            else:
                token.run_sync_soon(_begin, self._seen)
        except trio.RunFinishedError:
            self._has_missed_it = True
        weakref.finalize(self, _leave, token, self._seen).atexit = False

    @property
    def is_over(self) -> bool:
        """Whether the run has ended."""
        return self._has_missed_it or any(turns.is_over for turns in self._seen)

    @property
    def blocked(self) -> float:
        """For how many seconds of real time the loop has not turned; 0 while it waits."""
        since = self._seen[0].since if self._seen else self._made
        return 0.0 if since is None else time.monotonic() - since


def _is_here(token: TrioToken) -> bool:
    try:
        return trio.lowlevel.current_trio_token() is token
    except RuntimeError:
        return False


def _begin(seen: list[Turns]) -> None:
    turns = _here.get()
    if turns is None:
        turns = Turns()
        trio.lowlevel.add_instrument(turns)
        _here.set(turns)
    turns.lookers += 1
    seen.append(turns)


def _leave(token: TrioToken, seen: list[Turns]) -> None:
    with suppress(trio.RunFinishedError):
        token.run_sync_soon(_end, seen)


def _end(seen: list[Turns]) -> None:
    for turns in seen:
        turns.lookers -= 1
        if not turns.lookers:
            _here.set(None)
            with suppress(KeyError):  # the run is ending, and trio has let go of it
                trio.lowlevel.remove_instrument(turns)
