"""The boot of a list of children, against ``await nursery.start`` of each of them in turn."""

from __future__ import annotations

from collections.abc import Iterator

from spry_py import Child, open_system

from . import start
from .harness import Options, Row, against, clock, ready


async def supervised(count: int) -> float:
    began = clock()
    async with open_system([Child(f"child-{number}", ready) for number in range(count)]):
        return clock() - began


def rows(options: Options) -> Iterator[Row]:
    yield against("boot of a list", options, supervised, start.bare, target=0.7)
