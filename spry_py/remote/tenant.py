"""`Tenant`: one incarnation on the other side, in a tree of its own."""

from __future__ import annotations

import math
import secrets
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final

import trio

from spry_py import (
    Aborted,
    Child,
    ChildFailure,
    ChildHandle,
    Failed,
    Ignore,
    Interrupted,
    Normal,
    SupervisorStopped,
    SystemHandle,
    TerminationReport,
    open_system,
)
from spry_py.lowlevel import clock_of, traced_through

from .alarm import LATER
from .fence import FENCE
from .guest import Guest
from .messages import Done, Log, News, Report, Started, Word
from .order import Order
from .outcome import pickled, raised
from .reporter import REPORT
from .tenancy import Tenancy
from .work import in_trace_of, is_subtree, work_of

# how much later than its own loop should have done it the loop is found to be held up
LATE: Final = 1.0


class Tenant:
    """Carries out an order, for as long as its lease is renewed.

    The process calls `run` in a task, and from any thread `hear` with what arrives, `check` and
    `report` whenever `due` is over: so a lease is kept to while the event loop is held up.
    ``leave`` ends the whole process, and ``on_news`` is called when `due` has changed.
    """

    def __init__(
        self,
        order: Order,
        node: str,
        clock: Callable[[], float],
        leave: Callable[[], object],
        on_news: Callable[[], object],
    ) -> None:
        self.order: Order = order
        self._node = node
        self._clock = clock
        self._leave = leave
        self._on_news = on_news
        # guards the tenancy
        self._lock = threading.RLock()
        self._began_at = clock()
        self._tenancy = Tenancy(order, secrets.token_hex(8), node, self._began_at)
        # written before the process leaves; only in tests does anything come behind that
        self._has_left = False
        # written in the loop: by `run`, and by what it calls
        self._token: trio.lowlevel.TrioToken | None = None
        self._changed = trio.lowlevel.ParkingLot()
        self._root: SystemHandle | None = None
        self._child: ChildHandle | None = None
        self._is_aborted = False
        self.is_done: bool = False

    # From any thread

    def hear(self, word: Word) -> None:
        """Take a letter."""
        with self._lock:
            self._tenancy.hear(word, self._clock())
            is_killed = self._tenancy.wish == "kill" and self._tenancy.is_granted
        if is_killed and self.order.host == "own" and not self.is_done:
            self._has_left = True
            self._leave()
        self._soon()
        self._on_news()

    def due(self) -> float:
        """When the next `report` is due."""
        return math.inf if self.is_forgotten() else self._tenancy.due

    def check_at(self) -> float:
        """When the next `check` is due."""
        if self.is_done or self._has_left:
            return math.inf
        with self._lock:
            if not self._tenancy.is_granted:
                return self._began_at + self.order.lease
            until = self._tenancy.until
            return until if self._clock() < until else until + self.order.grace

    def over_at(self) -> float:
        """From when on nothing of it may run any more; ``inf`` if nothing of it runs."""
        with self._lock:
            if self.is_done or not self._tenancy.is_granted:
                return math.inf
            return self._tenancy.until + self.order.grace + LATER * self.order.lease

    def report(self) -> Report | None:
        """The letter that is to be sent, if one is due."""
        now = self._clock()
        with self._lock:
            if self._tenancy.due > now or self.is_forgotten():
                return None
            return self._tenancy.report(now, self._stack(), silent=self._is_silent())

    def check(self) -> None:
        """See whether it may go on; leave if it has to."""
        if self.is_done or not self._must_end():
            return
        self._leave_if_over()
        self._soon()

    def _leave_if_over(self) -> None:
        with self._lock:
            until = self._tenancy.until if self._tenancy.is_granted else math.inf
        if self._clock() >= until + self.order.grace:
            self._has_left = True
            self._leave()

    def is_forgotten(self) -> bool:
        """Whether there is nothing to be done for it any more."""
        with self._lock:
            tenancy = self._tenancy
            if not tenancy.is_granted or self._has_left:
                return self._has_left or self._must_end()
            is_heard = not tenancy.has_news or self._clock() >= tenancy.until
            return self.is_done and is_heard

    def _must_end(self) -> bool:
        with self._lock:
            tenancy = self._tenancy
            until = tenancy.until if tenancy.is_granted else self._began_at + self.order.lease
            return tenancy.is_refused or self._clock() >= until

    def _add(self, message: News) -> None:
        with self._lock:
            self._tenancy.add(message, self._clock())
        self._on_news()

    def _log(self, message: Log) -> None:
        if message.level >= self.order.log_level:
            self._add(replace(message, node=self._node))

    def _stack(self) -> str:
        child = self._child
        with suppress(Exception):  # it may change meanwhile
            return child.stack() if child is not None and not self.is_done else ""
        return ""

    def _is_silent(self) -> bool:
        """Whether its own loop should have noticed that the heartbeat is overdue, and has not."""
        child, root = self._child, self._root
        if child is None or root is None or self.is_done:
            return False
        by = child.info().heartbeat_by
        return by is not None and clock_of(root).current_time() > by + LATE

    def _soon(self) -> None:
        token = self._token
        if token is not None:
            with suppress(trio.RunFinishedError):
                token.run_sync_soon(self._tend, idempotent=True)

    # In the loop

    def _tend(self) -> None:
        """Do what is wished for.

        A process that was paused may come here before `check` does: what has no right to run any
        more is not cancelled then, since its clean-up would run without that right.
        """
        if not self.is_done:
            self._leave_if_over()
        is_unwanted = self._must_end() or self._tenancy.wish == "kill"
        if is_unwanted and self._root is not None and not self._is_aborted:
            self._is_aborted = True
            self._root.abort()
        self._changed.unpark_all()

    def die(self) -> None:
        """End it without regard to what it wants: its process is gone."""
        self._has_left = True
        if self._root is not None:
            self._root.abort()

    async def run(self) -> None:
        """Wait for the right to run, and run it to its end. Cancelling it ends the child."""
        FENCE.set(self.order.fence)
        REPORT.set(self._log)
        self._token = trio.lowlevel.current_trio_token()
        while not self._tenancy.is_granted:
            if self.is_forgotten():
                return
            await self._changed.park()
        guest = Guest(self.order)
        with traced_through(guest):
            done = await self._result()
        self._add(replace(done, incident=guest.incident))
        self.is_done = True
        self._on_news()

    async def _result(self) -> Done:
        try:
            start, args = work_of(self.order, self._node)
            child = Child(
                self.order.key,
                start,
                *args,
                restart="temporary",
                # it is the other side that counts
                shutdown=math.inf,
                heartbeat=self.order.heartbeat,
            )
            async with open_system([], name=self.order.key) as root:
                self._root = root
                done = await self._live(root, child)
        except trio.Cancelled:
            raise
        except BaseException as exception:
            done = raised(exception, self._node)
        return done

    async def _live(self, root: SystemHandle, child: Child[Any]) -> Done:
        done = Done("aborted", node=self._node)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._stop_when_asked, root)
            try:
                done = await self._follow(root, child)
            except (Interrupted, SupervisorStopped):
                pass
            except ChildFailure as failure:
                done = raised(failure.__cause__ or failure, self._node)
            except Exception as exception:
                done = raised(exception, self._node)
            nursery.cancel_scope.cancel()
        return done

    async def _follow(self, root: SystemHandle, child: Child[Any]) -> Done:
        with in_trace_of(self.order):
            handle = await root.start_child(child)
        self._child = handle
        if handle.status == "ignored":
            raise Ignore(f"{self.order.path!r} is left out")
        value = None if is_subtree(child.start) else handle.value
        self._add(Started(pickled("the started value", value), self._node))
        return self._end_of(await handle.wait())

    def _end_of(self, report: TerminationReport) -> Done:
        match report.reason:
            case Normal(value):
                return Done("returned", pickled("the value", value), self._node)
            case Failed(exception):
                return raised(exception, self._node)
            case Aborted():
                return Done("aborted", node=self._node)

    async def _stop_when_asked(self, root: SystemHandle) -> None:
        while self._tenancy.wish == "run" and not self._must_end():
            await self._changed.park()
        self._tend()
        await root.stop()
