"""`crash`: a child fails from outside, by its whole path."""

from __future__ import annotations

from typing import Any

import pytest
import tenacity
import trio

from spry_py import Child, ChildNotFound, SystemSupervisor
from spry_py.events import ChildStarted, ChildTerminated
from spry_py.testing import Script, crash, started
from stories import story

STEADY = ["start", "wait"]


def tree() -> list[Child[Any]]:
    inner = SystemSupervisor([Child("a", Script(STEADY)), Child("b", Script(STEADY))])
    return [Child("db", Script(STEADY), backoff=tenacity.wait_fixed(2)), Child("inner", inner)]


@story
async def test_a_child_fails_with_that_very_exception() -> None:
    error = OSError("gone")
    async with started(tree(), name="app", strategy="one_for_one") as (handle, record):
        crash(handle, "app/db", error)
        ended = await record.wait_for(ChildTerminated, "app/db")
        assert ended.report.exception is error
        assert ended.report.burden == "none"
        await record.wait_for(ChildStarted, "app/db", count=2)


@story
async def test_children_of_subsystems_and_subsystems_crash_as_well() -> None:
    async with started(tree(), name="app", strategy="one_for_one") as (handle, record):
        crash(handle, "app/inner/b", OSError("gone"))
        await record.wait_for(ChildStarted, "app/inner/b", count=2)
        crash(handle.system("inner"), "app/inner/a", OSError("gone"))
        await record.wait_for(ChildStarted, "app/inner/a", count=3)
        crash(handle, "app/inner", OSError("all of it"))
        await record.wait_for(ChildStarted, "app/inner", count=2)
    assert [line for line in record.lines(ChildTerminated) if "OSError" in line] == [
        "0.00 app/inner/b ChildTerminated failed OSError",
        "0.00 app/inner/a ChildTerminated failed OSError",
        "0.00 app/inner ChildTerminated failed OSError",
    ]


@story
async def test_one_that_is_not_alive_cannot_crash() -> None:
    async with started(tree(), name="app", strategy="one_for_one") as (handle, record):
        crash(handle, "app/db", OSError("gone"))
        await record.wait_for(ChildTerminated, "app/db")
        await trio.sleep(1)
        with pytest.raises(RuntimeError, match="'app/db' is restarting: there is nothing that"):
            crash(handle, "app/db", OSError("gone"))
        await handle.terminate_child("db")
        with pytest.raises(RuntimeError, match="'app/db' is stopped"):
            crash(handle, "app/db", OSError("gone"))


@story
async def test_bad_crashes_are_refused() -> None:
    async with started(tree(), name="app") as (handle, record):
        with pytest.raises(ChildNotFound, match="'app' has no child 'cache'; it has db, inner"):
            crash(handle, "app/cache", OSError("gone"))
        with pytest.raises(TypeError, match="takes an exception"):
            crash(handle, "app/db", OSError)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="takes an exception"):
            crash(handle, "app/db", KeyboardInterrupt())  # type: ignore[arg-type]
        await record.expect_silence(1)
