"""Who is alive: processes, and what else the one that runs the tests could leave behind."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import trio

FOREVER = 600.0
SOON = 5.0


def is_alive(pid: int) -> bool:
    """Whether there is such a process; a zombie is one."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def is_running(pid: int) -> bool:
    """Whether it is more than a zombie, which whoever inherits it may leave for a while."""
    return state_of(pid) not in "ZX"


def state_of(pid: int) -> str:
    """The letter of Linux for what it does; X if there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return "X"
    return stat.rpartition(")")[2].split()[0]


async def gone(*pids: int) -> None:
    """Wait, but not for long, until they have ended."""
    with trio.fail_after(SOON):
        while any(is_running(pid) for pid in pids):
            await trio.sleep(0.01)


class Holdings:
    """What this process holds that others could run out of."""

    def __init__(self) -> None:
        self.fds = sorted(os.listdir("/proc/self/fd"))
        self.threads = threading.active_count()
        self.tasks = trio.lowlevel.current_statistics().tasks_living
        self.children = children_of(os.getpid())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Holdings) and vars(self) == vars(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return repr(vars(self))


def children_of(pid: int) -> list[int]:
    """Zombies among them."""
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return sorted(int(child) for task in tasks for child in task.read_text().split())
