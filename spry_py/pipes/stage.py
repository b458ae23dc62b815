"""What a stage of a pipeline is: `Stage` and `Worker`, frozen and checked where written."""

from __future__ import annotations

import enum
import inspect
from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Final, Unpack

from spry_py import Child
from spry_py.lowlevel import (
    StageOptions,
    Supervisor,
    are_same,
    check_async_function,
    check_callable,
    check_choice,
    check_count,
    check_key,
)

from .hand import ON_CRASH, OnCrash
from .pipe import Pipe


class Drop(enum.Enum):
    """The type of `DROP`."""

    DROP = "drop"

    def __repr__(self) -> str:
        return self.name


DROP: Final = Drop.DROP
"""What the function of a `Stage` returns to pass nothing on."""


class Stage:
    """A stage of a `pipeline`: ``function`` is called with each item, and its result is passed on.

    ``function`` is a sync or an async function of one item; `DROP` as its result passes nothing on.
    In the last stage the result is of no use.

    - ``workers``: how many children share the work, each with an item of its own in hand; with more
      than one, results may overtake each other.
    - ``capacity``: how many items may wait in front of this stage, besides those in hand. When it
      is full, the stage before is held back.
    - ``on_crash``, ``max_deliveries``: what becomes of an item whose worker fails, as for `Pipe`.
      With ``"forward"`` there is no result to pass on: the item becomes a dead letter at once.
    - any option of `Child` but ``restart``: how each worker is restarted and stopped.

    Frozen; equal if all fields are equal, and two `functools.partial` are if their functions and
    arguments are. Raises `TypeError` or `ValueError`, naming the field, the value and what is
    allowed.
    """

    __slots__ = ("capacity", "function", "key", "max_deliveries", "on_crash", "options", "workers")

    key: str
    function: Callable[..., Any]
    workers: int
    capacity: int
    on_crash: OnCrash
    max_deliveries: float
    options: Mapping[str, Any]

    # whether an item as it is would be nothing to pass on
    transforms: ClassVar[bool] = True

    def __init__(
        self,
        key: str,
        function: Callable[[Any], object],
        *,
        workers: int = 1,
        capacity: int = 0,
        on_crash: OnCrash = "redeliver",
        max_deliveries: float = 3,
        **options: Unpack[StageOptions],
    ) -> None:
        kind = type(self).__name__
        check_key(kind, "key", key)
        owner = f"{kind} {key!r}"
        self._check_function(owner, function)
        check_count(owner, "workers", workers, least=1)
        check_count(owner, "capacity", capacity)
        check_choice(owner, "on_crash", on_crash, ON_CRASH)
        check_count(owner, "max_deliveries", max_deliveries, infinite=True, least=1)
        if "restart" in options:
            raise TypeError(f"{owner}: restart is always 'transient', and must not be given")
        # a bad option is refused here, and not where the pipeline starts
        Child(key, _nothing, restart="transient", **options)
        self._write(
            key=key,
            function=function,
            workers=workers,
            capacity=capacity,
            on_crash=on_crash,
            max_deliveries=max_deliveries,
            options=MappingProxyType(options),
        )

    def _write(self, **fields: object) -> None:
        for name, value in fields.items():
            object.__setattr__(self, name, value)

    def _check_function(self, owner: str, function: object) -> None:
        if isinstance(function, Supervisor) or hasattr(function, "child_kind"):
            raise TypeError(
                f"{owner}: function must be a function of one item, not {function!r}: that is a "
                "child's; start it as a Child before the pipeline, and give the stage a function "
                "that asks it"
            )
        check_callable(owner, "function", function, "a function of one item")
        if function is None or inspect.isasyncgenfunction(function):
            raise TypeError(f"{owner}: function must be a function of one item, not {function!r}")

    async def work(self, pipe: Pipe[Any, Any]) -> None:
        """Work on what comes through ``pipe``, to its end."""
        async for item in pipe:
            result = self.function(item)
            if inspect.isawaitable(result):
                result = await result
            if result is DROP:
                pipe.drop()
            else:
                pipe.replace(result)

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys of its workers: its own, or with several ``key-1``, ``key-2``, …"""
        if self.workers == 1:
            return (self.key,)
        return tuple(f"{self.key}-{number}" for number in range(1, self.workers + 1))

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} {self.key!r} is frozen: {name} cannot be set")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(
            f"{type(self).__name__} {self.key!r} is frozen: {name} cannot be deleted"
        )

    def _fields(self) -> tuple[object, ...]:
        own = tuple(getattr(self, name) for name in Stage.__slots__ if name != "options")
        names = sorted(self.options)
        return *own, *names, *(self.options[name] for name in names)

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return are_same(self._fields(), other._fields())

    def __hash__(self) -> int:
        return hash((self.key, self.workers))

    def __repr__(self) -> str:
        name = getattr(self.function, "__qualname__", None) or repr(self.function)
        return f"{type(self).__name__}({self.key!r}, {name})"


class Worker(Stage):
    """A stage of a `pipeline` whose ``function`` is given the `Pipe` itself.

    For the source, which has no upstream and puts, and for workers that set something up, keep a
    state of their own, or make several values of one item. ``function`` is an async function of the
    pipe. The worker is started when it is called; when it returns, the item in hand is passed on,
    and the worker is done: it is not started again, and takes nothing more, so that a stage before
    it that has more to pass on fails with `DownstreamClosed`. With ``on_crash="forward"`` the item
    as it is is passed on. All else as for `Stage`; ``capacity`` means nothing for a source.
    """

    __slots__ = ()

    transforms: ClassVar[bool] = False

    def __init__(
        self,
        key: str,
        function: Callable[[Pipe[Any, Any]], Awaitable[object]],
        *,
        workers: int = 1,
        capacity: int = 0,
        on_crash: OnCrash = "redeliver",
        max_deliveries: float = 3,
        **options: Unpack[StageOptions],
    ) -> None:
        super().__init__(
            key,
            function,
            workers=workers,
            capacity=capacity,
            on_crash=on_crash,
            max_deliveries=max_deliveries,
            **options,
        )

    def _check_function(self, owner: str, function: object) -> None:
        check_async_function(owner, "function", function)

    async def work(self, pipe: Pipe[Any, Any]) -> None:
        await self.function(pipe)


async def _nothing() -> None: ...
