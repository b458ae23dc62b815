"""`Child`: the frozen specification of one child, checked where it is written."""

from __future__ import annotations

import inspect
import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from operator import attrgetter
from types import FunctionType
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    Final,
    Generic,
    Protocol,
    TypeAlias,
    TypeVar,
    TypeVarTuple,
    Unpack,
    cast,
    overload,
)

from .check import (
    check_async_function,
    check_key,
)
from .errors import words
from .frozen import are_same, setter
from .options import (
    OPTION_NAMES,
    BreakerFactory,
    ChildOptions,
    Kind,
    OnUnrecoverable,
    Options,
    RestartType,
    Start0,
    Start1,
    Start2,
    Start3,
    Start4,
    T_co,
)

if TYPE_CHECKING:
    from trio import TaskStatus

    from .termination import TerminationReport

A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
D = TypeVar("D")
Ts = TypeVarTuple("Ts")

_Awaited: TypeAlias = Awaitable[object]

if TYPE_CHECKING:
    V_co = TypeVar("V_co", covariant=True)

    class _Option(Protocol[V_co]):
        """What type checkers see of an option: it can be read."""

        def __get__(self, child: Child[Any], owner: type[Child[Any]]) -> V_co: ...


def _option(name: str) -> Any:
    # supervisors ask for these all the time: no frame of Python for each
    return property(attrgetter(f"_options.{name}"))


class Supervisor(Generic[T_co]):
    """What runs a nursery of children of its own; its started value is a ``T_co``. Frozen."""

    __slots__ = ()

    # whether it passes for one piece of work, whose options are by default those of a worker
    is_work: ClassVar[bool] = False

    async def __call__(self, *, task_status: TaskStatus[T_co]) -> None:
        """Run as a root until stopped, cancelled or failed."""
        raise NotImplementedError

    def adopted(self, child: Child[Any]) -> Child[Any]:
        """The child with this start, as its supervisor keeps it.

        For one that hands options of its child on to children of its own.
        """
        return child

    def __setattr__(self, name: str, value: object) -> None:
        if hasattr(self, name):
            raise AttributeError(f"{type(self).__name__} is frozen: {name} cannot be set")
        object.__setattr__(self, name, value)

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{type(self).__name__} is frozen: {name} cannot be deleted")


