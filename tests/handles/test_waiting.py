"""Waiting for starts and ends, and stopping a part of a tree."""

from __future__ import annotations

import pytest
import tenacity
import trio

from actors import STAYS, Actor, cast
from spry_py import (
    Child,
    ChildHandle,
    NeverRestart,
    Normal,
    RestartType,
    Scope,
    SupervisorStopped,
    SystemHandle,
    SystemSupervisor,
    cancel_on_settle,
    open_system,
)
from stories import Ledger, Record, story

TWO = tenacity.wait_fixed(2)


@story
async def test_wait_started_gives_the_value_at_once_or_once_it_is_there() -> None:
    record = Record()
    a = Actor(record, "a", [3, *STAYS])
    async with open_system([a.child(backoff=TWO)]) as tree:
        handle = tree.child("a")
        record(f"got {await handle.wait_started()}")
        a.die()
        await trio.sleep(1)
        record(f"got {await handle.wait_started()}")
    assert record.facts == [
        (0, "~a1"),
        (3, "+a1"),
        (3, "got a#1"),
        (3, "-a1"),
        (5, "~a2"),
        (8, "+a2"),
        (8, "got a#2"),
        (8, "-a2"),
    ]


@story
async def test_wait_lasts_over_restarts_until_the_end_for_good() -> None:
    record = Record()
    (a,) = cast(record, "a")

    async with trio.open_nursery() as nursery:

        async def waits(handle: ChildHandle) -> None:
            report = await handle.wait()
            record(f"ended for good: {report.incarnation} {report.burden}")

        async with open_system([a.child()]) as tree:
            nursery.start_soon(waits, tree.child("a"))
            await trio.sleep(1)
            a.die()
            await trio.sleep(1)
    assert record.facts == [
        (0, "+a1"),
        (1, "-a1"),
        (1, "+a2"),
        (2, "-a2"),
        (2, "ended for good: 2 aborted"),
    ]


@pytest.mark.parametrize("restart", ["transient", "temporary"])
@story
async def test_wait_ends_when_a_child_is_done(restart: str) -> None:
    record = Record()
    (a,) = cast(record, "a")
    async with open_system([a.child(restart=restart)]) as tree:
        handle = tree.child("a")
        await trio.sleep(1)
        a.stop("result")
        report = await handle.wait()
        assert (report.reason, trio.current_time()) == (Normal("result"), 1)
        assert await handle.wait() == report
        assert handle.status == ("done" if restart == "transient" else "stopped")


@story
async def test_wait_ends_at_the_latest_with_that_incarnation_of_its_supervisor() -> None:
    record = Record()
    a, b = cast(record, "ab")
    sub = Child("sub", SystemSupervisor([a.child(), b.child()], breaker=NeverRestart))
    async with open_system([sub]) as tree:
        handle = tree.find("sub/a")

        async def kill() -> None:
            await trio.sleep(1)
            b.die()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(kill)
            report = await handle.wait()
        assert (report.burden, report.ended_at) == ("aborted", 1)


@story
async def test_the_wait_of_a_system_lasts_over_its_incarnations() -> None:
    record = Record()
    a, b = cast(record, "ab")
    sub = Child("sub", SystemSupervisor([b.child()], breaker=NeverRestart))

    async with trio.open_nursery() as nursery:

        async def waits(handle: SystemHandle) -> None:
            report = await handle.wait()
            record(f"{report.path} ended for good: {report.incarnation}")

        async with open_system([a.child(), sub], name="top", strategy="one_for_one") as tree:
            nursery.start_soon(waits, tree.child("sub").value)
            b.die()
            await trio.sleep(1)
    assert record.order == "+a1 +b1 -b1 +b2 -b2 -a1 top/sub ended for good: 2" or (
        record.order == "+a1 +b1 -b1 +b2 -b2 top/sub ended for good: 2 -a1"
    )


@story
async def test_wait_started_gives_nothing_but_the_value_of_one_that_runs() -> None:
    """The child ends in the very tick in which somebody begins to wait for its start."""
    record = Record()
    values = set()
    for _ in range(40):
        (a,) = cast(record, "a")
        async with open_system([a.child()]) as tree:
            handle = tree.child("a")
            a.die()
            values.add(await handle.wait_started())
            assert (handle.status, handle.value) == ("running", handle.value)
    assert values <= {"a#1", "a#2"}


