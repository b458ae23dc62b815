"""The decisions after an end, as tables and pure functions; time comes in as a parameter."""

from __future__ import annotations

import math
from collections.abc import Callable
from enum import Enum
from typing import Any, Final, Literal, TypeAlias

from spry_py._spec.child import Child
from spry_py._spec.errors import Ignore, Unrecoverable, is_exit, is_group, leaves_of, sole_leaf_of
from spry_py._spec.options import RestartType
from spry_py._spec.termination import Failed, Reason, TerminationReport

from .backoff import Wait, delay_before_restart, is_recoverable, reset_after

Strategy: TypeAlias = Literal["one_for_one", "rest_for_one", "one_for_all"]
STRATEGIES: Final = ("one_for_one", "rest_for_one", "one_for_all")

AutoShutdown: TypeAlias = Literal["never", "any_significant", "all_significant", "when_empty"]
AUTO_SHUTDOWN: Final = ("never", "any_significant", "all_significant", "when_empty")


class Verdict(Enum):
    """What becomes of a child that has ended."""

    RESTART = "restart"
    DONE = "done"  # ended for good; its supervisor goes on without it
    SPENT = "spent"  # a temporary one: forgotten altogether
    DOWN = "down"  # was asked to end: comes back with the next replay that includes it
    DISCARD = "discard"  # not recoverable, and its supervisor goes on without it
    ESCALATE = "escalate"  # not recoverable, and its supervisor gives up


_Wishes: TypeAlias = dict[tuple[RestartType, str], Verdict]

# by restart type and how the child has ended; "exit" is a failure that ends the program
WISHES: Final[_Wishes] = {
    ("permanent", "Normal"): Verdict.RESTART,
    ("permanent", "Aborted"): Verdict.RESTART,
    ("permanent", "Failed"): Verdict.RESTART,
    ("permanent", "exit"): Verdict.DOWN,
    ("transient", "Normal"): Verdict.DONE,
    ("transient", "Aborted"): Verdict.DONE,
    ("transient", "Failed"): Verdict.RESTART,
    ("transient", "exit"): Verdict.DOWN,
    ("temporary", "Normal"): Verdict.SPENT,
    ("temporary", "Aborted"): Verdict.SPENT,
    ("temporary", "Failed"): Verdict.SPENT,
    ("temporary", "exit"): Verdict.SPENT,
}


def judge(child: Child[object], reason: Reason, is_last: bool = False) -> Verdict:
    """What becomes of a child that has ended by itself, before any breaker is asked.

    It stays down if this ``is_last``, as nothing is restarted any more. Else runs the user's
    ``recoverable``; what it raises comes out.
    """
    exception = reason.exception if isinstance(reason, Failed) else None
    is_end_of_all = exception is not None and is_exit(exception)
    verdict = WISHES[child.restart, "exit" if is_end_of_all else type(reason).__name__]
    if verdict is not Verdict.RESTART:
        return verdict
    if is_last:
        return Verdict.DOWN
    if exception is None or may_recover(child.recoverable, exception):
        return verdict
    return unrecoverable(child)


def may_recover(recoverable: Callable[[Any], object] | None, exception: BaseException) -> bool:
    """Whether the child's own options let a restart be tried after ``exception``."""
    leaves = leaves_of(exception) if is_group(exception) else (exception,)
    for leaf in leaves:
        if isinstance(leaf, Unrecoverable):
            return False
    return recoverable is None or is_recoverable(recoverable, sole_leaf_of(exception))


def unrecoverable(child: Child[object]) -> Verdict:
    """What becomes of a child that a restart must not be tried for."""
    return Verdict.DISCARD if child.on_unrecoverable == "discard" else Verdict.ESCALATE


def pause_before_restart(
    child: Child[object], so_far: int, report: TerminationReport
) -> tuple[int, float]:
    """The number of the next restart in a row, after ``so_far`` of them, and seconds before it.

    Runs the user's ``backoff``.
    """
    if child.backoff is None:
        return so_far + 1, 0.0
    lifetime = report.lifetime
    starts_over = lifetime is not None and lifetime >= reset_after(child.backoff)
    number = 1 if starts_over else so_far + 1
    return number, _pause(child.backoff, number, report)


def pause_before_try(child: Child[object], tries: int, report: TerminationReport) -> float | None:
    """Seconds to wait before a first start is tried again that has failed ``tries`` times.

    ``None`` if it is not to be tried again. Runs the user's ``recoverable`` and ``backoff``.
    """
    exception = report.exception
    if tries >= child.start_attempts or report.burden != "none":
        return None
    assert exception is not None, "a start that was not interrupted has failed with something"
    ends_it = is_exit(exception) or isinstance(sole_leaf_of(exception), Ignore)
    if ends_it or not may_recover(child.recoverable, exception):
        return None
    return 0.0 if child.backoff is None else _pause(child.backoff, tries, report)


def _pause(backoff: Wait, in_a_row: int, report: TerminationReport) -> float:
    seconds = delay_before_restart(backoff, in_a_row, report.exception)
    if math.isinf(seconds):  # nothing would ever come after it
        raise ValueError(f"the backoff of {report.path!r} must give a finite number of seconds")
    return seconds
