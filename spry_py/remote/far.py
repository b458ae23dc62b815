"""The other side as a process: it carries out orders in threads of its own."""

from __future__ import annotations

import logging
import math
import os
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Final

import trio

from .alarm import Alarm
from .hold import Letter
from .messages import Report
from .order import Order
from .reporter import install
from .tenant import Tenant

# the exit status of a process that leaves since a lease is over
LEFT: Final = 75
# how long (seconds) an order is known after it has arrived, for one that comes late and twice
REMEMBERED: Final = 3600.0
# how often the leases are looked at, however long they are: a machine may have been suspended
LOOK_EVERY: Final = 1.0

log: Final = logging.getLogger("spry_py.remote")


def since_boot() -> float:
    """Seconds, with those in which the machine was suspended, where the system counts them."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)


def leave() -> None:
    """End this process at once: no clean-up of a child that has lost its right to run is wanted."""
    os._exit(LEFT)


class Far:
    """What an engine has in each process that it runs orders in.

    The engine carries letters: `deliver` takes what comes, `collect` returns what is to be sent;
    both may be called from any thread. Leases are watched by a thread of their own, by a clock that
    goes on while the machine is suspended, and by SIGALRM in case no thread can run. ``on_leave``
    is for tests.
    """

    def __init__(self, node: str, on_leave: Callable[[], object] = leave) -> None:
        self._node = node
        self._leave = on_leave
        # in a test this process must not end
        self._alarm = Alarm() if on_leave is leave else None
        self._reporter = install()
        # guards the tenants, and never waits for a tenant's own lock; notified of what is new
        self._news = threading.Condition()
        self._count = 0
        self._tenants: dict[str, Tenant] = {}
        # letters may come twice, and late
        self._known: dict[str, float] = {}
        self._is_closed = False
        self._tasks: trio.Nursery | None = None
        self._token: trio.lowlevel.TrioToken | None = None
        is_up = threading.Event()
        main = partial(self._guard, lambda: trio.run(self._main, is_up))
        self._loop = threading.Thread(target=main, name="spry_py remote", daemon=True)
        self._loop.start()
        is_up.wait()
        keep = partial(self._guard, self._keep)
        threading.Thread(target=keep, name="spry_py leases", daemon=True).start()

    def deliver(self, letters: Sequence[Letter]) -> None:
        """Take letters, in whatever order, once or more often."""
        for letter in letters:
            with self._news:
                if isinstance(letter, Order):
                    self._begin(letter)
                    continue
                tenant = self._tenants.get(letter.id)
            if tenant is not None:
                tenant.hear(letter)

    def collect(self, timeout: float) -> list[Report]:
        """The letters that are to be sent; waits for the first for ``timeout`` seconds."""
        over_at = since_boot() + timeout
        while True:
            count, tenants = self._look()
            reports = [report for it in tenants if (report := it.report()) is not None]
            now = since_boot()
            if reports or now >= over_at or self._is_closed:
                return reports
            due = min((it.due() for it in tenants), default=over_at)
            self._wait(min(due, over_at) - now, count)

    def close(self) -> None:
        """End all that runs here, and the threads."""
        with self._news:
            self._is_closed = True
            self._news.notify_all()
        if self._token is not None and self._tasks is not None:
            with suppress(trio.RunFinishedError):
                self._token.run_sync_soon(self._tasks.cancel_scope.cancel)
        self._loop.join()

    def _guard(self, work: Callable[[], object]) -> None:
        """Do what no other thread would miss, and nothing here can do without."""
        try:
            work()
        except BaseException:
            log.critical("this process leaves, since a thread of it has failed", exc_info=True)
            self._leave()

    async def _main(self, is_up: threading.Event) -> None:
        async with trio.open_nursery() as self._tasks:
            self._token = trio.lowlevel.current_trio_token()
            is_up.set()
            await trio.sleep_forever()

    def _begin(self, order: Order) -> None:
        """With the lock."""
        now = since_boot()
        if order.id in self._known or self._is_closed:
            return
        self._known = {id_: at for id_, at in self._known.items() if at > now}
        self._known[order.id] = now + REMEMBERED
        _lower(order.log_level)
        tenant = Tenant(order, self._node, since_boot, self._leave, self._wake)
        self._tenants[order.id] = tenant
        assert self._token is not None
        with suppress(trio.RunFinishedError):
            self._token.run_sync_soon(self._spawn, tenant)
        self._wake()

    def _spawn(self, tenant: Tenant) -> None:
        assert self._tasks is not None
        with suppress(RuntimeError):  # it closes
            self._tasks.start_soon(tenant.run)

    def _look(self) -> tuple[int, list[Tenant]]:
        with self._news:
            return self._count, list(self._tenants.values())

    def _wake(self) -> None:
        with self._news:
            self._count += 1
            self._news.notify_all()

    def _wait(self, seconds: float, count: int) -> None:
        """Until something is new since it was counted, at most so long."""
        with self._news:
            if seconds > 0 and self._count == count and not self._is_closed:
                self._news.wait(seconds)

    def _keep(self) -> None:
        """See to the leases."""
        while not self._is_closed:
            count, tenants = self._look()
            for tenant in tenants:
                tenant.check()
            self._forget([it for it in tenants if it.is_forgotten()])
            over_at = min((it.over_at() for it in tenants), default=math.inf)
            if self._alarm is not None:
                self._alarm.set(over_at - since_boot())
            at = min((it.check_at() for it in tenants), default=math.inf)
            self._wait(min(at - since_boot(), LOOK_EVERY), count)

    def _forget(self, tenants: list[Tenant]) -> None:
        with self._news:
            for tenant in tenants:
                self._tenants.pop(tenant.order.id, None)


def _lower(level: int) -> None:
    """Have this process make the log records that the program wants."""
    root = logging.getLogger()
    if level < root.level:
        root.setLevel(level)
