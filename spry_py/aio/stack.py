"""Where a task of asyncio stands, and those that it awaits, as text."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Collection, Iterator
from types import FrameType
from typing import Any, cast

from spry_py.lowlevel import is_own


def stack_of_task(task: asyncio.Task[Any]) -> str:
    """The lines of a traceback, the innermost frame last; those of awaited tasks follow.

    The user's frames alone, and in one line the call of asyncio that they wait in.
    """
    parts: list[str] = []
    seen: set[asyncio.Future[Any]] = {task}
    pending = [task]
    while pending:
        one = pending.pop(0)
        parts.append(f"  in its task {one.get_name()}:\n")
        frames = list(_frames_of(one.get_coro()))
        parts.extend(_lines(frames))
        for other in _awaited_in(one, frames):
            if other not in seen:
                seen.add(other)
                pending.append(other)
    return "".join(parts)


def _frames_of(awaitable: Any) -> Iterator[tuple[FrameType, int]]:
    while awaitable is not None:
        frame = getattr(awaitable, "cr_frame", None) or getattr(awaitable, "gi_frame", None)
        if frame is not None:
            yield frame, frame.f_lineno
        awaitable = getattr(awaitable, "cr_await", None) or getattr(awaitable, "gi_yieldfrom", None)


def _lines(frames: list[tuple[FrameType, int]]) -> list[str]:
    theirs = [pair for pair in frames if not is_own(pair[0].f_code)]
    users = [pair for pair in theirs if not _is_asyncios(pair[0])]
    lines = traceback.StackSummary.extract(users).format()
    waits = theirs[theirs.index(users[-1]) + 1 :] if users else theirs
    lines.extend(f"  waiting in asyncio: {frame.f_code.co_qualname}\n" for frame, _ in waits[:1])
    return lines


def _is_asyncios(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0] == "asyncio"


def _awaited_in(
    task: asyncio.Task[Any], frames: list[tuple[FrameType, int]]
) -> Iterator[asyncio.Task[Any]]:
    """The tasks that one waits for: itself, in a `asyncio.gather`, or in a group."""
    waits_for = [getattr(task, "_fut_waiter", None)]
    for frame, _ in frames:
        found = frame.f_locals.values()
        groups = (one for one in found if isinstance(one, asyncio.TaskGroup))
        waits_for.extend(found if _is_asyncios(frame) else groups)
    for one in waits_for:
        for other in (one, *_members_of(one)):
            if isinstance(other, asyncio.Task) and not other.done():
                yield other


def _members_of(one: object) -> list[object]:
    """What is in a set of tasks, in a group of them, or behind a `asyncio.gather`."""
    if isinstance(one, asyncio.TaskGroup):
        one = getattr(one, "_tasks", ())
    elif isinstance(one, asyncio.Future):
        one = getattr(one, "_children", ())  # pyright: ignore[reportUnknownArgumentType]
    return list(_collection(one))


def _collection(one: object) -> Collection[object]:
    is_one = isinstance(one, set | frozenset | list | tuple)
    return cast("Collection[object]", one) if is_one else ()
