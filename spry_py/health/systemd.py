"""What a service manager hears of a tree: systemd's protocol ``sd_notify``, from its manual page.

A datagram of lines ``NAME=value`` to the socket that ``NOTIFY_SOCKET`` names. Nothing is ever
waited for: what the other side does not take now is sent again with the next news.
"""

from __future__ import annotations

import logging
import math
import os
import socket
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import suppress
from typing import Final

import trio

from spry_py import ChildInfo, ChildNotFound, SupervisorStopped, SystemHandle
from spry_py.events import Event
from spry_py.lowlevel import log

from .health import Health

SOCKET: Final = "NOTIFY_SOCKET"
# seconds between two looks at a tree in which something happens, and at one that is only degraded
PAUSE: Final = 1.0
LONG_PAUSE: Final = 10.0
# seconds from the first of some facts to a look at what has come of them
MOMENT: Final = 0.05
# a look takes no more than this part of the time
SHARE: Final = 0.05
LONGEST_STATUS: Final = 500


class Manager:
    """The service manager of this process, and the socket that it listens at."""

    def __init__(self, variables: Mapping[str, str], path: str) -> None:
        self._where = variables.get(SOCKET, "")
        self._path = path
        self._has_complained = False
        self.watchdog: float = _watchdog_of(variables)
        self._socket: socket.socket | None = None
        if self._where[:1] in ("/", "@") and len(self._where) > 1:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._socket.setblocking(False)
        elif self._where:
            self._complain("it is neither a path nor begins with @")

    @property
    def is_there(self) -> bool:
        """Whether there is anything to send to."""
        return self._socket is not None

    def send(self, lines: list[str]) -> bool:
        """Whether the lines have got out; if not, a warning has said so once."""
        if self._socket is None:
            return True
        address = f"\0{self._where[1:]}" if self._where[0] == "@" else self._where
        try:
            self._socket.sendto("\n".join(lines).encode(errors="replace"), address)
        except OSError as error:
            self._complain(error.strerror or str(error))
            return False
        return True

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()

    def _complain(self, why: str) -> None:
        if not self._has_complained:
            self._has_complained = True
            text = f"the service manager at NOTIFY_SOCKET={self._where} cannot be notified: {why}"
            log(self._path, logging.WARNING, text)


def _watchdog_of(variables: Mapping[str, str]) -> float:
    """How many seconds there may be between two signs of life; ``inf`` if none is waited for."""
    if variables.get("WATCHDOG_PID") not in (None, "", str(os.getpid())):
        return math.inf
    text = variables.get("WATCHDOG_USEC", "")
    micros = int(text) if text.isascii() and text.isdigit() else 0
    return micros / 1e6 if micros else math.inf


