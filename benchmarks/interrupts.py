"""Ctrl-C at a random instant, against a bare nursery: how many programs hang?

Each program opens and leaves a tree (a nursery with two tasks) in a tight loop until a real SIGINT
strikes it. Even the bare one hangs now and then: trio's `start_soon` is no place for Ctrl-C when a
task calls it that is not protected. And either ends in a `TrioInternalError` ("other") if Ctrl-C
strikes between the call of ``__aexit__`` and the first step of what that returns: the instant is
the program's own, its block is left without an end, and the tasks inside outlive the main one.
About one in a thousand programs is struck there. What is reported here is not judged.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from typing import Final

import trio

from spry_py import Child, SystemSupervisor, open_system

from .harness import Options, Row

PATIENCE: Final = 3.0
ENDS: Final = ("bare", "in a group", "other", "hung")

TREE = SystemSupervisor([Child("a", trio.sleep_forever), Child("b", trio.sleep_forever)])


async def supervised() -> None:
    while True:
        async with open_system(TREE):
            pass


async def bare() -> None:
    while True:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            nursery.start_soon(trio.sleep_forever)
            await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()


def begun(program: Callable[[], Awaitable[None]]) -> int:
    """A process of its own that runs it; its status is the index of what came out."""
    if process := os.fork():
        return process
    status = ENDS.index("other")
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        trio.run(program)
    except KeyboardInterrupt:
        status = ENDS.index("bare")
    except BaseExceptionGroup:
        status = ENDS.index("in a group")
    finally:
        os._exit(status)


def outcome(process: int) -> str:
    """How it ended; killed if it is still there a while later."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            return ENDS[os.waitstatus_to_exitcode(status)]
        time.sleep(0.003)
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    return "hung"


def struck(program: Callable[[], Awaitable[None]], runs: int) -> str:
    outcomes = Counter[str]()
    for _ in range(runs):
        process = begun(program)
        time.sleep(0.03 + random.random() * 0.05)
        os.kill(process, signal.SIGINT)
        outcomes[outcome(process)] += 1
    return ", ".join(f"{count} {name}" for name, count in outcomes.most_common())


def rows(options: Options) -> Iterator[Row]:
    """A tenth as many programs of each kind as the other figures have children in a round."""
    runs = options.children // 10
    ours, theirs = struck(supervised, runs), struck(bare, runs)
    yield Row(f"Ctrl-C in {runs} programs", ours, theirs, "", note="reported, not judged")
