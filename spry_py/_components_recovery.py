"""Whether a component may recover from a failure: the question that `Child.recoverable` answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import tenacity

from . import ChildFailure, Unrecoverable

Recoverable: TypeAlias = Callable[[Any], object] | None


def leaf_of(error: BaseException) -> BaseException:
    """The one leaf of a group of one (trio wraps whatever leaves a nursery), else the argument."""
    leaf = error
    while isinstance(leaf, BaseExceptionGroup):
        if len(leaf.exceptions) != 1:
            return error
        leaf = leaf.exceptions[0]
    return leaf


def may_recover(recoverable: Recoverable, error: BaseException) -> bool:
    """Ask a predicate of the exception, or a tenacity retry strategy.

    `Unrecoverable` is never recovered from, nor is a group that holds one.
    """
    if isinstance(error, Unrecoverable):
        return False
    if isinstance(error, BaseExceptionGroup) and error.subgroup(Unrecoverable) is not None:
        return False
    if recoverable is None:
        return True
    if not isinstance(recoverable, tenacity.retry_base):
        return bool(recoverable(error))
    state = tenacity.RetryCallState(tenacity.Retrying(), None, (), {})
    state.set_exception((type(error), error, error.__traceback__))
    return bool(recoverable(state))


@dataclass(frozen=True, slots=True)
class OnlyStarts:
    """The same for a whole component: what it has given up on is final, a failed start is not."""

    recoverable: Recoverable

    def __call__(self, error: BaseException) -> bool:
        cause: BaseException | None = error
        while isinstance(cause, ChildFailure):
            cause = cause.__cause__
        if cause is None or cause is error:
            return False
        return may_recover(self.recoverable, leaf_of(cause))
