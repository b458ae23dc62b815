"""What all figures share: two sides measured in turn in one process, medians, a row of the table.

A figure is a ratio to bare trio, because a ratio means the same on every machine. The sides
alternate round by round, and the ratio is the median of the ratios of neighbouring rounds: a
machine that gets busier half-way favours neither of them.
"""

from __future__ import annotations

import gc
import logging
import math
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

import trio

T = TypeVar("T")
Side: TypeAlias = Callable[[], Awaitable[T]]

_clock: Callable[[], float] = time.perf_counter


def clock() -> float:
    return _clock()


def count_cpu_time() -> None:
    """Leave out the time in which the machine does something else."""
    use_clock(time.process_time)


def use_clock(clock: Callable[[], float]) -> None:
    """Measure with another clock from now on."""
    global _clock  # noqa: PLW0603 - one process measures one way
    _clock = clock


def counts_cpu_time() -> bool:
    return _clock is time.process_time


class Crash(Exception):
    """What the children of these figures die of."""


class Dropping(logging.Handler):
    """Takes each record, so that it has to be made, and does nothing with it."""

    def emit(self, record: logging.LogRecord) -> None:
        pass


@dataclass(frozen=True, slots=True)
class Options:
    """How much to measure: rounds of each side, children (or restarts) in a round."""

    rounds: int
    children: int
    quick: bool


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table. ``ok`` is ``None`` where nothing is promised."""

    figure: str
    spry_py: str
    bare: str
    ratio: str
    target: str = ""
    ok: bool | None = None
    note: str = ""

    @property
    def verdict(self) -> str:
        return {True: "ok", False: "short", None: ""}[self.ok]


async def ready(*, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    """Signal readiness, then park: the child of most figures, on both sides."""
    task_status.started()
    await trio.sleep_forever()


async def parked() -> None:
    await trio.sleep_forever()


def in_turn(rounds: int, *sides: Side[T], warm_up: bool = True) -> list[list[T]]:
    """Run each side in a fresh ``trio.run``, A B A B ..., and return what each returned.

    A first round, in which caches fill and bytecode specialises, is thrown away.
    """
    results: list[list[T]] = [[] for _ in sides]
    for number in range(0 if warm_up else 1, rounds + 1):
        for side, kept in zip(sides, results, strict=True):
            gc.collect()
            result = trio.run(side)
            if number:
                kept.append(result)
    return results


def micros(seconds: float, count: int) -> str:
    return f"{seconds / count * 1e6:.1f} us"


def round_by_round(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    return [a / b for a, b in zip(ours, theirs, strict=True)]


def spread(ratios: Sequence[float]) -> str:
    """The middle half of the rounds: how far to trust the ratio."""
    if len(ratios) < 3:
        return ""
    first, _, third = statistics.quantiles(ratios, n=4)
    return f"half of the rounds {first:.2f} to {third:.2f}"


def compared(
    figure: str,
    spry_py: Sequence[float],
    bare: Sequence[float],
    *,
    count: int,
    target: float = math.inf,
    note: str = "",
) -> Row:
    """The row of two lists of seconds, each for ``count`` repetitions."""
    ratios = round_by_round(spry_py, bare)
    ratio = statistics.median(ratios)
    notes = (spread(ratios), note)
    return Row(
        figure,
        micros(statistics.median(spry_py), count),
        micros(statistics.median(bare), count),
        f"{ratio:.2f}",
        f"{target}" if target < math.inf else "",
        ratio <= target if target < math.inf else None,
        "; ".join(filter(None, notes)),
    )


def against(
    figure: str,
    options: Options,
    spry_py: Callable[[int], Awaitable[float]],
    bare: Callable[[int], Awaitable[float]],
    *,
    target: float = math.inf,
    note: str = "",
) -> Row:
    """Measure ``spry_py(count)`` against ``bare(count)``; each returns its seconds."""
    count = options.children
    ours, theirs = in_turn(options.rounds, lambda: spry_py(count), lambda: bare(count))
    return compared(figure, ours, theirs, count=count, target=target, note=note)


HEADER = ("figure", "spry_py", "bare", "ratio", "target", "ok/short")


def table(rows: Sequence[Row]) -> str:
    """The rows with aligned columns, each note on a line of its own below."""
    cells = [HEADER]
    cells += [(r.figure, r.spry_py, r.bare, r.ratio, r.target, r.verdict) for r in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    notes = ["-" * (sum(widths) + 2 * len(widths) - 2), *(row.note for row in rows)]
    lines: list[str] = []
    for line, note in zip(cells, notes, strict=True):
        first, *others = [
            cell.ljust(width) if index == 0 else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        lines.append("  ".join((first, *others)).rstrip())
        if note:
            lines.append(note if line is HEADER else f"    {note}")
    return "\n".join(lines)
