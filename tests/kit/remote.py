"""What runs on the other side in the tests of processes. Imports little, to be there soon."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from spry_py.processes import ProcessStatus

FOREVER = 600.0


class Torn(Exception):
    """An exception with two arguments."""

    def __init__(self, cloth: str, where: int) -> None:
        super().__init__(cloth, where)
        self.cloth = cloth
        self.where = where


class Local(Exception):
    """Cannot be brought over: it needs an argument that it does not keep."""

    def __init__(self, text: str, *, needed: int) -> None:
        super().__init__(text)


class Shy:
    """Survives the way out, not the way in."""

    def __reduce__(self) -> tuple[object, ...]:
        return blow_up_at_home, (os.getpid(),)


def blow_up_at_home(pid: int) -> str:
    if os.getpid() != pid:
        raise Torn("home", pid)
    return "still there"


def add(a: int, b: int) -> int:
    return a + b


async def fetch() -> int:
    return 1


def count() -> Iterator[int]:
    yield 1


async def acount() -> AsyncIterator[int]:
    yield 1


class Odd:
    """Can be called, and run only by somebody who awaits it."""

    async def __call__(self) -> int:
        return 1

    async def fetch(self) -> int:
        return 1


def tear(cloth: str, where: int) -> NoReturn:
    raise Torn(cloth, where)


def raise_local() -> NoReturn:
    raise Local("kept back", needed=1)


def give_lock() -> object:
    return threading.Lock()


def give_shy() -> Shy:
    return Shy()


def give_much(size: int) -> bytes:
    return b"x" * size


def leave(status: int) -> NoReturn:
    sys.exit(status)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def interrupt() -> NoReturn:
    raise KeyboardInterrupt


def serve(name: str, task_status: ProcessStatus) -> None:
    task_status.started({"name": name, "pid": os.getpid()})
    try:
        time.sleep(FOREVER)
    finally:
        print("closed", name)


def never_ready(task_status: ProcessStatus) -> None:
    print("pid", os.getpid())
    time.sleep(FOREVER)


def deaf(task_status: ProcessStatus) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    task_status.started()
    time.sleep(FOREVER)


def beat_once(task_status: ProcessStatus) -> None:
    task_status.started()
    task_status.heartbeat()
    time.sleep(FOREVER)


def with_grandchild(task_status: ProcessStatus) -> None:
    child = subprocess.Popen(["sleep", str(FOREVER)])
    task_status.started(child.pid)
    child.wait()


def where_am_i() -> dict[str, str]:
    from opentelemetry import baggage, trace  # noqa: PLC0415 - slow

    span = trace.get_current_span().get_span_context()
    return {
        "cwd": os.getcwd(),
        "trace": f"{span.trace_id:032x}",
        "span": f"{span.span_id:016x}",
        "baggage": str(baggage.get_baggage("who")),
        "variable": os.environ.get("TRACEPARENT", ""),
    }


def refuse(*cloth: str, task_status: ProcessStatus) -> None:
    if cloth:
        raise Torn(cloth[0], 0)
