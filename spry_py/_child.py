"""`Child`: the frozen specification of one child, checked where it is written."""

from __future__ import annotations

import inspect
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from types import FunctionType
from typing import (
    TYPE_CHECKING,
    Any,
    Final,
    Generic,
    Literal,
    Protocol,
    TypeAlias,
    TypeVar,
    overload,
)

from ._check import (
    check_async_function,
    check_callable,
    check_choice,
    check_key,
    check_seconds,
)
from ._frozen import setter

if TYPE_CHECKING:
    from trio import TaskStatus

    from ._breaker import BreakerFactory
    from ._termination import TerminationReport

RestartType: TypeAlias = Literal["permanent", "transient", "temporary"]
OnUnrecoverable: TypeAlias = Literal["escalate", "discard"]
Kind: TypeAlias = Literal["worker", "supervisor"]

RESTART_TYPES: Final = ("permanent", "transient", "temporary")
ON_UNRECOVERABLE: Final = ("escalate", "discard")

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Supervisor(Generic[T_co]):
    """What runs a nursery of children of its own; its started value is a ``T_co``."""

    __slots__ = ()


class _Start0(Protocol[T_co]):
    def __call__(self, *, task_status: TaskStatus[T_co]) -> Awaitable[object]: ...


class _Start1(Protocol[T_co]):
    def __call__(self, a: Any, /, *, task_status: TaskStatus[T_co]) -> Awaitable[object]: ...


class _Start2(Protocol[T_co]):
    def __call__(
        self, a: Any, b: Any, /, *, task_status: TaskStatus[T_co]
    ) -> Awaitable[object]: ...


class _Start3(Protocol[T_co]):
    def __call__(
        self, a: Any, b: Any, c: Any, /, *, task_status: TaskStatus[T_co]
    ) -> Awaitable[object]: ...


class _Start4(Protocol[T_co]):
    def __call__(
        self, a: Any, b: Any, c: Any, d: Any, /, *, task_status: TaskStatus[T_co]
    ) -> Awaitable[object]: ...


# A type checker reads the type of the started value off ``task_status``. No notation says "any
# positional arguments and this keyword" to all of them, hence one protocol for each count.
_Start: TypeAlias = _Start0[T] | _Start1[T] | _Start2[T] | _Start3[T] | _Start4[T]


@dataclass(frozen=True, slots=True)
class _Options:
    """All that may be said about a child beside its key and its start."""

    restart: RestartType
    shutdown: float
    start_timeout: float
    run_timeout: float
    backoff: Callable[[Any], float] | None
    breaker: BreakerFactory | None
    recoverable: Callable[[Any], object] | None
    on_unrecoverable: OnUnrecoverable
    on_termination: Callable[[TerminationReport], Awaitable[object]] | None
    heartbeat: float
    significant: bool

    def check(self, owner: str) -> None:
        check_choice(owner, "restart", self.restart, RESTART_TYPES)
        check_choice(owner, "on_unrecoverable", self.on_unrecoverable, ON_UNRECOVERABLE)
        check_seconds(owner, "shutdown", self.shutdown)
        check_seconds(owner, "start_timeout", self.start_timeout, zero=False)
        check_seconds(owner, "run_timeout", self.run_timeout, zero=False)
        check_seconds(owner, "heartbeat", self.heartbeat, zero=False)
        check_callable(owner, "backoff", self.backoff, "a tenacity wait strategy or a Backoff")
        check_callable(owner, "breaker", self.breaker, "a breaker factory such as RateLimited")
        allowed = "a tenacity retry strategy or a predicate of the exception"
        check_callable(owner, "recoverable", self.recoverable, allowed)
        if self.on_termination is not None:
            check_async_function(owner, "on_termination", self.on_termination)
        self._check_significant(owner)

    def _check_significant(self, owner: str) -> None:
        if not isinstance(self.significant, bool):
            raise TypeError(f"{owner}: significant must be a bool, not {self.significant!r}")
        if self.significant and self.restart == "permanent":
            raise ValueError(
                f"{owner}: significant must be False when restart is 'permanent'; a child that is "
                "always restarted never ends for good (transient or temporary ones may be)"
            )


