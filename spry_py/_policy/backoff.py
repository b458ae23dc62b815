"""Everything that speaks tenacity: how long to wait before a restart, and whether to try one.

Only tenacity's wait and retry strategies are used: they compute from an attempt number and an
outcome. Its stop strategies read the system's clock and would not follow trio's.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from spry_py._spec.check import check_answer, check_callable, check_no_class, check_seconds
from spry_py._spec.values import dataclass

if TYPE_CHECKING:
    import tenacity

Wait: TypeAlias = "Callable[[tenacity.RetryCallState], float]"
"""A tenacity wait strategy, such as ``tenacity.wait_exponential(max=30)``."""

RESET_AFTER = 60.0


@dataclass(frozen=True, slots=True)
class Backoff:
    """Wait before each restart as long as ``wait`` returns.

    ``wait`` is a tenacity wait strategy; it sees the count of restarts of this child in a row as
    its attempt number. The count starts over once an incarnation has lived ``reset_after`` seconds
    from started.
    """

    wait: Wait
    reset_after: float = RESET_AFTER

    def __post_init__(self) -> None:
        if self.wait is None:
            raise TypeError("Backoff: wait must be a tenacity wait strategy, not None")
        check_callable("Backoff", "wait", self.wait, "a tenacity wait strategy")
        check_no_class("Backoff", "wait", self.wait, "{}(...), with parentheses")
        check_seconds("Backoff", "reset_after", self.reset_after)

    def __call__(self, state: tenacity.RetryCallState) -> float:
        return self.wait(state)


def delay_before_restart(wait: Wait, in_a_row: int, exception: BaseException | None) -> float:
    """Seconds to wait before the restart number ``in_a_row`` (1, 2, …) in a row.

    Raises `ValueError` when the strategy returns no usable number of seconds.
    """
    delay: object = cast("Callable[[object], object]", wait)(_call_state(in_a_row, exception))
    if not isinstance(delay, int | float) or math.isnan(delay) or delay < 0:
        raise ValueError(f"backoff must give 0 or more seconds, not {delay!r}")
    return float(delay)


def reset_after(wait: Wait) -> float:
    """Seconds an incarnation must live for the count of restarts in a row to start over."""
    return wait.reset_after if isinstance(wait, Backoff) else RESET_AFTER


def is_recoverable(recoverable: Callable[[Any], object], exception: BaseException) -> bool:
    """Ask a tenacity retry strategy, or a predicate of the exception."""
    import tenacity  # noqa: PLC0415 - most programs come without it

    is_strategy = isinstance(recoverable, tenacity.retry_base)
    result = recoverable(_call_state(1, exception) if is_strategy else exception)
    name = getattr(recoverable, "__qualname__", None) or type(recoverable).__qualname__
    return check_answer(f"recoverable: {name}()", result)


def _call_state(attempt: int, exception: BaseException | None) -> tenacity.RetryCallState:
    import tenacity  # noqa: PLC0415 - most programs come without it

    state = tenacity.RetryCallState(tenacity.Retrying(), None, (), {})
    state.attempt_number = attempt
    future = tenacity.Future(attempt)
    if exception is None:
        future.set_result(None)
    else:
        future.set_exception(exception)
    state.outcome = future
    return state