_ASYNC: Final = inspect.CO_COROUTINE
_NEVER: Final = math.inf
_WORKER: Final = Options(
    "permanent", 5.0, _NEVER, 1, _NEVER, None, None, None, "escalate", None, _NEVER, False
)
_SUPERVISOR: Final = replace(_WORKER, shutdown=math.inf)


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
    - ``start_attempts``: how often a *first* start is tried that a boot or ``start_child`` waits
      for, with ``backoff`` between, each within ``start_timeout``; the last failure counts. ``inf``
      wants a ``backoff``. No breaker is asked, and nothing of it is a restart.
    - ``heartbeat``: longest time between two ``current_context().heartbeat()``, from the first on.
    - ``backoff``: a tenacity wait strategy, or a `Backoff`: how long to wait before a restart.
    - ``breaker``: a breaker factory for this child alone, asked before its supervisor's.
    - ``recoverable``: a tenacity retry strategy or a predicate of the exception; where it returns
      false, no restart follows the failure.
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
    _options: Options

    @overload
    def __init__(
        self, key: str, start: Start0[T_co, _Awaited], **options: Unpack[ChildOptions]
    ) -> None: ...

    @overload
    def __init__(
        self, key: str, start: Start1[A, T_co, _Awaited], a: A, /, **options: Unpack[ChildOptions]
    ) -> None: ...

    @overload
    def __init__(
        self,
        key: str,
        start: Start2[A, B, T_co, _Awaited],
        a: A,
        b: B,
        /,
        **options: Unpack[ChildOptions],
    ) -> None: ...

    @overload
    def __init__(
        self,
        key: str,
        start: Start3[A, B, C, T_co, _Awaited],
        a: A,
        b: B,
        c: C,
        /,
        **options: Unpack[ChildOptions],
    ) -> None: ...

    @overload
    def __init__(
        self,
        key: str,
        start: Start4[A, B, C, D, T_co, _Awaited],
        a: A,
        b: B,
        c: C,
        d: D,
        /,
        **options: Unpack[ChildOptions],
    ) -> None: ...

    @overload
    def __init__(
        self: Child[None],
        key: str,
        start: Callable[[*Ts], _Awaited],
        *args: *Ts,
        **options: Unpack[ChildOptions],
    ) -> None: ...

    @overload
    def __init__(
        self: Child[Any],
        key: str,
        start: Callable[..., _Awaited],
        a: object,
        b: object,
        c: object,
        d: object,
        e: object,
        /,
        *args: object,
        **options: Unpack[ChildOptions],
    ) -> None: ...

    # mypy does not see that any arguments include ``*Ts``
    def __init__(self, key: str, start: Any, *args: Any, **options: Any) -> None:  # type: ignore[misc]
        check_key("Child", "key", key)
        common = _WORKER
        if type(start) is not FunctionType or not start.__code__.co_flags & _ASYNC:
            _check_start(key, start, args)
            if isinstance(start, Supervisor) and not start.is_work:
                common = _SUPERVISOR
        # the slots themselves, since assignment is refused
        _set_key(self, key)
        _set_start(self, start)
        _set_args(self, args)
        _set_takes_status(self, _takes_status(start))
        # most children leave all options alone, and there may be very many of them
        _set_options(
            self, _chosen(f"Child {key!r}", common, options, self.start) if options else common
        )

    @property
    def kind(self) -> Kind:
        """``"supervisor"``, ``"thread"``, ``"process"`` or ``"remote"``, or else ``"worker"``.

        An attribute ``child_kind`` of the start function names another kind than a worker.
        """
        start = self.start
        if isinstance(start, Supervisor):
            return "supervisor"
        kind: Kind = getattr(start, "child_kind", "worker")
        return kind

    restart: _Option[RestartType] = _option("restart")
    shutdown: _Option[float] = _option("shutdown")
    start_timeout: _Option[float] = _option("start_timeout")
    start_attempts: _Option[float] = _option("start_attempts")
    run_timeout: _Option[float] = _option("run_timeout")
    backoff: _Option[Callable[[Any], float] | None] = _option("backoff")
    breaker: _Option[BreakerFactory | None] = _option("breaker")
    recoverable: _Option[Callable[[Any], object] | None] = _option("recoverable")
    on_unrecoverable: _Option[OnUnrecoverable] = _option("on_unrecoverable")
    on_termination: _Option[Callable[[TerminationReport], Awaitable[object]] | None] = _option(
        "on_termination"
    )
    heartbeat: _Option[float] = _option("heartbeat")
    significant: _Option[bool] = _option("significant")

    def with_defaults(self, defaults: ChildOptions) -> Child[T_co]:
        """This child, with values for those of its options that it was not given.

        What a supervisor does with its ``defaults``. A child that is a supervisor stays as it is:
        how a subsystem is restarted and stopped stands where it is declared.
        """
        missing = {name: value for name, value in defaults.items() if name not in self._given}
        if not missing or isinstance(self.start, Supervisor):
            return self
        return self._with(missing)

    @overload
    def replace(
        self, *, key: str = ..., args: tuple[Any, ...] = ..., **options: Unpack[ChildOptions]
    ) -> Child[T_co]: ...

    @overload
    def replace(
        self,
        *,
        key: str = ...,
        start: Callable[..., _Awaited],
        args: tuple[Any, ...] = ...,
        **options: Unpack[ChildOptions],
    ) -> Child[Any]: ...

    def replace(self, **changes: Any) -> Child[Any]:
        """A `Child` that differs in the fields given: ``child.replace(key="other", args=(1,))``.

        Raises as `Child` does, and `TypeError` for a field there is not.
        """
        unknown = changes.keys() - {"key", "start", "args", *OPTION_NAMES}
        if unknown:
            raise TypeError(f"Child.replace: there is no field {', '.join(sorted(unknown))}")
        return self._with(changes)

    @property
    def _given(self) -> frozenset[str]:
        return self._options.given

    def _with(self, changes: Mapping[str, Any]) -> Child[Any]:
        own: dict[str, Any] = {"key": self.key, "start": self.start, "args": self.args}
        given = {name: getattr(self._options, name) for name in self._given}
        fields = own | given | dict(changes)
        key, start, args = fields.pop("key"), fields.pop("start"), fields.pop("args")
        return Child(key, start, *args, **fields)

    def __setstate__(self, state: tuple[dict[str, Any] | None, dict[str, Any]]) -> None:
        # for copies and pickles, which set attributes of an object that is new
        for values in state:
            for name, value in (values or {}).items():
                object.__setattr__(self, name, value)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"Child {self.key!r} is frozen: {name} cannot be set")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"Child {self.key!r} is frozen: {name} cannot be deleted")

    def _fields(self) -> tuple[object, ...]:
        return self.key, self.start, *self._options.fields(), *self.args

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Child):
            return NotImplemented
        return are_same(self._fields(), other._fields())

    def __hash__(self) -> int:
        return hash((self.key, self.start))

    def __repr__(self) -> str:
        name = getattr(self.start, "__qualname__", None) or repr(self.start)
        args = "".join(f", {words(repr, arg)}" for arg in self.args)
        return f"Child({self.key!r}, {name}{args}, restart={self.restart!r})"