_NEVER: Final = math.inf
_WORKER: Final = _Options(
    "permanent", 5.0, _NEVER, _NEVER, None, None, None, "escalate", None, _NEVER, False
)
_SUPERVISOR: Final = replace(_WORKER, shutdown=math.inf)
_DEFAULTS: Final = (
    "permanent",
    None,
    _NEVER,
    _NEVER,
    None,
    None,
    None,
    "escalate",
    None,
    _NEVER,
    False,
)


class Child(Generic[T_co]):
    """How to start, stop and restart one child. Frozen; equal if all fields are equal.

    ``start(*args)`` is a trio-style async function, or a supervisor. If it takes a keyword
    ``task_status``, the child is started when it calls ``task_status.started(value)``; otherwise
    when it has run up to its first checkpoint. All durations are seconds on trio's clock.

    - ``restart``: ``"permanent"`` (after any end), ``"transient"`` (after a failure only),
      ``"temporary"`` (never).
    - ``shutdown``: time to finish when asked, before the child is aborted. 0 aborts at once,
      ``inf`` waits for ever. 5 for a worker, ``inf`` for a supervisor.
    - ``start_timeout``, ``run_timeout``: longest time until started, and from started to the end.
    - ``heartbeat``: longest time between two ``current_context().heartbeat()``, from the first on.
    - ``backoff``: a tenacity wait strategy, or a `Backoff`: how long to wait before a restart.
    - ``breaker``: a breaker factory for this child alone, asked before its supervisor's.
    - ``recoverable``: a tenacity retry strategy or a predicate of the exception; a failure it
      answers with no is not followed by a restart.
    - ``on_unrecoverable``: whether such a failure makes the supervisor give up (``"escalate"``) or
      only ends this child (``"discard"``).
    - ``on_termination``: awaited with the `TerminationReport` after the child has ended by itself,
      before anything is decided; cancelled after 5 seconds.
    - ``significant``: its end may end the supervisor (see ``auto_shutdown``).

    Raises `TypeError` or `ValueError`, naming the field, the value and what is allowed. After
    Erlang's child specification.
    """

    __slots__ = ("_options", "args", "key", "start", "takes_status")

    key: str
    start: Callable[..., Awaitable[object]]
    args: tuple[Any, ...]
    takes_status: bool
    _options: _Options

    @overload
    def __init__(
        self,
        key: str,
        start: Supervisor[T_co],
        *,
        restart: RestartType = "permanent",
        shutdown: float = math.inf,
        start_timeout: float = math.inf,
        run_timeout: float = math.inf,
        backoff: Callable[[Any], float] | None = None,
        breaker: BreakerFactory | None = None,
        recoverable: Callable[[Any], object] | None = None,
        on_unrecoverable: OnUnrecoverable = "escalate",
        on_termination: Callable[[TerminationReport], Awaitable[object]] | None = None,
        heartbeat: float = math.inf,
        significant: bool = False,
    ) -> None: ...

    @overload
    def __init__(
        self,
        key: str,
        start: _Start[T_co],
        *args: object,
        restart: RestartType = "permanent",
        shutdown: float = 5.0,
        start_timeout: float = math.inf,
        run_timeout: float = math.inf,
        backoff: Callable[[Any], float] | None = None,
        breaker: BreakerFactory | None = None,
        recoverable: Callable[[Any], object] | None = None,
        on_unrecoverable: OnUnrecoverable = "escalate",
        on_termination: Callable[[TerminationReport], Awaitable[object]] | None = None,
        heartbeat: float = math.inf,
        significant: bool = False,
    ) -> None: ...

    @overload
    def __init__(
        self: Child[Any],
        key: str,
        start: Callable[..., Awaitable[object]],
        *args: object,
        restart: RestartType = "permanent",
        shutdown: float = 5.0,
        start_timeout: float = math.inf,
        run_timeout: float = math.inf,
        backoff: Callable[[Any], float] | None = None,
        breaker: BreakerFactory | None = None,
        recoverable: Callable[[Any], object] | None = None,
        on_unrecoverable: OnUnrecoverable = "escalate",
        on_termination: Callable[[TerminationReport], Awaitable[object]] | None = None,
        heartbeat: float = math.inf,
        significant: bool = False,
    ) -> None: ...

    def __init__(
        self,
        key: str,
        start: Any,
        *args: object,
        restart: RestartType = "permanent",
        shutdown: float | None = None,
        start_timeout: float = math.inf,
        run_timeout: float = math.inf,
        backoff: Callable[[Any], float] | None = None,
        breaker: BreakerFactory | None = None,
        recoverable: Callable[[Any], object] | None = None,
        on_unrecoverable: OnUnrecoverable = "escalate",
        on_termination: Callable[[TerminationReport], Awaitable[object]] | None = None,
        heartbeat: float = math.inf,
        significant: bool = False,
    ) -> None:
        options = (
            restart,
            shutdown,
            start_timeout,
            run_timeout,
            backoff,
            breaker,
            recoverable,
            on_unrecoverable,
            on_termination,
            heartbeat,
            significant,
        )
        check_key("Child", "key", key)
        _check_start(key, start, args)
        # most children leave most options alone, and there may be very many of them
        if options == _DEFAULTS:
            chosen = _SUPERVISOR if isinstance(start, Supervisor) else _WORKER
        else:
            if shutdown is None:
                shutdown = math.inf if isinstance(start, Supervisor) else 5.0
            chosen = _Options(restart, shutdown, *options[2:])
            chosen.check(f"Child {key!r}")
        # the slots themselves, since assignment is refused
        _set_key(self, key)
        _set_start(self, start)
        _set_args(self, args)
        _set_takes_status(self, _takes_status(start))
        _set_options(self, chosen)

    @property
    def kind(self) -> Kind:
        """``"supervisor"`` or ``"worker"``."""
        return "supervisor" if isinstance(self.start, Supervisor) else "worker"

    @property
    def restart(self) -> RestartType:
        return self._options.restart

    @property
    def shutdown(self) -> float:
        return self._options.shutdown

    @property
    def start_timeout(self) -> float:
        return self._options.start_timeout

    @property
    def run_timeout(self) -> float:
        return self._options.run_timeout

    @property
    def backoff(self) -> Callable[[Any], float] | None:
        return self._options.backoff

    @property
    def breaker(self) -> BreakerFactory | None:
        return self._options.breaker

    @property
    def recoverable(self) -> Callable[[Any], object] | None:
        return self._options.recoverable

    @property
    def on_unrecoverable(self) -> OnUnrecoverable:
        return self._options.on_unrecoverable

    @property
    def on_termination(self) -> Callable[[TerminationReport], Awaitable[object]] | None:
        return self._options.on_termination

    @property
    def heartbeat(self) -> float:
        return self._options.heartbeat

    @property
    def significant(self) -> bool:
        return self._options.significant

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"Child {self.key!r} is frozen: {name} cannot be set")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"Child {self.key!r} is frozen: {name} cannot be deleted")

    def _fields(self) -> tuple[object, ...]:
        return self.key, self.start, self.args, self._options

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Child):
            return NotImplemented
        return self._fields() == other._fields()

    def __hash__(self) -> int:
        return hash((self.key, self.start))

    def __repr__(self) -> str:
        name = getattr(self.start, "__qualname__", None) or repr(self.start)
        args = "".join(f", {arg!r}" for arg in self.args)
        return f"Child({self.key!r}, {name}{args}, restart={self.restart!r})"


_set_key = setter(Child, "key")
_set_start = setter(Child, "start")
_set_args = setter(Child, "args")
_set_takes_status = setter(Child, "takes_status")
_set_options = setter(Child, "_options")


def _check_start(key: str, start: Any, args: tuple[Any, ...]) -> None:
    if type(start) is FunctionType and start.__code__.co_flags & inspect.CO_COROUTINE:
        return
    if not isinstance(start, Supervisor):
        check_async_function(f"Child {key!r}", "start", start)
    elif args:
        raise TypeError(f"Child {key!r}: args must be empty for a supervisor, not {args!r}")


def _takes_status(start: Any) -> bool:
    """Whether ``start`` has a parameter ``task_status`` that can be given by keyword."""
    if type(start) is FunctionType and not start.__dict__:
        code = start.__code__
        named = code.co_varnames[
            code.co_posonlyargcount : code.co_argcount + code.co_kwonlyargcount
        ]
        return "task_status" in named
    if isinstance(start, Supervisor):
        return True
    try:
        parameter = inspect.signature(start).parameters.get("task_status")
    except (TypeError, ValueError):
        return False
    return parameter is not None and parameter.kind in (
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
        inspect.Parameter.KEYWORD_ONLY,
    )
