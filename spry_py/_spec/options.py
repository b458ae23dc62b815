"""What a child has beside its key: its options, and the shapes that its start may have."""

from __future__ import annotations

import inspect
import math
from collections.abc import Awaitable, Callable
from dataclasses import field, fields
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, TypeAlias, TypedDict, TypeVar

from .check import (
    check_async_function,
    check_breaker,
    check_callable,
    check_choice,
    check_count,
    check_no_class,
    check_seconds,
    check_type,
)
from .values import dataclass

if TYPE_CHECKING:
    from trio import TaskStatus

    from .termination import TerminationReport

RestartType: TypeAlias = Literal["permanent", "transient", "temporary"]
OnUnrecoverable: TypeAlias = Literal["escalate", "discard"]
Kind: TypeAlias = Literal["worker", "supervisor", "thread", "process", "remote"]

OnConflict: TypeAlias = Literal["raise", "replace", "queue", "ignore"]

RESTART_TYPES: Final = ("permanent", "transient", "temporary")
ON_UNRECOVERABLE: Final = ("escalate", "discard")
ON_CONFLICT: Final = ("raise", "replace", "queue", "ignore")

T_co = TypeVar("T_co", covariant=True)
R_co = TypeVar("R_co", covariant=True)
A_contra = TypeVar("A_contra", contravariant=True)
B_contra = TypeVar("B_contra", contravariant=True)
C_contra = TypeVar("C_contra", contravariant=True)
D_contra = TypeVar("D_contra", contravariant=True)


class Breaker(Protocol):
    """What a breaker factory returns.

    It may also have ``ended(report)``, called with the `TerminationReport` of each end by itself
    and of each failed start of a restart, before ``may_restart``; and ``forget(key)``, called when
    a key is no longer known to the supervisor, and with the supervisor's own key, which stands for
    its system function, when that has run well again. And it may have ``budget(now)``, which
    returns a `Budget`, or ``None`` for no limit; it is called from any thread, and changes nothing.
    """

    def may_restart(self, key: str, now: float) -> bool:
        """Whether the child ``key`` may be restarted at ``now`` (seconds on trio's clock)."""
        ...  # pragma: no cover - the body of a protocol


BreakerFactory: TypeAlias = Callable[[], Breaker]


class StageOptions(TypedDict, total=False):
    """The options of `ChildOptions` but ``restart``: those of a stage of a pipeline."""

    shutdown: float
    start_timeout: float
    start_attempts: float
    run_timeout: float
    backoff: Callable[[Any], float] | None
    breaker: BreakerFactory | None
    recoverable: Callable[[Any], object] | None
    on_unrecoverable: OnUnrecoverable
    on_termination: Callable[[TerminationReport], Awaitable[object]] | None
    heartbeat: float
    significant: bool


class ChildOptions(StageOptions, total=False):
    """The options of `Child`, as keywords or in a dict of defaults; `Child` describes them."""

    restart: RestartType


