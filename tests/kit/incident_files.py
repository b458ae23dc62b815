"""Files of spans as a traced program leaves them, made on virtual time, and what they tell."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
import trio

from spans import Recorder, id_of, play, recording
from spry_py import SpryError, SystemSupervisor, current_context, open_system
from spry_py._incidents.model import Story, stories_of
from spry_py._incidents.prose import page
from spry_py._incidents.reading import read_spans

# 2026-03-01 12:00:00 UTC
NOON = 1_772_366_400_000_000_000

# Children


def lasts(*ages: float, takes: float = 0.0, error: str = "boom") -> Callable[..., Awaitable[None]]:
    """A child that takes so long to start, and fails at these ages; the run after these stays."""
    ahead = list(ages)

    async def worker(*, task_status: trio.TaskStatus[None]) -> None:
        age = ahead.pop(0) if ahead else 1e9
        await trio.sleep(takes)
        task_status.started()
        await trio.sleep(age)
        raise ValueError(error)

    return worker


def starts(*errors: str | None, takes: float = 0.0) -> Callable[..., Awaitable[None]]:
    """A child whose starts fail like this; `None` stands for a run that fails after a second."""
    ahead = list(errors)

    async def worker(*, task_status: trio.TaskStatus[None]) -> None:
        await trio.sleep(takes)
        error = ahead.pop(0) if ahead else ""
        if error:
            raise OSError(error)
        task_status.started()
        await trio.sleep(1.0 if error is None else 1e9)
        error = "boom"
        raise ValueError(error)

    return worker


def steady(takes: float = 0.0, stops: float = 0.0) -> Callable[..., Awaitable[None]]:
    """A child that never fails: how long it takes to start, and to settle."""

    async def worker(*, task_status: trio.TaskStatus[None]) -> None:
        await trio.sleep(takes)
        task_status.started()
        await current_context().settled()
        await trio.sleep(stops)

    return worker


async def shields(seconds: float) -> None:
    """A child that does not let itself be cancelled for so long."""
    try:
        await trio.sleep_forever()
    finally:
        with trio.CancelScope(shield=True):
            await trio.sleep(seconds)


# Files


@contextmanager
def virtual_stamps() -> Iterator[None]:
    """Spans carry the time of trio's clock; each reading is a microsecond after the one before."""
    readings = 0

    def time_ns() -> int:
        nonlocal readings
        readings += 1
        return NOON + round(trio.current_time() * 1e6) * 1000 + readings * 1000

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("opentelemetry.sdk.trace.time_ns", time_ns)
        yield


def lines_of(spans: Recorder) -> list[str]:
    """The spans as they would stand in a file: in the order in which they ended."""
    by_id = {id_of(span): span for span in spans.begun}
    return [by_id[number].to_json(indent=None) for number in spans.ended]


def traced(story: Callable[[], Any]) -> list[str]:
    """Plays a story, in which the tree may fail, and returns the lines of its file."""

    async def tolerant() -> None:
        with suppress(SpryError, KeyboardInterrupt):
            await story()

    with virtual_stamps(), recording() as spans:
        play(tolerant)
    return lines_of(spans)


def life_of(tree: SystemSupervisor, until: float = 30.0) -> list[str]:
    """The file of a tree that is stopped in order after `until` seconds, if it lives so long."""

    async def story() -> None:
        async with open_system(tree):
            await trio.sleep(until)

    return traced(story)


def changed(line: str, **fields: Any) -> str:
    """The line with some of its fields replaced; `...` leaves one out."""
    span = {**json.loads(line), **fields}
    return json.dumps({name: value for name, value in span.items() if value is not ...})


# What they tell


def stories(lines: Iterable[str]) -> list[Story]:
    return stories_of(read_spans(lines).spans)


def told(lines: Iterable[str], width: int = 80, whole: bool = False) -> str:
    """The whole page, on which every traceback comes from line 1 of shop.py."""
    reading = read_spans(lines)
    text = "\n".join(page(stories_of(reading.spans), reading.count, width, whole))
    text = re.sub(r'(File ")[^"]*(", line )\d+', r"\1shop.py\g<2>1", text)
    return re.sub(r"\(\w+\.py,(\s+)line \d+\)", r"(shop.py,\1line 1)", text)


WHERE_WORKERS_RAISE = """\
    File "shop.py", line 1, in worker
      raise ValueError(error)
"""


def sheet(text: str) -> str:
    """A page as it is written in a test, between empty first and last lines.

    `⋯` before an error stands for the traceback that all workers of these files share.
    """
    return text.strip("\n").replace("  ⋯ ", f"{WHERE_WORKERS_RAISE}  ")