class Notifier:
    """Reports to a manager how a tree is, from its boot to its end."""

    def __init__(self, health: Health, manager: Manager) -> None:
        self._health = health
        self._root = health.root
        self._manager = manager
        # what the manager knows
        self._knows = ""
        self._status: str = ""
        # it reloads, or is about to stop and goes on until then
        self._reloads = False
        self._leaves_until = -math.inf
        self._leaves = False
        # since when each start with a limit has been seen under way
        self._begun: dict[tuple[str, int], float] = {}
        # what `nudge` ends, and whether it has been called since the last look
        self._rest = trio.CancelScope()
        self._is_nudged = False

    async def run(self) -> None:
        """Report until the root has ended; `close` sends what is left."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._bark)
            nursery.start_soon(self._await_start)
            nursery.start_soon(self._follow)
            await self._root.wait()
            nursery.cancel_scope.cancel()

    async def _follow(self) -> None:
        async with self._root.events(1) as events:
            while True:
                await self._wait(events, self.report())

    def close(self) -> None:
        """Send how it is at last."""
        self.report()
        self._manager.close()

    def leave(self, until: float) -> None:
        """It is about to stop, at ``until`` on trio's clock."""
        self._leaves, self._leaves_until = True, until
        self.nudge()

    def reloading(self) -> None:
        """It is about to change while it runs."""
        micros = time.monotonic_ns() // 1000
        self._manager.send(["RELOADING=1", f"MONOTONIC_USEC={micros}"])
        self._reloads, self._knows = True, ""
        self.nudge()

    def reloaded(self) -> None:
        """It is what it is now, whether that went well or not."""
        self._reloads = False
        self.report()

    def nudge(self) -> None:
        """Something has happened that does not wait for the next look."""
        self._is_nudged = True
        self._rest.cancel()

    def report(self) -> float:
        """Send what has changed; returns after how many seconds it is to be looked at again."""
        began = time.perf_counter()
        info, now = self._root.info(), trio.current_time()
        lines: list[str] = []
        knows = self._state_of(info)
        if knows != self._knows and knows:
            lines.append(knows)
        status, pause = self._words(knows)
        if status != self._status:
            lines.append(f"STATUS={status}")
        left = self._time_left(info, now)
        if 0 < left < math.inf:
            lines.append(f"EXTEND_TIMEOUT_USEC={math.ceil(left * 1e6)}")
        if lines and not self._manager.send(lines):
            return PAUSE
        self._knows, self._status = knows or self._knows, status
        return max(pause, (time.perf_counter() - began) / SHARE)

    # What there is to report

    def _state_of(self, info: ChildInfo) -> str:
        if self._leaves or info.status in ("stopping", "stopped", "done"):
            return "STOPPING=1"
        is_up = not self._reloads and self._health.started().ok
        return "READY=1" if is_up else ""

    def _words(self, state: str) -> tuple[str, float]:
        """What is wrong, or how many run; and for how long that may stay so."""
        wrong = self._health.ready().reasons
        if state != "READY=1":
            return _one_line(wrong or (self._health.summary(),)), PAUSE
        degraded = self._health.degraded().reasons
        pause = PAUSE if wrong else LONG_PAUSE if degraded else math.inf
        return _one_line((*wrong, *degraded) or (self._health.summary(),)), pause

    def _time_left(self, info: ChildInfo, now: float) -> float:
        """The longest that a start or a stop with a limit of its own may take from now on."""
        begun, self._begun = self._begun, {}
        left = self._leaves_until - now
        for child in _under_way(self._root, info, self._reloads):
            if child.shutdown_by is not None:
                left = max(left, child.shutdown_by - now)
            if child.status == "starting" and child.child.start_timeout < math.inf:
                key = child.path, child.incarnation
                self._begun[key] = since = begun.get(key, now)
                left = max(left, since + child.child.start_timeout - now)
        return left

    # When to report it

    async def _wait(self, events: AsyncIterator[Event], pause: float) -> None:
        """Wait for something new, but not less than a moment, and not longer than ``pause``."""
        with trio.CancelScope() as self._rest:
            if self._is_nudged:
                self._rest.cancel()
            await trio.sleep(PAUSE)
            with trio.move_on_after(pause - PAUSE):
                await anext(events, None)
                # one fact is rarely alone, and only all of them together are news
                await trio.sleep(MOMENT)
        self._is_nudged = False

    async def _await_start(self) -> None:
        with suppress(SupervisorStopped):
            await self._root.wait_started()
            self.nudge()

    async def _bark(self) -> None:
        seconds = self._manager.watchdog / 2
        while seconds < math.inf:
            self._manager.send(["WATCHDOG=1"])
            await trio.sleep(seconds)


def _under_way(root: SystemHandle, info: ChildInfo, reloads: bool) -> Iterator[ChildInfo]:
    """What starts or stops, from the root on; no more is looked at."""
    pending = [(root, info)]
    while pending:
        handle, own = pending.pop()
        if own.status not in ("starting", "stopping") and not (reloads and own is info):
            continue
        yield own
        for child in handle.which_children():
            if child.kind != "supervisor":
                yield child
                continue
            with suppress(ChildNotFound):
                pending.append((handle.system(child.key), child))


def _one_line(reasons: tuple[str, ...]) -> str:
    return " ".join("; ".join(reasons).split())[:LONGEST_STATUS]


def notifier_of(health: Health) -> Notifier | None:
    """What reports to the manager of this process; ``None`` if there is none to report to."""
    if not hasattr(socket, "AF_UNIX"):
        return None
    manager = Manager(os.environ, health.root.path)
    return Notifier(health, manager) if manager.is_there else None


async def notify_systemd(
    root: SystemHandle | Health,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Report to systemd how a tree is, until its root has ended or this is cancelled.

    ``READY=1`` once the whole tree is up, ``STATUS=`` with what is wrong or how many run,
    ``STOPPING=1``; ``WATCHDOG=1`` at half the interval that the unit sets, from the event loop, so
    that a blocked loop sends nothing; ``EXTEND_TIMEOUT_USEC=`` while a start or a stop that has a
    limit of its own (``start_timeout``, ``shutdown``) has time left. ``run`` does it by itself.

    Does nothing but wait where ``NOTIFY_SOCKET`` is not set. Trouble with the socket is logged
    once. Raises `RuntimeError` on Windows, which has neither systemd nor such sockets.
    """
    health = root if isinstance(root, Health) else Health(root)
    if not hasattr(socket, "AF_UNIX"):
        raise RuntimeError("notify_systemd: there are no such sockets here, and no systemd")
    notifier = notifier_of(health)
    task_status.started()
    if notifier is None:
        await health.root.wait()
        return
    try:
        await notifier.run()
    finally:
        notifier.close()
