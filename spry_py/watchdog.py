"""Who blocks the event loop: `watch_loop` looks at it from a thread.

A supervisor decides nothing while a child keeps trio's thread to itself; only another thread can
report then which child it is. As a child, declared first so that it stops last, or in any nursery::

    Child("watchdog", watch_loop, 1.0)

    nursery.start_soon(watch_loop, 1.0)
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from types import FrameType
from typing import Final, TypeAlias

import trio

from spry_py.lowlevel import check_seconds, context_of, log
from spry_py.threads.stack import stack_of_thread
from spry_py.threads.worker import Worker

__all__ = ["watch_loop"]

_LOOKS: Final = 4

_Step: TypeAlias = tuple[trio.lowlevel.Task, float]


async def watch_loop(
    bound: float = 1.0, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Report, until cancelled, every task that keeps the loop for ``bound`` seconds or longer.

    Seconds of real time, whatever clock trio has. A daemon thread looks four times in each
    ``bound``, and logs which task it is and where it stands while that lasts: at once, then each
    time the time has doubled, and once more when it is over, with the whole time. Each is a record
    (WARNING, from the logger ``spry_py.<path with dots>``) with the fields ``spry.child.path``
    (missing for a task outside all trees), ``spry.child.stack``, ``spry.task.name`` and
    ``spry.loop.blocked`` (seconds). If the thread cannot run either, because foreign code does not
    let go of the interpreter, one record without a stack comes when that is over.

    It costs half a microsecond to one and a half for each step of a task, a fifth to two fifths of
    what trio takes for a step. It works for the run of trio that it is called in; several may watch
    at the same time. Cancelling it ends its thread. Raises `ValueError` or `TypeError` for a
    ``bound`` that is not a finite number above 0.
    """
    check_seconds("watch_loop", "bound", bound, zero=False)
    if bound == math.inf:
        raise ValueError("watch_loop: bound must be finite; without a watchdog nothing is reported")
    await watch(bound, _log, task_status)


async def watch(
    bound: float, report: Callable[[Blocked], object], task_status: trio.TaskStatus[None]
) -> None:
    """As `watch_loop`, with ``report`` called in the watchdog's thread for each report."""
    steps = Steps(bound)
    watcher = Watcher(steps, partial(_stack_of, threading.get_ident()))
    worker = Worker("spry_py watchdog", partial(_watch, watcher, report, task_status))
    trio.lowlevel.add_instrument(steps)
    try:
        await worker.run(trio.sleep_forever)
    finally:
        with suppress(KeyError):  # trio has removed it already if Ctrl-C came in its midst
            trio.lowlevel.remove_instrument(steps)
    await trio.lowlevel.checkpoint()  # only a cancellation can have ended it


def _watch(
    watcher: Watcher,
    report: Callable[[Blocked], object],
    task_status: trio.TaskStatus[None],
    asked: threading.Event,
) -> None:
    trio.from_thread.run_sync(task_status.started)
    is_last = False
    while not is_last:
        is_last = asked.wait(watcher.steps.bound / _LOOKS)
        for blocked in watcher.look():
            report(blocked)


class Steps(trio.abc.Instrument):
    """Notes which task has the loop, and since when; and who has had it for too long.

    Written by trio's thread, read by the watcher's: each attribute in one piece.
    """

    def __init__(self, bound: float, clock: Callable[[], float] = time.perf_counter) -> None:
        self.bound = bound
        self.clock = clock
        self.present: _Step | None = None
        # the steps that are over, and how long they lasted
        self.long: deque[tuple[_Step, float]] = deque()

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        now = self.clock()
        step, self.present = self.present, (task, now)
        if step is not None and now - step[1] >= self.bound:
            self.long.append((step, now - step[1]))

    # the last one of a batch; hearing of the end of each step would cost twice as much
    def before_io_wait(self, timeout: float) -> None:
        step, self.present = self.present, None
        if step is not None:
            seconds = self.clock() - step[1]
            if seconds >= self.bound:
                self.long.append((step, seconds))


@dataclass(frozen=True, slots=True)
class Blocked:
    """One report: who blocks or, once it ``is_over``, has blocked the loop, and for how long."""

    path: str | None
    task: str
    seconds: float
    stack: str
    is_over: bool


class Watcher:
    """Finds what to report of the steps, at each look."""

    def __init__(self, steps: Steps, stack_of: Callable[[trio.lowlevel.Task], str]) -> None:
        self.steps = steps
        self._stack_of = stack_of
        # the step last reported, where it stood, and when to report it again
        self._reported: _Step | None = None
        self._stack = ""
        self._due = steps.bound

    def look(self) -> list[Blocked]:
        """What is to be logged now."""
        return [*self._ended(), *self._lasting()]

    def _ended(self) -> Iterator[Blocked]:
        long = self.steps.long
        while long:
            step, seconds = long.popleft()
            stack = ""
            if step is self._reported:
                stack, self._reported, self._stack = self._stack, None, ""
            yield _blocked(step, seconds, stack, True)

    def _lasting(self) -> Iterator[Blocked]:
        step = self.steps.present
        if step is None:
            return
        seconds = self.steps.clock() - step[1]
        if seconds < (self._due if step is self._reported else self.steps.bound):
            return
        stack = self._stack_of(step[0])
        if self.steps.present is step:  # else it may be the stack of the next task
            self._reported, self._stack = step, stack
            self._due = 2 * seconds
            yield _blocked(step, seconds, stack, False)


def _blocked(step: _Step, seconds: float, stack: str, is_over: bool) -> Blocked:
    task = step[0]
    context = context_of(task)
    return Blocked(
        context.path if context is not None else None, task.name, seconds, stack, is_over
    )


def _stack_of(ident: int, task: trio.lowlevel.Task) -> str:
    """Where a running task stands, without what trio does to run it."""
    outermost: FrameType | None = getattr(task.coro, "cr_frame", None)
    above = outermost.f_back if outermost is not None else None
    return stack_of_thread(ident, lambda frame: frame is above)


def _log(report: Blocked) -> None:
    fields: dict[str, object] = {
        "spry.child.stack": report.stack,
        "spry.task.name": report.task,
        "spry.loop.blocked": report.seconds,
    }
    if report.path is not None:
        fields["spry.child.path"] = report.path
    log(report.path or "", logging.WARNING, _text_of(report), fields)


def _text_of(report: Blocked) -> str:
    who = f"the task {report.task!r}"
    if report.path is not None:
        is_main = report.task == report.path.rpartition("/")[2]
        who = report.path if is_main else f"{report.path} (in {who})"
    if report.is_over:
        return f"{who} blocked the event loop for {report.seconds:.3g} s"
    at = f"; it stands at\n{report.stack}" if report.stack else ""
    return f"{who} has been blocking the event loop for {report.seconds:.3g} s{at}"
