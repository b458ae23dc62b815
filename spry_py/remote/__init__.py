"""Children on other machines, under the same policies.

::

    engine = await scope.start(Child("gateway", ray_gateway(namespace="shop"), start_timeout=60))
    await scope.start(Child("resize", remote(engine, resize, queue, lease=10.0)))

What runs there is as here: it is started when it calls ``task_status.started(value)``, it may
listen for being asked to finish, it ends as it ends there, with the same exception.
`spry_py.current_context` works in it, with ``heartbeat()`` and ``fail()``; the path in it begins
with the child's key.

**No two incarnations overlap.** The right to run is a *lease*, which is renewed several times in
its time as long as the two machines reach each other. A new incarnation begins when the old one is
known to be dead, or when its lease has surely run out. At the end of its lease a process that is
the child's ``own`` leaves at once; a ``shared`` one cancels the child, and leaves as a whole,
with all that it shares it with, if the child has not ended in its ``shutdown`` seconds.

Engines are in packages of their own; this one knows none. To write one, see `Engine`, `Hold` (the
near end) and `Far` (the far end).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Literal, TypeVar, TypeVarTuple, overload

import trio

from spry_py.lowlevel import (
    Start0,
    Start1,
    Start2,
    Start3,
    Start4,
    Supervisor,
    check_choice,
    check_seconds,
)

from .engine import Engine, Running
from .far import Far
from .fence import fencing_number
from .hold import Hold, Letter
from .lost import RemoteLost
from .messages import Beat, Done, Log, Lost, Message, Report, Started, Word
from .order import Host, Order
from .run import Run
from .work import packed_work

__all__ = [
    "Beat",
    "Done",
    "Engine",
    "Far",
    "Hold",
    "Host",
    "Letter",
    "Log",
    "Lost",
    "Message",
    "Order",
    "RemoteLost",
    "RemoteStart",
    "Report",
    "Running",
    "Started",
    "Word",
    "fencing_number",
    "remote",
]

T = TypeVar("T")
A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
D = TypeVar("D")
Ts = TypeVarTuple("Ts")
T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True, slots=True, repr=False)
class RemoteStart(Generic[T_co]):
    """What `remote` makes: a start function for `Child`. Frozen; equal if its fields are equal."""

    child_kind: ClassVar[Literal["remote"]] = "remote"

    engine: Engine
    fn: Callable[..., object]
    work: bytes
    resources: tuple[tuple[str, float], ...]
    host: Host
    lease: float

    async def __call__(
        self, *, task_status: trio.TaskStatus[T_co] = trio.TASK_STATUS_IGNORED
    ) -> object:
        """Run it to its end; what it returns and raises. Raises `RemoteLost` as well.

        Cancelling it ends the incarnation there, and waits until it is dead or its lease is over.
        """
        return await self._run(task_status, is_child=True)

    async def call(self) -> Any:
        """Run it as a part of the calling child, and return its value.

        For one step of a child's work, as an item of a pipeline's `Stage`. What it raises is raised
        here, `RemoteLost` as well, so that a lost step is a failure of the child that took it, and
        one incident. A child that is asked to finish may still wait for the value. Log records are
        those of that child; spans stand below the current one, else below the start of that child.
        What it calls ``task_status.started`` with is of no use.

        Cancelling it ends it there, and waits until it is dead or its lease is over. Raises
        `RuntimeError` outside a tree.
        """
        return await self._run(trio.TASK_STATUS_IGNORED, is_child=False)

    async def _run(self, task_status: trio.TaskStatus[T_co], *, is_child: bool) -> Any:
        run = Run(self.engine, repr(self), self.host, is_child=is_child)
        return await run.live(run.order(self.work, dict(self.resources), self.lease), task_status)

    def __repr__(self) -> str:
        name = getattr(self.fn, "__qualname__", None) or repr(self.fn)
        return f"remote({name})"


@overload
def remote(
    engine: Engine,
    start: Start0[T, object],
    *,
    resources: Mapping[str, float] | None = None,
    host: Host = "shared",
    lease: float = 30.0,
) -> RemoteStart[T]: ...


@overload
def remote(
    engine: Engine,
    start: Start1[A, T, object],
    a: A,
    /,
    *,
    resources: Mapping[str, float] | None = None,
    host: Host = "shared",
    lease: float = 30.0,
) -> RemoteStart[T]: ...


@overload
def remote(
    engine: Engine,
    start: Start2[A, B, T, object],
    a: A,
    b: B,
    /,
    *,
    resources: Mapping[str, float] | None = None,
    host: Host = "shared",
    lease: float = 30.0,
) -> RemoteStart[T]: ...


@overload
def remote(
    engine: Engine,
    start: Start3[A, B, C, T, object],
    a: A,
    b: B,
    c: C,
    /,
    *,
    resources: Mapping[str, float] | None = None,
    host: Host = "shared",
    lease: float = 30.0,
) -> RemoteStart[T]: ...


@overload
def remote(
    engine: Engine,
    start: Start4[A, B, C, D, T, object],
    a: A,
    b: B,
    c: C,
    d: D,
    /,
    *,
    resources: Mapping[str, float] | None = None,
    host: Host = "shared",
    lease: float = 30.0,
) -> RemoteStart[T]: ...


@overload
def remote(
    engine: Engine,
    start: Callable[[*Ts], object],
    *args: *Ts,
    resources: Mapping[str, float] | None = None,
    host: Host = "shared",
    lease: float = 30.0,
) -> RemoteStart[Any]: ...


@overload
def remote(
    engine: Engine,
    start: Supervisor[Any],
    *,
    resources: Mapping[str, float] | None = None,
    host: Host = "shared",
    lease: float = 30.0,
) -> RemoteStart[None]: ...


# mypy does not see that any arguments include ``*Ts``
def remote(  # type: ignore[misc]
    engine: Engine,
    start: Callable[..., object],
    *args: Any,
    resources: Mapping[str, float] | None = None,
    host: Host = "shared",
    lease: float = 30.0,
) -> RemoteStart[Any]:
    """A start function that runs ``start(*args)`` on another machine: a child of kind remote.

    ``start`` is what a child may be here: an async function of trio; a blocking one, which has a
    thread there as with `spry_py.threads.thread`; ``task(fn)`` of `spry_py.aio` for one of asyncio;
    or a `SystemSupervisor`, and then a whole subtree lives there, whose started value stays there
    (``None`` comes back). Function, arguments, started value, value and exceptions are pickled:
    what cannot be is a `TypeError` that names it. The function has to be importable there, and not
    be one of ``__main__``.

    The started value is what it calls ``task_status.started`` with. What it returns and raises is
    how the child ends, an exception with its remote traceback as a note. Asked to settle, the child
    there is asked, and one that does not listen is cancelled; the ``shutdown`` seconds are counted
    here. Aborted, it is killed (``host="own"``), or cancelled (``"shared"``). Log records of its
    code arrive in the log of the child's path, and its spans belong to the trace of its start.
    `ChildHandle.stack` shows where it stands, as of the last beat.

    ``host="own"`` gives it a process of its own, which can be killed, and which takes a second or
    more to start. With ``"shared"`` one process on each machine runs many children: a start takes
    milliseconds, but none can be killed alone. One that holds up the event loop holds up all, and
    one that swallows its cancellation takes the process along when its lease ends.

    ``lease`` (seconds) is how long the code may go on when its machine is cut off, and so how long
    it takes at most until it is given up as `RemoteLost`: with ``"shared"`` its ``shutdown``, at
    most another lease, comes on top. A third of it passes between two beats. ``resources`` is for
    the engine: as ``{"num_cpus": 2}`` for Ray. `fencing_number` protects what it writes to.

    Raises `TypeError` or `ValueError` naming the argument.
    """
    if not callable(getattr(engine, "start", None)):
        raise TypeError(
            f"remote: engine must be an engine, as the started value of a gateway is one, "
            f"not {engine!r}"
        )
    check_choice("remote", "host", host, ("own", "shared"))
    check_seconds("remote", "lease", lease)
    if not 0 < lease < float("inf"):
        raise ValueError(f"remote: lease must be more than 0 and finite, not {lease!r}")
    work = packed_work(start, args)
    return RemoteStart(engine, start, work, _checked(resources), host, float(lease))


def _checked(resources: Mapping[str, float] | None) -> tuple[tuple[str, float], ...]:
    if resources is None:
        return ()
    if not isinstance(resources, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"remote: resources must be a mapping of str to float, not {resources!r}")
    for name, amount in resources.items():
        if not isinstance(name, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"remote: resources must have names that are str, not {name!r}")
        check_seconds("remote", f"resources[{name!r}]", amount)
    return tuple(sorted(resources.items()))


# where users import them from
for _public in (
    Beat, Done, Engine, Far, Hold, Log, Lost, Order, RemoteLost, RemoteStart, Report, Running,
    Started, Word, fencing_number,
):  # fmt: skip
    _public.__module__ = __name__
del _public
