"""How children end: normally, aborted, failed; and who is told what about it."""

from __future__ import annotations

import math

import pytest
import trio

from actors import LISTENS, STAYS, Actor, cast
from spry_py import (
    Aborted,
    Child,
    ChildHandle,
    Failed,
    Normal,
    RunTimeout,
    SystemSupervisor,
    TerminationReport,
    Unresponsive,
    current_context,
    open_system,
)
from stories import Boom, Ledger, Record, story, told_by


def last(handle: ChildHandle) -> TerminationReport:
    report = handle.last_report
    assert report is not None
    return report


@story
async def test_a_child_that_returns_ends_normal_with_its_value() -> None:
    record = Record()
    a = Actor(record, "a", [2, *STAYS])
    async with open_system([a.child(restart="transient")], name="top") as tree:
        await trio.sleep(1)
        a.stop("result")
        await trio.sleep(1)
        report = last(tree.child("a"))
    expected = TerminationReport("a", "top/a", 1, Normal("result"), "none", 2.0, 3.0)
    assert report == expected
    assert (report.lifetime, report.failed, report.exception) == (1.0, False, None)


@story
async def test_a_child_that_raises_ends_failed_with_that_very_exception() -> None:
    record = Record()
    error = Boom("told")
    (a,) = cast(record, "a")
    async with open_system([a.child()], name="top") as tree:
        await trio.sleep(3)
        a.die(error)
        await trio.sleep(1)
        report = last(tree.child("a"))
    assert report == TerminationReport("a", "top/a", 1, Failed(error), "none", 0.0, 3.0)
    assert (report.lifetime, report.failed) == (3.0, True)
    assert report.exception is error


@story
async def test_a_child_that_never_listened_is_aborted_at_once() -> None:
    record = Record()
    (a,) = cast(record, "a")
    async with open_system([a.child()], name="top") as tree:
        handle = tree.child("a")
        await trio.sleep(3)
    assert last(handle) == TerminationReport("a", "top/a", 1, Aborted(), "aborted", 0.0, 3.0)
    assert record.facts == [(0, "+a1"), (3, "-a1")]


@story
async def test_a_child_that_settles_ends_normal_with_burden_settling() -> None:
    record = Record()
    a = Actor(record, "a", LISTENS, cleanup=2)
    async with open_system([a.child()], name="top") as tree:
        handle = tree.child("a")
        await trio.sleep(3)
    assert last(handle) == TerminationReport("a", "top/a", 1, Normal(None), "settling", 0.0, 5.0)


@story
async def test_a_child_that_swallows_its_abort_and_returns_ends_normal_under_it() -> None:
    async def deaf() -> str:
        try:
            await trio.sleep_forever()
        except trio.Cancelled:
            return "so what"

    async with open_system([Child("deaf", deaf)]) as tree:
        handle = tree.child("deaf")
    assert (last(handle).reason, last(handle).burden) == (Normal("so what"), "aborted")


@story
async def test_cancellation_inside_a_group_is_no_failure() -> None:
    async def crowd() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            nursery.start_soon(trio.sleep_forever)
            raise BaseExceptionGroup("by hand", [await _cancelled(), await _cancelled()])

    async with open_system([Child("crowd", crowd)]) as tree:
        handle = tree.child("crowd")
    assert (last(handle).reason, last(handle).burden) == (Aborted(), "aborted")


async def _cancelled() -> trio.Cancelled:
    try:
        await trio.sleep_forever()
    except trio.Cancelled as cancelled:
        return cancelled


@story
async def test_an_exception_beside_cancellations_is_kept_and_they_are_split_out() -> None:
    error = Boom("in the clean-up")

    async def sour() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise error

    async def crowd() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            nursery.start_soon(sour)

    async with open_system([Child("crowd", crowd)]) as tree:
        handle = tree.child("crowd")
    report = last(handle)
    assert report.burden == "aborted"
    assert report.exception is not None
    group = report.exception
    leaves = list(group.exceptions) if isinstance(group, BaseExceptionGroup) else [group]
    assert leaves == [error]