@dataclass(frozen=True, slots=True)
class Options:
    """The values of all options of one child."""

    restart: RestartType
    shutdown: float
    start_timeout: float
    start_attempts: float
    run_timeout: float
    backoff: Callable[[Any], float] | None
    breaker: BreakerFactory | None
    recoverable: Callable[[Any], object] | None
    on_unrecoverable: OnUnrecoverable
    on_termination: Callable[[TerminationReport], Awaitable[object]] | None
    heartbeat: float
    significant: bool
    # the names of those that the user has given: defaults of a supervisor leave them alone
    given: frozenset[str] = field(default=frozenset(), compare=False, repr=False)

    def fields(self) -> tuple[object, ...]:
        """All values, in the order of `OPTION_NAMES`."""
        return tuple(getattr(self, name) for name in OPTION_NAMES)

    def check(self, owner: str) -> None:
        check_choice(owner, "restart", self.restart, RESTART_TYPES)
        check_choice(owner, "on_unrecoverable", self.on_unrecoverable, ON_UNRECOVERABLE)
        check_seconds(owner, "shutdown", self.shutdown)
        check_seconds(owner, "start_timeout", self.start_timeout, zero=False)
        check_seconds(owner, "run_timeout", self.run_timeout, zero=False)
        check_seconds(owner, "heartbeat", self.heartbeat, zero=False)
        check_callable(owner, "backoff", self.backoff, "a tenacity wait strategy or a Backoff")
        if self.breaker is not None:
            check_breaker(owner, self.breaker)
        check_no_class(owner, "backoff", self.backoff, "{}(...), with parentheses")
        if _is_mistaken(self.recoverable):
            check_no_class(owner, "recoverable", self.recoverable, _RECOVERABLE)
        allowed = "a tenacity retry strategy or a predicate of the exception"
        check_callable(owner, "recoverable", self.recoverable, allowed)
        if self.on_termination is not None:
            check_async_function(owner, "on_termination", self.on_termination, plain=True)
        self._check_attempts(owner)
        self._check_significant(owner)

    def _check_attempts(self, owner: str) -> None:
        attempts = self.start_attempts
        check_count(owner, "start_attempts", attempts, infinite=True, least=1)
        if attempts == math.inf and self.backoff is None:
            raise ValueError(
                f"{owner}: start_attempts may be inf only with a backoff, which sets how long to "
                "wait between two of them"
            )

    def _check_significant(self, owner: str) -> None:
        check_type(owner, "significant", self.significant, bool, "a bool")
        if self.significant and self.restart == "permanent":
            raise ValueError(
                f"{owner}: significant must be False when restart is 'permanent'; a child that is "
                "always restarted never ends for good (transient or temporary ones may be)"
            )


_RECOVERABLE: Final = (
    "retry_if_exception_type(OSError), or lambda error: isinstance(error, OSError)"
)


def _is_mistaken(predicate: object) -> bool:
    """Whether it is a class whose call would make an exception, or one more predicate."""
    if not inspect.isclass(predicate):
        return False
    asks = any("__call__" in vars(base) for base in predicate.__mro__)
    return asks or issubclass(predicate, BaseException)


OPTION_NAMES: Final = tuple(option.name for option in fields(Options) if option.compare)


# A type checker reads the type of the started value off ``task_status``, and those of the arguments
# off the rest. No notation for "these arguments and this keyword" is understood by all of them,
# hence one protocol for each count. By the return type they refuse a blocking start function.


class Start0(Protocol[T_co, R_co]):
    """Takes no argument, and ``task_status`` to be started with."""

    def __call__(self, *, task_status: TaskStatus[T_co]) -> R_co: ...


class Start1(Protocol[A_contra, T_co, R_co]):
    """Takes one argument, and ``task_status`` to be started with."""

    def __call__(self, a: A_contra, /, *, task_status: TaskStatus[T_co]) -> R_co: ...


class Start2(Protocol[A_contra, B_contra, T_co, R_co]):
    """Takes two arguments, and ``task_status`` to be started with."""

    def __call__(self, a: A_contra, b: B_contra, /, *, task_status: TaskStatus[T_co]) -> R_co: ...


class Start3(Protocol[A_contra, B_contra, C_contra, T_co, R_co]):
    """Takes three arguments, and ``task_status`` to be started with."""

    def __call__(
        self, a: A_contra, b: B_contra, c: C_contra, /, *, task_status: TaskStatus[T_co]
    ) -> R_co: ...


class Start4(Protocol[A_contra, B_contra, C_contra, D_contra, T_co, R_co]):
    """Takes four arguments, and ``task_status`` to be started with."""

    def __call__(
        self,
        a: A_contra,
        b: B_contra,
        c: C_contra,
        d: D_contra,
        /,
        *,
        task_status: TaskStatus[T_co],
    ) -> R_co: ...
