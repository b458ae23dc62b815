"""`task`: a coroutine function of asyncio as the start function of a child."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Literal, TypeAlias, TypeVarTuple

import trio
from trio.lowlevel import enable_ki_protection

from spry_py import current_context
from spry_py.lowlevel import check_async_function, check_choice

from .life import Life
from .place import HostLoop, OwnLoop, Place, host_of_run
from .speech import names
from .voice import started

Ts = TypeVarTuple("Ts")
LoopName: TypeAlias = Literal["asyncio", "uvloop"]


@dataclass(frozen=True, slots=True, repr=False)
class TaskStart:
    """What `task` makes: a start function for `Child`. Frozen; equal if its fields are equal."""

    fn: Callable[..., Awaitable[object]]
    args: tuple[object, ...]
    loop: LoopName = "asyncio"
    calls_started: bool = False

    @enable_ki_protection
    async def __call__(
        self, *, task_status: trio.TaskStatus[Any] = trio.TASK_STATUS_IGNORED
    ) -> object:
        """Run the function, as a child's own code; raises `RuntimeError` outside a tree."""
        context = current_context()
        host = await host_of_run()
        place: Place = HostLoop(host) if host is not None else OwnLoop(_factory_of(self.loop))
        life = Life(self.fn, self.args, self.calls_started, task_status, context, place)
        return await life.run()

    # the arguments need not be hashable
    def __hash__(self) -> int:
        return hash(self.fn)

    def __repr__(self) -> str:
        name = getattr(self.fn, "__qualname__", None) or repr(self.fn)
        return f"task({', '.join([name, *map(repr, self.args)])})"


def _factory_of(loop: LoopName) -> Callable[[], asyncio.AbstractEventLoop] | None:
    if loop == "asyncio":
        return None
    made: Callable[[], asyncio.AbstractEventLoop] = import_module(loop).new_event_loop
    return made


def task(
    fn: Callable[[*Ts], Awaitable[object]],
    *args: *Ts,
    loop: LoopName = "asyncio",
    calls_started: bool | None = None,
) -> TaskStart:
    """A start function that runs ``fn(*args)``, a coroutine function of asyncio, as a task.

    In a guest run of trio, as below `spry_py.aio.open_system`, it is a task of the host's loop.
    Elsewhere it has a loop of its own (of the kind ``loop``) in a thread of its own, and what it
    leaves running there is cancelled at its end.

    The child is started when the task calls `started`, or else at its first suspension, with the
    value ``None``. Which of the two it is, the code of ``fn`` shows: whether it, or what it names,
    names `started`. Where that is hidden, or never called, ``calls_started`` decides.

    What ``fn`` returns and raises is how the child ends. Asked to finish, the task goes on for the
    child's ``shutdown`` seconds if it has called `settled` or entered `cancel_on_settle`. Otherwise
    it is cancelled, as it is after that time, and again each second while it swallows that. A task
    that does not end is reported with the stack of the task and of those that it awaits. An
    `asyncio.CancelledError` that its supervisor has not asked for is a failure. `current_context`
    works in it, with ``heartbeat()``, ``fail()`` and ``is_settling``.

    Raises `TypeError` if ``fn`` is no coroutine function, `ValueError` for another ``loop``, and
    for one whose package is not installed.
    """
    check_async_function("task", "fn", fn)
    check_choice("task", "loop", loop, ("asyncio", "uvloop"))
    if find_spec(loop) is None:
        raise ValueError(f"task: loop={loop!r} needs the package {loop!r}, which is not installed")
    if calls_started is None:
        calls_started = names(fn, args, started)
    return TaskStart(fn, args, loop, calls_started)