@pytest.mark.parametrize("listens", [False, True])
@story
async def test_a_child_that_raises_while_being_stopped_is_only_recorded(listens: bool) -> None:
    record = Record()
    error = Boom("on the way out")
    (a,) = cast(record, "a")

    async def sour() -> None:
        try:
            if listens:
                await current_context().settled()
            else:
                await trio.sleep_forever()
        finally:
            record("sour ends")
            raise error

    children = [a.child(), Child("sour", sour)]
    async with open_system(children, breaker=Ledger(record)) as tree:
        handle = tree.child("sour")
        await trio.sleep(1)
    burden = "settling" if listens else "aborted"
    assert (last(handle).reason, last(handle).burden) == (Failed(error), burden)
    assert record.facts == [(0, "+a1"), (1, "sour ends"), (1, "-a1")]


@story
async def test_run_timeout_counts_from_started() -> None:
    record = Record()
    a = Actor(record, "a", [1, *STAYS])
    async with open_system([a.child(run_timeout=2)], name="top") as tree:
        await trio.sleep(2.5)
        report = last(tree.child("a"))
    assert isinstance(report.exception, RunTimeout)
    assert (report.burden, report.started_at, report.ended_at) == ("none", 1.0, 3.0)
    assert record.facts == [(0, "~a1"), (1, "+a1"), (3, "-a1"), (3, "~a2"), (3.5, "-a2")]


@story
async def test_a_run_timeout_may_interrupt_a_plain_function() -> None:
    record = Record()

    async def plain() -> None:
        record("begins")
        try:
            await trio.sleep_forever()
        finally:
            record("ends")

    child = Child("plain", plain, run_timeout=2, restart="temporary")
    async with open_system([child]) as tree:
        handle = tree.child("plain")
        await trio.sleep(5)
        assert isinstance(last(handle).exception, RunTimeout)
    assert record.facts == [(0, "begins"), (2, "ends")]


@story
async def test_a_run_timeout_stands_whatever_the_child_makes_of_its_cancellation() -> None:
    async def shrugs() -> str:
        try:
            await trio.sleep_forever()
        except trio.Cancelled:
            return "fine"

    async def sours() -> None:
        try:
            await trio.sleep_forever()
        except trio.Cancelled:
            raise Boom("another") from None

    shrug = Child("shrug", shrugs, run_timeout=1, restart="temporary")
    sour = Child("sour", sours, run_timeout=2, restart="temporary")
    async with open_system([shrug, sour]) as tree:
        handles = [tree.child("shrug"), tree.child("sour")]
        await trio.sleep(3)
    assert [type(last(handle).exception) for handle in handles] == [RunTimeout, RunTimeout]
    told = list(told_by(last(handles[1]).exception or KeyError()))
    assert any(isinstance(error, Boom) for error in told), "what it raised is lost"


@story
async def test_no_heartbeat_is_expected_before_the_first() -> None:
    record = Record()
    beats = trio.Event()

    async def beating() -> None:
        await beats.wait()
        for _ in range(3):
            current_context().heartbeat()
            record("beat")
            await trio.sleep(1)
        try:
            await trio.sleep_forever()
        finally:
            record("gone")

    child = Child("beating", beating, heartbeat=2, restart="temporary")
    async with open_system([child]) as tree:
        handle = tree.child("beating")
        await trio.sleep(100)
        beats.set()
        await trio.sleep(100)
        assert isinstance(last(handle).exception, Unresponsive)
        assert last(handle).burden == "none"
    assert record.facts == [(100, "beat"), (101, "beat"), (102, "beat"), (104, "gone")]


@story
async def test_a_heartbeat_may_come_while_the_child_is_still_starting() -> None:
    async def beating(*, task_status: trio.TaskStatus[None]) -> None:
        current_context().heartbeat()
        await trio.sleep(1)
        task_status.started()
        await trio.sleep_forever()

    child = Child("beating", beating, heartbeat=2, restart="temporary")
    async with open_system([child]) as tree:
        handle = tree.child("beating")
        await trio.sleep(9)
    assert isinstance(last(handle).exception, Unresponsive)
    assert last(handle).ended_at <= 3


