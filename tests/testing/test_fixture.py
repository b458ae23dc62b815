"""The marker and the fixture ``spry``, in this very suite: what passes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from inspect import iscoroutinefunction
from pathlib import Path

import hypothesis
import pytest
import trio
import trio.lowlevel
from hypothesis import strategies as st
from trio.testing import MockClock

from odd import Frozen
from spans import recording
from spry_py import (
    AlwaysRestart,
    Child,
    ChildFailure,
    DynamicSupervisor,
    SystemHandle,
    TooManyRestarts,
    telemetry,
)
from spry_py.events import ChildStarted
from spry_py.testing import Script, Spry, crash, started
from spry_py.testing.under_pytest import Prepared, run

LIVED: list[SystemHandle] = []
ENDS: list[str] = []


def steady(*keys: str) -> list[Child[str]]:
    return [Child(key, Script(["start", "wait"])) for key in keys]


@pytest.mark.spry
async def test_it_runs_on_virtual_time() -> None:
    await trio.sleep(3600)
    assert trio.current_time() == 3600


@pytest.mark.spry
@pytest.mark.parametrize("number", [1, 2])
async def test_other_fixtures_work(
    number: int, tmp_path: Path, capsys: pytest.CaptureFixture[str], spry: Spry
) -> None:
    handle, record = await spry.start(steady("db"), name="app", breaker=AlwaysRestart())
    print("captured", number)
    assert capsys.readouterr().out == f"captured {number}\n"
    assert tmp_path.name
    crash(handle, "app/db", OSError("gone"))
    await record.wait_for(ChildStarted, "app/db", count=2)


class TestMethods:
    @pytest.mark.spry
    async def test_they_are_run_as_well(self, spry: Spry) -> None:
        pool, record = await spry.start(DynamicSupervisor(name="pool"))
        await pool.start_child(steady("a")[0])
        await record.wait_for(ChildStarted, "pool/a")


@pytest.mark.spry
async def test_trees_outlive_the_blocks_in_which_they_were_started(spry: Spry) -> None:
    with trio.fail_after(5):
        async with trio.open_nursery():
            first, _ = await spry.start(steady("a"), name="first")
        second, _ = await spry.start(steady("b"), name="second")
    await trio.sleep(10)
    assert (first.status, second.status) == ("running", "running")
    LIVED[:] = [first, second]


def test_and_have_ended_with_the_test() -> None:
    assert [handle.status for handle in LIVED] == ["stopped", "stopped"]


def end(key: str) -> Callable[[], None]:
    def note() -> None:
        ENDS.append(key)

    return note


@pytest.mark.spry
async def test_trees_are_stopped_in_reverse_order(spry: Spry) -> None:
    for key in "abc":
        await spry.start([Child(key, Script(["start", "wait", 1, end(key)]))])


def test_as_this_order_shows() -> None:
    assert ENDS == ["c", "b", "a"]


@pytest.mark.spry
async def test_a_start_that_is_cancelled_is_taken_back(spry: Spry) -> None:
    slow = Script([60, "start"])
    with trio.move_on_after(1):
        await spry.start([Child("a", slow)])
    await trio.sleep(1)
    assert slow.ran == [(0, "sleep 60"), (1, "aborted")]


@pytest.mark.spry
async def test_a_start_that_fails_may_be_caught(spry: Spry) -> None:
    with pytest.raises(ChildFailure, match="'app/a'"):
        await spry.start([Child("a", Script([OSError("no start")]))], name="app")
    handle, _ = await spry.start(steady("a"), name="app")
    assert handle.status == "running"


@pytest.mark.spry
async def test_a_tree_may_end_before_the_test(spry: Spry) -> None:
    handle, record = await spry.start(steady("a"), name="app")
    await handle.stop()
    await trio.sleep(1)
    assert record.lines()[-1] == "0.00 app SystemStopped"


@pytest.mark.spry
async def test_trees_may_be_started_from_nested_tasks(spry: Spry) -> None:
    async def start(name: str) -> None:
        await spry.start(steady("a"), name=name)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(start, "first")
        nursery.start_soon(start, "second")


@pytest.mark.spry
async def test_what_the_test_captures_is_left_to_it(spry: Spry) -> None:
    with telemetry.capture() as captured:
        await spry.start(steady("a"), name="app")
    assert [record.getMessage() for record in captured.logs] == ["app/a started", "app started"]


@pytest.mark.spry
async def test_so_is_what_the_application_exports(spry: Spry) -> None:
    with recording() as spans:
        handle, _ = await spry.start(steady("a"), name="app")
        await handle.stop()
    assert [span.name for span in spans.named("spry.startup")] == ["spry.startup"]


@pytest.mark.spry
@hypothesis.settings(max_examples=5)
@hypothesis.given(seconds=st.integers(1, 100))
async def test_each_example_of_hypothesis_is_a_run_of_its_own(seconds: int) -> None:
    async with started([Child("a", Script(["start", seconds, OSError]))]) as (_, record):
        await record.wait_for(ChildStarted, count=2, within=100)
        assert trio.current_time() == seconds


def test_what_a_test_raises_passes_unchanged() -> None:
    spry, error = Spry(), Frozen()

    async def fails() -> None:
        await spry.start(steady("a"), name="app")
        raise error

    with pytest.raises(Frozen) as failure:
        run(spry.around(fails))
    assert failure.value is error
    # whether incidents follow depends on the tests before: some export, once and for all
    assert [title for title, _ in spry.sections][:2] == ["spry tree", "spry record"]


@pytest.mark.spry
async def test_what_is_left_of_its_nursery_is_what_has_failed(spry: Spry) -> None:
    async def fail() -> None:
        raise OSError("gone")

    await spry.start(steady("a"))
    with pytest.RaisesGroup(OSError):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            nursery.start_soon(fail)


@pytest.mark.spry
def test_a_sync_test_is_left_alone() -> None:
    with pytest.raises(RuntimeError):
        trio.current_time()


# What other plugins run


class Item:
    """As much of a test as another plugin leaves to us."""

    def __init__(self, fixtures: dict[str, object], *markers: pytest.MarkDecorator) -> None:
        self.obj: object = calm
        self.funcargs = fixtures
        self.markers = {marker.name: marker.mark for marker in markers}

    def get_closest_marker(self, name: str) -> pytest.Mark | None:
        return self.markers.get(name)


async def calm() -> None:
    await trio.lowlevel.checkpoint()


def test_a_test_of_anyio_stays_as_it_is_but_for_its_trees() -> None:
    with Prepared(Item({"anyio_backend": "trio"}, pytest.mark.spry)) as item:
        assert item.obj is calm
    with Prepared(Item({"anyio_backend": "trio", "spry": Spry()}, pytest.mark.spry)) as item:
        assert iscoroutinefunction(item.obj)
        assert item.obj is not calm
    assert item.obj is calm


def test_a_clock_of_its_own_counts() -> None:
    clock = MockClock()
    clock.jump(7)

    async def time() -> float:
        return trio.current_time()

    assert run(time, clock=clock) == 7


def test_without_trio_a_test_runs_without_trees() -> None:
    spry = Spry()

    async def start() -> None:
        await spry.start(steady("a"))

    async def test() -> None:
        await spry.around(start)()

    with pytest.raises(RuntimeError, match=r"spry\.start is for async tests that trio runs"):
        asyncio.run(test())


# What fails


def test_a_tree_that_fails_cancels_the_test_and_comes_out_bare() -> None:
    spry = Spry()

    async def waits() -> None:
        await spry.start([Child("a", Script(["start", 1, OSError("gone")]))], name="app")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            nursery.start_soon(trio.sleep_forever)

    with pytest.raises(TooManyRestarts):
        run(spry.around(waits))
    assert spry.sections[1][1].endswith("4.00 app SystemStopped")


def test_what_its_nursery_makes_of_that_is_taken_apart() -> None:
    spry = Spry()

    async def grumble() -> None:
        try:
            await trio.sleep_forever()
        except trio.Cancelled:
            raise ValueError("cancelled") from None

    async def waits() -> None:
        await spry.start([Child("a", Script(["start", 1, OSError("gone")]))], name="app")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            nursery.start_soon(grumble)

    with pytest.RaisesGroup(pytest.RaisesGroup(ValueError), TooManyRestarts):
        run(spry.around(waits))
