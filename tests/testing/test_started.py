"""`started`: a tree opened, recorded and stopped in order, and what fails its block."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import trio

from odd import Frozen
from spry_py import (
    Child,
    ChildFailure,
    DynamicSupervisor,
    Scope,
    SystemHandle,
    SystemSupervisor,
)
from spry_py.events import ChildAborted, ChildStarted, ChildStuck, ChildTerminated
from spry_py.testing import LiveRecord, Script, crash, started
from stories import story


async def shop(scope: Scope) -> None:
    await scope.start(Child("db", Script(["start", "wait"])))
    await scope.start(Child("api", Script(["start", "wait"])))


@story
async def test_a_system_is_opened_with_its_options_recorded_and_stopped_in_order() -> None:
    async with started(shop, name="app", strategy="one_for_one") as (handle, record):
        assert (type(handle), handle.path, handle.status) == (SystemHandle, "app", "running")
        assert record.handle is handle
        crash(handle, "app/db", OSError("gone"))
        await record.wait_for(ChildStarted, "app/db", count=2)
    assert handle.status == "stopped"
    assert record.lines(ChildTerminated) == [
        "0.00 app/db ChildTerminated failed OSError",
        "0.00 app/api ChildTerminated normal settling",
        "0.00 app/db ChildTerminated normal settling",
    ]


@story
async def test_a_supervisor_brings_its_own_options() -> None:
    async with started(SystemSupervisor(shop, name="mine")) as (handle, record):
        assert handle.path == "mine"
    async with started(DynamicSupervisor(name="pool")) as (pool, record):
        await pool.start_child(Child("a", Script(["start", "wait"])), on_conflict="ignore")
        await record.wait_for(ChildStarted, "pool/a")
    with pytest.raises(TypeError, match="options belong to a bare system"):
        started(SystemSupervisor(shop), name="x")  # type: ignore[arg-type]


def test_it_is_a_block() -> None:
    right = r"async with started\(\.\.\.\) as \(handle, record\)"
    with pytest.raises(TypeError, match=right), started(shop):  # type: ignore[attr-defined]
        pass


def test_outside_trio_it_says_so() -> None:
    with pytest.raises(RuntimeError, match="open_system needs trio"):
        started(shop).__aenter__().send(None)


# What fails the block


@pytest.mark.parametrize(
    ("steps", "fault"),
    [
        (
            ["start", "deaf"],
            "  5.00 app/a ChildAborted: it listens, and has outlived its shutdown",
        ),
        (
            ["start", "wait", OSError("no goodbye")],
            (
                "  0.00 app/a ChildTerminated failed OSError settling: it raised while it was "
                "being stopped: OSError: no goodbye"
            ),
        ),
    ],
)
def test_a_child_that_is_not_stopped_as_it_should_be_fails_the_block(
    steps: list[Any], fault: str
) -> None:
    @story
    async def play() -> None:
        with pytest.raises(AssertionError) as failure:
            async with started([Child("a", Script(steps))], name="app"):
                pass
        lines = str(failure.value).splitlines()
        assert lines[:3] == ["children were not stopped as they should be:", fault, "the tree:"]
        assert lines[3].startswith("  app/  [stopped]")
        assert str(failure.value).endswith("app SystemStopped")

    play()


@story
async def test_a_child_that_is_stuck_fails_the_block_once_it_has_ended() -> None:
    with pytest.raises(AssertionError, match="app/a ChildStuck: it goes on although") as failure:
        async with started([Child("a", Script(["start", "stuck"]))], name="app"):
            pass
    assert str(failure.value).count("it goes on although it was cancelled") == 3
    assert trio.current_time() == 10


@story
async def test_so_does_one_that_a_restart_has_swept_along() -> None:
    children = [Child("db", Script(["start", 1, OSError], ["start", "wait"]))]
    children += [Child("api", Script(["start", "deaf"], ["start", "wait"]), shutdown=2)]
    with pytest.raises(AssertionError, match=r"3\.00 app/api ChildAborted: it listens") as failure:
        async with started(children, name="app") as (_, record):
            await record.wait_for(ChildStarted, "app/api", count=2)
            assert trio.current_time() == 3
    assert str(failure.value).count("it listens") == 1


@story
async def test_a_fault_that_was_waited_for_is_none() -> None:
    children = [
        Child("deaf", Script(["start", "deaf"])),
        Child("stuck", Script(["start", "stuck"])),
        Child("sulky", Script(["start", "wait", OSError])),
    ]
    async with started(children, name="app") as (handle, record):
        for child in children:
            await handle.terminate_child(child.key)
        await record.wait_for(ChildAborted, "app/deaf")
        await record.wait_for(ChildStuck, "app/stuck", count=3)
        await record.wait_for(ChildTerminated, "app/sulky")


@story
async def test_heedless_children_and_those_that_finish_in_time_are_no_fault() -> None:
    children = [
        Child("heedless", Script(["start", 60])),
        Child("slow", Script(["start", "wait", 4.5])),
        Child("none", Script(["start", "wait", 4.5]), shutdown=0),
    ]
    async with started(children, name="app"):
        pass
    assert trio.current_time() == 4.5


@story
async def test_a_child_that_starts_while_it_is_stopped_is_no_fault() -> None:
    slow = Child("slow", Script(["start", 1, OSError], [60, "start", "wait"]))
    async with started([slow], name="app") as (_, record):
        await trio.sleep(2)
    assert record.lines(ChildTerminated)[1:] == ["2.00 app/slow ChildTerminated aborted"]


# What comes out


@pytest.mark.parametrize("make", [Frozen, KeyError, SystemExit, trio.TooSlowError])
def test_what_the_block_raises_passes_unchanged(make: Callable[[], BaseException]) -> None:
    error = make()

    @story
    async def play() -> None:
        with pytest.raises(type(error)) as failure:
            async with started([Child("a", Script(["start", "deaf"]))], name="app"):
                raise error
        assert failure.value is error
        assert trio.current_time() == 5

    play()


@story
async def test_a_tree_that_does_not_come_up_comes_out_as_it_is() -> None:
    children = [Child("a", Script(["start", "deaf"])), Child("b", Script([1, OSError("no")]))]
    with pytest.raises(ChildFailure, match="'app/b'") as failure:
        async with started(children, name="app"):
            raise AssertionError("it was started")
    assert str(failure.value.__cause__) == "no"


@story
async def test_a_cancelled_block_stops_the_tree_in_order_and_is_cancelled() -> None:
    record: LiveRecord | None = None
    with trio.move_on_after(3) as time:
        async with started(shop, name="app") as (_, record):
            await trio.sleep_forever()
    assert time.cancelled_caught
    assert record is not None
    assert record.lines(ChildTerminated) == [
        "3.00 app/api ChildTerminated normal settling",
        "3.00 app/db ChildTerminated normal settling",
    ]


@story
async def test_a_tree_cancelled_while_it_comes_up_lets_only_the_cancellation_out() -> None:
    with trio.move_on_after(3) as time:
        async with started([Child("a", Script([60, "start"]))], name="app"):
            raise AssertionError("it was started")
    assert time.cancelled_caught


@story
async def test_a_tree_may_end_before_its_block() -> None:
    async with started(shop, name="app") as (handle, record):
        await handle.stop()
        await trio.sleep(1)
    assert record.lines()[-1] == "0.00 app SystemStopped"


@story
async def test_a_child_may_open_a_tree_of_its_own() -> None:
    lines: list[str] = []

    async def host() -> None:
        async with started(shop, name="inner") as (handle, record):
            crash(handle, "inner/db", OSError("gone"))
            await record.wait_for(ChildStarted, "inner/api", count=2)
        lines.extend(record.lines(ChildStarted))

    child = Child("host", host, restart="temporary")
    async with started([child], name="outer", auto_shutdown="when_empty") as (outer, record):
        await outer.wait()
    assert lines == [
        "0.00 inner/db ChildStarted",
        "0.00 inner/api ChildStarted",
        "0.00 inner/db ChildStarted #2",
        "0.00 inner/api ChildStarted #2",
    ]
    assert record.lines(ChildTerminated) == ["0.00 outer/host ChildTerminated normal"]