@story
async def test_the_limit_that_is_reached_first_is_the_one_that_is_told() -> None:
    async def beating() -> None:
        for _ in range(2):
            current_context().heartbeat()
            await trio.sleep(1)
        await trio.sleep_forever()

    early = Child("early", beating, heartbeat=2, run_timeout=2.5, restart="temporary")
    late = Child("late", beating, heartbeat=2, run_timeout=50, restart="temporary")
    async with open_system([early, late]) as tree:
        handles = [tree.child("early"), tree.child("late")]
        await trio.sleep(99)
    assert [type(last(handle).exception) for handle in handles] == [RunTimeout, Unresponsive]
    assert [last(handle).ended_at for handle in handles] == [2.5, 3.0]


@story
async def test_a_limit_reached_while_settling_changes_nothing() -> None:
    record = Record()
    a = Actor(record, "a", LISTENS, cleanup=3)
    async with open_system([a.child(run_timeout=2)]) as tree:
        handle = tree.child("a")
        await trio.sleep(1)
    assert record.facts == [(0, "+a1"), (4, "-a1")]
    assert last(handle).burden == "settling"


@story
async def test_limits_of_infinity_never_strike() -> None:
    record = Record()
    (a,) = cast(record, "a")
    child = a.child(run_timeout=math.inf, start_timeout=math.inf, heartbeat=math.inf)
    async with open_system([child]):
        await trio.sleep(90_000)
    assert record.facts == [(0, "+a1"), (90_000, "-a1")]


@story
async def test_a_supervisors_run_timeout_cancels_its_subtree_whole() -> None:
    record = Record()
    a, b = cast(record, "ab")
    sub = Child("sub", SystemSupervisor([a.child(), b.child()]), run_timeout=5, restart="temporary")
    async with open_system([sub]) as tree:
        handle = tree.child("sub")
        await trio.sleep(9)
        assert isinstance(last(handle).exception, RunTimeout)
    assert record.facts[:2] == [(0, "+a1"), (0, "+b1")]
    assert sorted(record.facts[2:]) == [(5, "-a1"), (5, "-b1")]


@story
async def test_the_report_of_a_start_that_was_cut_short_has_no_moment_of_started() -> None:
    record = Record()
    a = Actor(record, "a", [2, *STAYS])
    async with open_system([a.child()], name="top", strategy="one_for_one") as tree:
        handle = tree.child("a")
        a.die()
        await trio.sleep(1)
    report = last(handle)
    assert report == TerminationReport("a", "top/a", 2, Aborted(), "aborted", None, 3.0)
    assert report.lifetime is None


@story
async def test_a_heartbeat_that_is_sent_before_the_start_does_not_limit_that() -> None:
    async def slow(*, task_status: trio.TaskStatus[None]) -> None:
        current_context().heartbeat()
        await trio.sleep(5)
        current_context().heartbeat()
        task_status.started()
        await trio.sleep_forever()

    async with open_system([Child("a", slow, heartbeat=2, restart="temporary")]) as tree:
        handle = tree.child("a")
        assert (trio.current_time(), handle.status) == (5, "running")
        report = await handle.wait()
    assert (report.ended_at, type(report.exception)) == (7, Unresponsive)


@story
async def test_of_two_limits_the_heartbeat_that_began_before_the_start_may_be_the_first() -> None:
    async def silent(*, task_status: trio.TaskStatus[None]) -> None:
        current_context().heartbeat()
        task_status.started()
        await trio.sleep_forever()

    child = Child("a", silent, heartbeat=2, run_timeout=9, restart="temporary")
    async with open_system([child]) as tree:
        report = await tree.child("a").wait()
    assert (report.ended_at, type(report.exception)) == (2, Unresponsive)
