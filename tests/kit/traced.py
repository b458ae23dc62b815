"""Children with a fixed fate, and trees whose whole life is traced."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio

from spans import Recorder, play, recording
from spry_py import Child, SystemSupervisor, open_system

BEFORE_STARTED = -1.0
Run = tuple[float, BaseException | None]


def lives(*runs: Run) -> Callable[..., Awaitable[None]]:
    """A child whose first runs end at these ages, with these exceptions; the next one stays."""
    ahead = list(runs)

    async def live(*, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        age, error = ahead.pop(0) if ahead else (1e9, None)
        if age != BEFORE_STARTED:
            task_status.started()
            await trio.sleep(age)
        if error is not None:
            raise error

    return live


async def idle() -> None:
    await trio.sleep_forever()


def crash(age: float = 1.0) -> Run:
    return age, ValueError("boom")


def supervisor(
    *children: Child[Any], strategy: Any = "one_for_one", **options: Any
) -> SystemSupervisor:
    return SystemSupervisor(list(children), strategy=strategy, **options)


def shop(*children: Child[Any], **options: Any) -> SystemSupervisor:
    return supervisor(*children, name="shop", **options)


def tell(tree: SystemSupervisor, until: float = 10.0) -> Recorder:
    """Runs the tree for `until` virtual seconds, stops it in order, and returns what was traced."""

    async def story() -> None:
        async with open_system(tree):
            await trio.sleep(until)

    with recording() as spans:
        play(story)
    return spans


def fails(tree: SystemSupervisor, error: type[BaseException]) -> Recorder:
    with recording() as spans, pytest.raises(error):
        play(lambda: forever(tree))
    return spans


async def forever(tree: SystemSupervisor) -> None:
    async with open_system(tree):
        await trio.sleep_forever()


def told(error: BaseException | None) -> str:
    """How OpenTelemetry names an exception: with its module, unless it is a builtin."""
    kind = type(error)
    prefix = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
    return f"{prefix}{kind.__qualname__}: {error}"
