"""What runs under callgrind: works of one group, each for few and for many children.

``python -m benchmarks.counted GROUP WORK ...`` calls the C function ``getppid`` wherever a work
reads the clock. There, callgrind writes down what it has counted since the last such call. Printed
are, for each work and count of children, the first and the last of these calls, by their number.
"""

from __future__ import annotations

import gc
import logging
import os
import sys
from collections.abc import Awaitable, Callable, Sequence
from functools import cache, partial
from typing import Final, TypeAlias

import trio

from . import boot, by_hand, calls, events, restart, start, stop, telemetry
from .harness import Dropping, use_clock

Work: TypeAlias = Callable[[int], Awaitable[float]]

FEW, MANY = 100, 500
# The C function; what runs here calls it nowhere else.
MARK: Final = "getppid"
# with no handler at all, warnings would go to stderr
NOWHERE: Final = logging.NullHandler()


class Marks:
    """A clock that marks each of its readings, and returns their number."""

    def __init__(self) -> None:
        self.made = 0

    def __call__(self) -> float:
        self.made += 1
        os.getppid()
        return self.made


def set_level(level: int) -> None:
    logger = logging.getLogger("spry_py")
    logger.addHandler(NOWHERE)
    logger.propagate = False
    logger.setLevel(level)


async def with_logs(count: int) -> float:
    """With the level that ``logging`` has by default, and no handler that takes a record."""
    set_level(logging.WARNING)
    seconds = await restart.supervised(count)
    set_level(logging.CRITICAL + 1)
    return seconds


async def with_records(count: int) -> float:
    """The same with a handler that takes the records."""
    handler = Dropping()
    logging.getLogger("spry_py").addHandler(handler)
    seconds = await with_logs(count)
    logging.getLogger("spry_py").removeHandler(handler)
    return seconds


# Providers can be set once in a process.
set_traces = cache(telemetry.traces)
set_all_signals = cache(telemetry.all_signals)


async def with_traces(count: int) -> float:
    return await telemetry.supervised(count, set_traces())


async def with_all_signals(count: int) -> float:
    return await telemetry.supervised(count, set_all_signals())


async def all_by_hand(count: int) -> float:
    return await by_hand.emitted(count, set_all_signals())


# Each group runs in a process of its own.
GROUPS: Final[dict[str, dict[str, Work]]] = {
    "no providers": {
        "bare start": start.bare,
        "scope.start": start.supervised,
        "boot": boot.supervised,
        "bare stop": stop.bare,
        "stop": stop.supervised,
        "bare cycle": restart.bare_cycle,
        "restart": restart.supervised,
        "restart with logs": with_logs,
        "restart with records": with_records,
        "restart without events": partial(events.silently, restart.supervised),
        "start_child": calls.started,
        "bare start and end": calls.bare_started_and_ended,
        "start and end": calls.started_and_ended,
    },
    "traces": {"restart with traces": with_traces},
    "all signals": {
        "restart with all signals": with_all_signals,
        "bare cycle with all signals": all_by_hand,
    },
}


def main(group: str, wanted: Sequence[str]) -> None:
    marks = Marks()
    use_clock(marks)
    gc.disable()
    set_level(logging.CRITICAL + 1)
    for name in wanted:
        work = GROUPS[group][name]
        trio.run(work, FEW)  # until caches are full and bytecode is specialised
        for count in (FEW, MANY):
            gc.collect()
            trio._core._run._r.seed(0)
            first = marks.made + 1
            trio.run(work, count)
            print(name, count, first, marks.made, sep="\t")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
