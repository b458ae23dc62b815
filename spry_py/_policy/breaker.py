"""Circuit breakers: may this child be restarted now?

A breaker *factory* is written once, in a `SystemSupervisor` or `Child`; calling it gives the live
breaker of one supervisor incarnation, with a memory of its own. The idea is the restart intensity
of Erlang's ``supervisor``.
"""

from __future__ import annotations

import inspect
import math
from collections import deque
from typing import TYPE_CHECKING

from spry_py._spec.check import check_answer, check_count, check_seconds
from spry_py._spec.values import dataclass

if TYPE_CHECKING:
    from spry_py._spec.options import Breaker, BreakerFactory
    from spry_py._spec.termination import TerminationReport


@dataclass(frozen=True, slots=True)
class Budget:
    """How many more restarts a breaker lets pass: ``left`` of ``of``, within ``within`` seconds.

    ``frees_at`` is when one more will be left, in seconds on trio's clock; ``None`` if no moment is
    known, as where nothing has been used or where time alone frees nothing.
    """

    left: float
    of: float
    within: float
    frees_at: float | None = None


def allows(breaker: Breaker, key: str, now: float) -> bool:
    """Ask a live breaker; raises what it raises, and `TypeError` if it returns no truth value."""
    result = breaker.may_restart(key, now)
    if result.__class__ is bool:  # the name in the error is made up only for that
        return result
    return check_answer(f"breaker: {type(breaker).__qualname__}.may_restart()", result)


def live_breaker(factory: BreakerFactory) -> Breaker:
    """Call the factory. Raises `TypeError` if it returns no breaker."""
    breaker = factory()
    if not hasattr(breaker, "may_restart"):
        raise TypeError(f"breaker: {factory!r} made no breaker, but {breaker!r}")
    return breaker


def tell_breaker(breaker: Breaker | None, method: str, argument: object) -> None:
    """Call one of the methods that a breaker may have; raises what that raises."""
    call = getattr(breaker, method, None)
    if call is None:
        return
    result = call(argument)
    if inspect.isawaitable(result):
        if inspect.iscoroutine(result):
            result.close()
        raise TypeError(f"breaker: {type(breaker).__qualname__}.{method}() may not be async")


def budget_of(breaker: Breaker | None, now: float) -> Budget | None:
    """What a live breaker has left; ``None`` if it has no method for that, or no limit."""
    method = getattr(breaker, "budget", None)
    budget = method(now) if method is not None else None
    return budget if isinstance(budget, Budget) else None


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

    def budget(self, now: float) -> Budget:
        used = [moment for moment in list(self._granted) if now - moment < self._within]
        frees_at = used[0] + self._within if used else None
        return Budget(self._max_restarts - len(used), self._max_restarts, self._within, frees_at)


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


class _Rows:
    """How many restarts each key has had in a row."""

    __slots__ = ("_counts", "_max_restarts", "_reset_after")

    def __init__(self, max_restarts: int, reset_after: float) -> None:
        self._max_restarts = max_restarts
        self._reset_after = reset_after
        self._counts: dict[str, int] = {}

    def ended(self, report: TerminationReport) -> None:
        lifetime = report.lifetime
        if lifetime is not None and lifetime >= self._reset_after:
            self.forget(report.key)

    def may_restart(self, key: str, now: float) -> bool:
        count = self._counts.get(key, 0)
        if count >= self._max_restarts:
            return False
        self._counts[key] = count + 1
        return True

    def forget(self, key: str) -> None:
        self._counts.pop(key, None)

    def budget(self, now: float) -> Budget:
        """What is left to the child that has had the most restarts in a row."""
        most = max(list(self._counts.values()), default=0)
        return Budget(self._max_restarts - most, self._max_restarts, self._reset_after)


@dataclass(frozen=True, slots=True)
class Streak:
    """Let ``max_restarts`` restarts of a child in a row pass and refuse the next, for each key.

    A row starts over once an incarnation has lived ``reset_after`` seconds from started. A normal
    end alone does not start it over: a child that ends again and again is of no more use than one
    that fails. As systemd and taskvisor count retries. Raises `TypeError` or `ValueError` for
    values that make no sense.
    """

    max_restarts: int
    reset_after: float = 60.0

    def __post_init__(self) -> None:
        check_count("Streak", "max_restarts", self.max_restarts)
        check_seconds("Streak", "reset_after", self.reset_after)

    def __call__(self) -> Breaker:
        """A live breaker with an empty memory."""
        return _Rows(self.max_restarts, self.reset_after)


@dataclass(frozen=True, slots=True)
class AlwaysRestart:
    """Allow every restart, at once, for ever. Pair it with a backoff."""

    def __call__(self) -> AlwaysRestart:
        return self

    def may_restart(self, key: str, now: float) -> bool:
        return True

    def budget(self, now: float) -> Budget | None:
        """There is no limit."""
        return None


@dataclass(frozen=True, slots=True)
class NeverRestart:
    """Refuse every restart: the first termination that wants one escalates."""

    def __call__(self) -> NeverRestart:
        return self

    def may_restart(self, key: str, now: float) -> bool:
        return False

    def budget(self, now: float) -> Budget:
        return Budget(0, 0, math.inf)


def unused_breaker(factory: BreakerFactory | None) -> Breaker | None:
    """What a child's own breaker is like before it was asked, if it is one of these.

    A factory of others is called only where its breaker is wanted.
    """
    return factory() if isinstance(factory, RateLimited | Streak | NeverRestart) else None
