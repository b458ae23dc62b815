"""What it costs a program to write to a child's log instead of into ``/dev/null``.

Far more lines than can be logged: what counts is that the program is not held up.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from functools import partial

from spry_py import DynamicSupervisor, open_system
from spry_py.processes import command

from .harness import Options, Row, clock, compared, in_turn

BYTES = 40_000_000


async def flooding(target: str) -> float:
    """Seconds from the start of the program to its end."""
    flood = command("sh", "-c", f"yes | head -c {BYTES}{target}")
    async with open_system(DynamicSupervisor()) as pool:
        began = clock()
        await pool.run(flood)
        return clock() - began


def rows(options: Options) -> Iterator[Row]:
    sides: list[Callable[[], Awaitable[float]]] = [
        partial(flooding, ""),
        partial(flooding, " > /dev/null"),
    ]
    ours, null = in_turn(options.rounds, *sides)
    note = f"{BYTES:,} bytes in lines of two, each side a command; bare writes into /dev/null"
    yield compared("flood", ours, null, count=1, target=3.0, note=note)
