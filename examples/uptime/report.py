"""Report: the table of availability, on stdout."""

import time
from typing import Protocol

import trio

from spry_py import cancel_on_settle

from .store import StoreFailed, Tally
from .targets import Target

HEADINGS = ("target", "state", "checks", "available", "last error")


class Tallies(Protocol):
    """The part of the store that the report uses."""

    async def tallies(self) -> dict[str, Tally]: ...


async def keep_reporting(store: Tallies, targets: list[Target], every: float) -> None:
    """Print the table every `every` seconds, and once more when asked to finish."""
    with cancel_on_settle():
        while True:
            await trio.sleep(every)
            show(table(targets, await store.tallies()), "availability")
    try:
        show(table(targets, await store.tallies()), "availability at the end")
    except StoreFailed as error:
        # Asked to finish because the store has gone: there is no table, and that is no crash.
        show([str(error)], "no table at the end")


def show(lines: list[str], title: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {title}", *lines, sep="\n  ", flush=True)


def table(targets: list[Target], tallies: dict[str, Tally]) -> list[str]:
    """The lines of the table, one per target, below the headings."""
    rows = [HEADINGS, *(row(target.name, tallies.get(target.name)) for target in targets)]
    widths = [max(len(cells[column]) for cells in rows) for column in range(len(HEADINGS))]
    return [line(cells, widths) for cells in rows]


def row(name: str, tally: Tally | None) -> tuple[str, str, str, str, str]:
    if tally is None:
        return (name, "unknown", "0", "", "")
    state = "up" if tally.up else "down"
    available = f"{100.0 * tally.ups / tally.checks:.1f} %"
    return (name, state, str(tally.checks), available, tally.last_error or "")


def line(cells: tuple[str, ...], widths: list[int]) -> str:
    name, state, checks, available, last_error = map(str.ljust, cells, widths)
    numbers = f"{checks.strip():>{widths[2]}}  {available.strip():>{widths[3]}}"
    return f"{name}  {state}  {numbers}  {last_error}".rstrip()