_set_key = setter(Child, "key")
_set_start = setter(Child, "start")
_set_args = setter(Child, "args")
_set_takes_status = setter(Child, "takes_status")
_set_options = setter(Child, "_options")


def _signature() -> inspect.Signature:
    """All options with their defaults, for readers and tools at run time."""
    kinds = inspect.Parameter
    key = kinds("key", kinds.POSITIONAL_OR_KEYWORD)
    start = kinds("start", kinds.POSITIONAL_OR_KEYWORD)
    options = [
        kinds(name, kinds.KEYWORD_ONLY, default=getattr(_WORKER, name)) for name in OPTION_NAMES
    ]
    return inspect.Signature([key, start, kinds("args", kinds.VAR_POSITIONAL), *options])


Child.__signature__ = _signature()  # type: ignore[attr-defined]


def _chosen(owner: str, common: Options, given: Mapping[str, Any], start: object = None) -> Options:
    """All options, of which some are ``given``."""
    unknown = sorted(given.keys() - set(OPTION_NAMES))
    if unknown:
        raise TypeError(
            f"{owner}: there is no option {', '.join(unknown)}{_meant(unknown[0], start)}; there "
            f"are {', '.join(OPTION_NAMES)}"
        )
    chosen = replace(common, **given, given=frozenset(given))
    chosen.check(owner)
    return chosen


def _meant(name: str, start: object) -> str:
    """What may have been meant by an option that there is not."""
    # wanted at a mistake alone
    from difflib import get_close_matches  # noqa: PLC0415

    close = get_close_matches(name, OPTION_NAMES, n=1)
    if close:
        return f" (did you mean {close[0]}?)"
    if start is None:
        return ""
    function = getattr(start, "__name__", "function")
    return f" (for an argument of the function write functools.partial({function}, {name}=...))"


def check_defaults(owner: str, defaults: object) -> ChildOptions:
    """Accept a mapping of options of `Child`, or ``None``; returns a copy."""
    if defaults is None:
        return {}
    if not isinstance(defaults, Mapping):
        raise TypeError(f"{owner}: defaults must be a mapping of Child options, not {defaults!r}")
    given = cast("Mapping[str, Any]", defaults)
    _chosen(f"{owner}: defaults", _WORKER, given)
    return cast(ChildOptions, dict(given))


def _check_start(key: str, start: Any, args: tuple[Any, ...]) -> None:
    if not isinstance(start, Supervisor):
        check_async_function(f"Child {key!r}", "start", start, plain=True)
    elif args:
        raise TypeError(f"Child {key!r}: args must be empty for a supervisor, not {args!r}")


def _takes_status(start: Any) -> bool:
    """Whether ``start`` has a parameter ``task_status`` that can be given by keyword."""
    if type(start) is FunctionType and not start.__dict__:
        if start.__kwdefaults__ is not None and "task_status" in start.__kwdefaults__:
            return True
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