@story
async def test_wait_started_passes_over_a_start_that_is_being_stopped() -> None:
    """It has no value to give, and the next incarnation has."""
    record = Record()
    a = Actor(record, "a", [3, *STAYS], cleanup=2)
    a_child = a.child()
    async with open_system([Child("b", trio.sleep_forever)], strategy="one_for_one") as tree:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_start_for_two_seconds, tree, a_child)
            await trio.sleep(2.5)
            handle = tree.child("a")
            assert handle.status == "stopping"
            with pytest.raises(SupervisorStopped, match="/a' is stopped"):
                await handle.wait_started()
        assert trio.current_time() == 4


async def _start_for_two_seconds(tree: SystemHandle, child: Child[str]) -> None:
    with trio.move_on_after(2):
        await tree.start_child(child)


@story
async def test_wait_started_waits_out_the_end_of_one_that_is_stopping() -> None:
    record = Record()
    a = Actor(record, "a", cleanup=2)
    async with open_system([a.child()]) as tree:
        handle = tree.child("a")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(handle.restart)
            await trio.sleep(1)
            assert (handle.status, handle.value) == ("stopping", "a#1")
            assert (await handle.wait_started(), trio.current_time()) == ("a#2", 2)


# Stopping a part


@pytest.mark.parametrize(
    ("restart", "how", "after"),
    [
        ("permanent", "stop", "?sub +b2"),
        ("permanent", "abort", "?sub +b2"),
        ("transient", "stop", ""),
        ("transient", "abort", ""),
        ("temporary", "stop", ""),
        ("temporary", "abort", ""),
    ],
)
@story
async def test_stop_and_abort_of_a_nested_supervisor_are_an_end_by_itself(
    restart: RestartType, how: str, after: str
) -> None:
    record = Record()
    a, b = cast(record, "ab")
    sub = Child("sub", SystemSupervisor([b.child()]), restart=restart)
    async with open_system(
        [a.child(), sub], strategy="one_for_one", breaker=Ledger(record)
    ) as tree:
        handle = tree.child("sub")
        inner = handle.value
        record.take()
        if how == "stop":
            await inner.stop()
        else:
            inner.abort()
        await trio.sleep(1)
        assert record.take_order() == f"-b1 {after}".strip()
        ended = "stopped" if restart == "temporary" else "done"
        assert handle.status == ("running" if after else ended)
        report = handle.last_report
        assert report is not None
        assert not report.failed


@story
async def test_stop_from_inside_the_tree_aborts_its_caller_in_its_turn() -> None:
    record = Record()
    a, c = cast(record, "ac", cleanup=1)
    trees: list[SystemHandle] = []

    async def child() -> None:
        await trio.sleep(1)
        try:
            await trees[0].stop()
        finally:
            record("caller ends")

    async with open_system([a.child(), Child("b", child, shutdown=50), c.child()]) as tree:
        trees.append(tree)
        report = await tree.wait()
        record("tree ended")
    assert record.facts[2:] == [(2, "-c1"), (2, "caller ends"), (3, "-a1"), (3, "tree ended")]
    assert report.burden == "settling"


@story
async def test_after_the_end_handles_still_tell_what_was() -> None:
    record = Record()
    a, b = cast(record, "ab")
    sub = Child("sub", SystemSupervisor([b.child()]))
    async with open_system([a.child(), sub], name="top") as tree:
        await trio.sleep(1)
    assert tree.path == "top"
    assert [info.status for info in tree.which_children()] == ["stopped", "stopped"]
    assert tree.count_children().active == 0
    report = tree.find("sub/b").last_report
    assert report is not None
    assert (report.path, report.ended_at) == ("top/sub/b", 1)
    assert (await tree.wait()).ended_at == 1
    await tree.stop()
    with pytest.raises(SupervisorStopped):
        await tree.child("a").wait_started()


@story
async def test_who_waits_for_the_stop_of_another_supervisor_goes_on_listening() -> None:
    """Asked to settle meanwhile, it has its `shutdown` seconds: this is not its own end."""
    record = Record()
    b = Actor(record, "b", cleanup=5)
    below = SystemSupervisor([b.child()])

    async def waits(other: SystemHandle) -> None:
        with cancel_on_settle():
            await other.stop()
            record("stopped the other")
        try:
            await trio.sleep(2)
            record("finished")
        finally:
            record("left")

    async def system(scope: Scope) -> None:
        other = await scope.start(Child("other", below, restart="temporary"))
        await scope.start(Child("waits", waits, other, shutdown=10))

    async with open_system(system) as tree:
        await trio.sleep(1)
        record.take()
    assert record.facts == [(3, "finished"), (3, "left"), (5, "-b1")]
    report = tree.child("waits").last_report
    assert report is not None
    assert report.burden == "settling"
