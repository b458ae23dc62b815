"""One incarnation of a remote child, as a piece of code here that stands for it."""

from __future__ import annotations

import logging
import secrets
import time
from typing import Any, Final

import trio
from opentelemetry import propagate, trace
from trio.lowlevel import enable_ki_protection

from spry_py import Context, Unresponsive, current_context
from spry_py.lowlevel import add_stack, carrier, guarded, incident_elsewhere, log, out_of_group

from .engine import Engine, Running
from .lost import RemoteLost
from .messages import Beat, Done, Log, Lost, Message, Started
from .order import Host, Order
from .outcome import failure_of, value_of


class Fences:
    """Fencing numbers: each larger than the last, and than those of earlier programs."""

    def __init__(self) -> None:
        self._last = 0

    def next(self) -> int:
        """A new one: the nanoseconds since 1970, unless that was given before."""
        self._last = max(self._last + 1, time.time_ns())
        return self._last


_fences: Final = Fences()


class Run:
    """Stands for the child: does what its supervisor wants of it, and ends as it has ended.

    Unless ``is_child`` it is but a step of the child that it runs in.
    """

    def __init__(self, engine: Engine, start: str, host: Host, *, is_child: bool) -> None:
        self._context: Context = current_context()
        self._is_child = is_child
        self._engine = engine
        self._start = start
        self._host: Host = host
        # what is known of it; written by `_hear`
        self._node = ""
        self._stack = ""
        self._stack_at = trio.current_time()
        self._end: Done | Lost | None = None
        self._is_wanted = True

    def order(self, work: bytes, resources: dict[str, float], lease: float) -> Order:
        """What to send."""
        context = self._context
        child = context.system.child(context.key).info().child
        return Order(
            id=secrets.token_hex(8),
            key=context.key,
            path=context.path,
            incarnation=context.incarnation,
            fence=_fences.next(),
            work=work,
            lease=lease,
            host=self._host,
            resources=resources,
            shutdown=child.shutdown,
            heartbeat=child.heartbeat,
            log_level=_level_of(context.path),
            carrier=self._carrier(),
        )

    def _carrier(self) -> dict[str, str]:
        if not self._is_child and trace.get_current_span().get_span_context().is_valid:
            headers: dict[str, str] = {}
            guarded(propagate.inject, headers)
            return headers
        return carrier(self._context)

    @enable_ki_protection
    async def live(self, order: Order, status: trio.TaskStatus[Any]) -> Any:
        """Have it run to its end, and return or raise what it does."""
        running = await self._begin(order)
        if running is None:
            return None
        take_back = add_stack(self._where, self._context)
        try:
            interruption = await self._attend(running, status)
        finally:
            take_back()
        try:
            # an end by an exception stands above the cancellation that it came from
            self._raise_failure()
            if interruption is not None:
                raise interruption
        finally:
            del interruption
        return self._result()

    async def _attend(self, running: Running, status: trio.TaskStatus[Any]) -> BaseException | None:
        """Stay with it to its end, whatever that is; returns what has come between."""
        try:
            async with trio.open_nursery() as nursery:
                if self._is_child:
                    nursery.start_soon(self._ask, running)
                await self._follow(running, status)
                nursery.cancel_scope.cancel()
        except BaseException as exception:
            with trio.CancelScope(shield=True):
                await self._finish(running)
            return out_of_group(exception)
        return None

    async def _begin(self, order: Order) -> Running | None:
        if not self._is_child:
            return await self._engine.start(order)
        with self._context.cancel_on_settle():
            return await self._engine.start(order)
        return None

    async def _ask(self, running: Running) -> None:
        await self._context.settled()
        self._is_wanted = False
        await running.settle()

    async def _follow(self, running: Running, status: trio.TaskStatus[Any]) -> None:
        async for message in running.messages:
            if isinstance(message, Started):
                self._node = message.node
                status.started(value_of(message))
            else:
                self._hear(message)

    async def _finish(self, running: Running) -> None:
        """It is to end now. What it still has to report is heard; it starts no more."""
        self._is_wanted = False
        await running.kill()
        if self._end is None:
            async for message in running.messages:
                self._hear(message)

    def _hear(self, message: Message) -> None:
        if isinstance(message, Log):
            self._log(message)
        elif isinstance(message, Beat):
            self._note(message)
        elif isinstance(message, Done):
            self._end = message
            if self._is_child:
                incident_elsewhere(message.incident, self._context)
        elif isinstance(message, Lost):
            self._end = message

    def _note(self, beat: Beat) -> None:
        self._stack, self._stack_at = beat.stack, trio.current_time()
        if beat.silent:
            self._context.fail(
                Unresponsive(
                    f"{self._context.path!r} sent no heartbeat in time, and holds up the event "
                    f"loop on {self._node}"
                )
            )

    def _log(self, message: Log) -> None:
        path = "/".join(filter(None, (self._context.path, message.below)))
        fields: dict[str, object] = {
            "spry.child.path": path,
            "spry.child.key": path.rpartition("/")[2],
            "spry.remote.node": message.node,
            "spry.remote.logger": message.logger,
        }
        log(path, message.level, f"{path}: {message.text}", fields)

    def _where(self) -> str:
        ago = trio.current_time() - self._stack_at
        name = self._node or "no machine yet"
        kind = "" if self._host == "own" else ", in a process that it shares and is not killed with"
        return f"  remote {self._start} on {name}{kind}, as of {ago:.1f} s ago:\n{self._stack}"

    def _raise_failure(self) -> None:
        if isinstance(self._end, Done) and self._end.outcome == "raised":
            raise failure_of(self._end)

    def _result(self) -> Any:
        end = self._end
        if isinstance(end, Done) and end.outcome != "aborted":
            return value_of(end)
        if not self._is_wanted:
            return None
        why = end.why if isinstance(end, Lost) else "it was cancelled there by nothing of this tree"
        raise RemoteLost(self._context.path, why)


def _level_of(path: str) -> int:
    """The lowest level that is logged about a path here."""
    return logging.getLogger(f"spry_py.{path.replace('/', '.')}").getEffectiveLevel()
