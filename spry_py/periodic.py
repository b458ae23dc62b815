"""Periodic children: a function that is run again and again, with a pause behind each run.

After taskvisor's tasks that are always run again, and their interval.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVarTuple, Unpack

import trio

from spry_py import Context, RunTimeout, current_context
from spry_py.lowlevel import check_async_function, check_seconds

__all__ = ["Periodic", "periodic"]

Ts = TypeVarTuple("Ts")


def periodic(
    function: Callable[[Unpack[Ts]], Awaitable[object]],
    *args: *Ts,
    every: float,
    timeout: float = math.inf,
) -> Periodic:
    """A start function that runs ``function(*args)`` for ever, ``every`` seconds after each run.

    ``Child("poll", periodic(poll, url, every=5.0))``. The pause begins when a run has ended. All
    runs are one incarnation of the child, so that a run that ends well is no restart and asks no
    breaker; one that raises is the end of the child, as of any other.

    The child is started as soon as the first run begins: its system does not wait for that run, and
    if it fails the child has failed and is restarted, not its start. A run of more than ``timeout``
    seconds is cancelled, and the child has failed with `RunTimeout`, whatever the run makes of it.

    Asked to finish, the child ends `Normal` at once during a pause; a run has the child's
    ``shutdown`` seconds to come to its end. Cancelled, it ends as any function.

    Raises `TypeError` or `ValueError` for a function that is not async, and for bad seconds.
    """
    check_async_function("periodic", "function", function)
    check_seconds("periodic", "every", every)
    check_seconds("periodic", "timeout", timeout, zero=False)
    return Periodic(function, args, every, timeout)


@dataclass(frozen=True, slots=True)
class Periodic:
    """What `periodic` makes: a start function, equal if all fields are equal. Seconds."""

    function: Callable[..., Awaitable[object]]
    args: tuple[object, ...]
    every: float
    timeout: float

    async def __call__(self, *, task_status: trio.TaskStatus[None]) -> None:
        context = current_context()
        # from the very beginning: a child that does not listen would be aborted in its first run
        pause = context.cancel_on_settle()
        task_status.started()
        while not context.is_settling:
            await self._run_once(context)
            with pause:
                await trio.sleep(self.every)
            pause = context.cancel_on_settle()

    async def _run_once(self, context: Context) -> None:
        scope = trio.CancelScope(deadline=trio.current_time() + self.timeout)
        cause: Exception | None = None
        try:
            with scope:
                await self.function(*self.args)
        except Exception as error:
            if not scope.cancel_called:
                raise
            cause = error
        if scope.cancel_called:
            raise RunTimeout(
                f"a run of {context.path!r} took longer than {self.timeout:g} s"
            ) from cause
