"""Circuit breakers: may this child be restarted now?

A breaker *factory* is written once, in a `SystemSupervisor` or `Child`; calling it gives the live
breaker of one supervisor incarnation, with a memory of its own. The idea is the restart intensity
of Erlang's ``supervisor``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from ._check import check_answer, check_count, check_seconds


class Breaker(Protocol):
    """What a breaker factory returns."""

    def may_restart(self, key: str, now: float) -> bool:
        """Whether the child ``key`` may be restarted at ``now`` (seconds on trio's clock)."""
        ...  # pragma: no cover - the body of a protocol


def allows(breaker: Breaker, key: str, now: float) -> bool:
    """Ask a live breaker; raises what it raises, and `TypeError` for what is no answer."""
    answer = breaker.may_restart(key, now)
    return check_answer(f"breaker: {type(breaker).__qualname__}.may_restart()", answer)


BreakerFactory: TypeAlias = Callable[[], Breaker]


class _Window:
    """The restarts of the last ``within`` seconds, oldest first."""

    __slots__ = ("_granted", "_max_restarts", "_within")

    def __init__(self, max_restarts: int, within: float) -> None:
        self._max_restarts = max_restarts
        self._within = within
        self._granted: deque[float] = deque()

    def may_restart(self, key: str, now: float) -> bool:
        granted = self._granted
        while granted and now - granted[0] >= self._within:
            granted.popleft()
        if len(granted) >= self._max_restarts:
            return False
        granted.append(now)
        return True


@dataclass(frozen=True, slots=True)
class RateLimited:
    """Let ``max_restarts`` restarts within any ``within`` seconds pass and refuse the next.

    A restart that lies exactly ``within`` seconds back no longer counts. ``RateLimited(0)`` refuses
    the first restart already. Raises `TypeError` or `ValueError` for values that make no sense.
    """

    max_restarts: int = 3
    within: float = 10.0

    def __post_init__(self) -> None:
        check_count("RateLimited", "max_restarts", self.max_restarts)
        check_seconds("RateLimited", "within", self.within, zero=False)

    def __call__(self) -> Breaker:
        """A live breaker with an empty memory."""
        return _Window(self.max_restarts, self.within)


@dataclass(frozen=True, slots=True)
class AlwaysRestart:
    """Allow every restart, at once, for ever. Pair it with a backoff."""

    def __call__(self) -> AlwaysRestart:
        return self

    def may_restart(self, key: str, now: float) -> bool:
        return True


@dataclass(frozen=True, slots=True)
class NeverRestart:
    """Refuse every restart: the first termination that wants one escalates."""

    def __call__(self) -> NeverRestart:
        return self

    def may_restart(self, key: str, now: float) -> bool:
        return False
