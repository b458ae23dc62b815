"""The event stream: what a tree tells about itself, whole and in exact order."""

from __future__ import annotations

import pytest
import trio
import trio.lowlevel

import spry_py
from actors import LISTENS, STAYS, Actor, cast, no_start
from listeners import Heard, line, listened
from spry_py import (
    Child,
    Ignore,
    NeverRestart,
    RateLimited,
    SystemSupervisor,
    TerminationReport,
    TooManyRestarts,
    open_system,
)
from spry_py.events import (
    ChildStarted,
    ChildStarting,
    ChildTerminated,
    Escalated,
    IncidentClosed,
    IncidentOpened,
    RestartScheduled,
    SystemStopped,
)
from stories import Record, story
from stubborn import clinging, the_stubborn_part


@story
async def test_a_restart_is_a_row_of_facts_with_all_that_is_known_of_them() -> None:
    a = Actor(Record(), "a")
    system = SystemSupervisor([a.child()], name="top", strategy="one_for_one")
    async with listened(system, incidents=True) as (_, heard):
        await trio.sleep(5)
        error = ValueError("boom")
        a.die(error)
        await trio.sleep(1)
        report = TerminationReport("a", "top/a", 1, spry_py.Failed(error), "none", 0.0, 5.0)
        assert heard.events == [
            ChildTerminated(1, 5.0, "top/a", report),
            IncidentOpened(2, 5.0, "top/a"),
            RestartScheduled(3, 5.0, "top/a", 0.0, 1),
            ChildStarting(4, 5.0, "top/a", 2),
            ChildStarted(5, 5.0, "top/a", 2),
            IncidentClosed(6, 5.0, "top/a", "cured", 0.0),
        ]
        assert {event.incident for event in heard.events} == {1}


@story
async def test_a_restart_after_a_wait() -> None:
    a = Actor(Record(), "a", [1, *STAYS])
    child = a.child(backoff=lambda state: 2.5)
    async with listened([child], strategy="one_for_one") as (_, heard):
        a.stop("done")
        await trio.sleep(10)
        assert heard.take() == [
            "1 ChildTerminated top/a #1 Normal none",
            "1 RestartScheduled top/a in 2.5 attempt 1",
            "3.5 ChildStarting top/a #2",
            "4.5 ChildStarted top/a #2",
        ]


@story
async def test_a_group_goes_down_and_comes_up_in_order() -> None:
    a, b, c = cast(Record(), "abc")
    async with listened([x.child() for x in (a, b, c)]) as (_, heard):
        b.die()
        await trio.sleep(1)
        assert heard.take() == [
            "0 ChildTerminated top/b #1 Boom('b1') none",
            "0 RestartScheduled top/b in 0 attempt 1",
            "0 ChildAborted top/c #1",
            "0 ChildTerminated top/c #1 Aborted aborted",
            "0 ChildAborted top/a #1",
            "0 ChildTerminated top/a #1 Aborted aborted",
            "0 ChildStarting top/a #2",
            "0 ChildStarted top/a #2",
            "0 ChildStarting top/b #2",
            "0 ChildStarted top/b #2",
            "0 ChildStarting top/c #2",
            "0 ChildStarted top/c #2",
        ]


@story
async def test_a_subsystem_that_gives_up_and_boots_again() -> None:
    a, b = cast(Record(), "ab")
    sub = SystemSupervisor([a.child(), b.child(start_timeout=9)], breaker=NeverRestart)
    async with listened([Child("sub", sub)], strategy="one_for_one") as (_, heard):
        await trio.sleep(2)
        a.die()
        await trio.sleep(1)
        assert heard.take() == [
            "2 ChildTerminated top/sub/a #1 Boom('a1') none",
            "2 RestartRefused top/sub/a",
            "2 Escalated top/sub TooManyRestarts from Boom('a1')",
            "2 SystemTeardown top/sub",
            "2 ChildAborted top/sub/b #1",
            "2 ChildTerminated top/sub/b #1 Aborted aborted",
            "2 SystemStopped top/sub",
            "2 ChildTerminated top/sub #1 TooManyRestarts('top/sub/a', 0, Boom('a1')) none",
            "2 RestartScheduled top/sub in 0 attempt 1",
            "2 ChildStarting top/sub #2",
            "2 ChildStarting top/sub/a #1",
            "2 ChildStarted top/sub/a #1",
            "2 ChildStarting top/sub/b #1",
            "2 ChildStarted top/sub/b #1",
            "2 SystemStarted top/sub",
            "2 ChildStarted top/sub #2",
        ]


@story
async def test_the_end_of_a_root_that_gives_up() -> None:
    a, b = cast(Record(), "ab")
    heard = Heard()
    async with trio.open_nursery() as nursery:
        with pytest.raises(TooManyRestarts) as raised:
            async with open_system([a.child(), b.child()], name="top", breaker=NeverRestart) as top:
                await nursery.start(heard.listen, top)
                a.stop()
                await trio.sleep_forever()
    escalated = heard.events[2]
    assert isinstance(escalated, Escalated)
    assert escalated.error is raised.value
    assert heard.take() == [
        "0 ChildTerminated top/a #1 Normal none",
        "0 RestartRefused top/a",
        "0 Escalated top TooManyRestarts from None",
        "0 SystemTeardown top",
        "0 ChildAborted top/b #1",
        "0 ChildTerminated top/b #1 Aborted aborted",
        "0 SystemStopped top",
    ]


@story
async def test_a_stop_asks_first_and_aborts_when_the_time_is_over() -> None:
    a, b = cast(Record(), "ab", LISTENS, cleanup=1.5)
    c = Actor(Record(), "c", LISTENS, cleanup=0.5)
    children = [a.child(), b.child(shutdown=1), c.child(shutdown=0)]
    async with listened([Child("sub", SystemSupervisor(children))]) as (_, heard):
        await trio.sleep(1)
    assert heard.take() == [
        "1 SystemTeardown top",
        "1 ChildSettling top/sub #1",
        "1 SystemTeardown top/sub",
        "1 ChildAborted top/sub/c #1",
        "1.5 ChildTerminated top/sub/c #1 Aborted aborted",
        "1.5 ChildSettling top/sub/b #1",
        "2.5 ChildAborted top/sub/b #1",
        "3 ChildTerminated top/sub/b #1 Normal aborted",
        "3 ChildSettling top/sub/a #1",
        "4.5 ChildTerminated top/sub/a #1 Normal settling",
        "4.5 SystemStopped top/sub",
        "4.5 ChildTerminated top/sub #1 Normal settling",
        "4.5 SystemStopped top",
    ]


@story
async def test_a_subtree_whose_time_is_over_is_aborted_whole_and_torn_down_once() -> None:
    a = Actor(Record(), "a")
    b = Actor(Record(), "b", ["start", "wait", lambda: the_stubborn_part(4.5)])
    sub = Child("sub", SystemSupervisor([a.child(), b.child(shutdown=60)]), shutdown=2)
    async with listened([sub]) as (_, heard):
        pass
    assert heard.take() == [
        "0 SystemTeardown top",
        "0 ChildSettling top/sub #1",
        "0 SystemTeardown top/sub",
        "0 ChildSettling top/sub/b #1",
        "2 ChildAborted top/sub #1",
        "2 ChildAborted top/sub/a #1",
        "2 ChildAborted top/sub/b #1",
        "2 ChildTerminated top/sub/a #1 Aborted aborted",
        "3 ChildStuck top/sub/b await trio.sleep(seconds)",
        "4.5 ChildTerminated top/sub/b #1 Normal aborted",
        "4.5 SystemStopped top/sub",
        "4.5 ChildTerminated top/sub #1 Aborted aborted",
        "4.5 SystemStopped top",
    ]


@story
async def test_abort_of_a_root() -> None:
    a, b = cast(Record(), "ab", LISTENS)
    sub = Child("sub", SystemSupervisor([a.child()]))
    async with listened([sub, b.child()]) as (tree, heard):
        tree.abort()
        tree.abort()
        await tree.wait()
    lines = heard.take()
    assert lines[:5] == [
        "0 SystemTeardown top",
        "0 ChildAborted top/sub #1",
        "0 SystemTeardown top/sub",
        "0 ChildAborted top/b #1",
        "0 ChildAborted top/sub/a #1",
    ]
    # those that are cancelled at once end in an order of trio's own
    assert sorted(lines[5:-1]) == [
        "0 ChildTerminated top/b #1 Aborted aborted",
        "0 ChildTerminated top/sub #1 Aborted aborted",
        "0 ChildTerminated top/sub/a #1 Aborted aborted",
        "0 SystemStopped top/sub",
    ]
    assert lines[-1] == "0 SystemStopped top"


@story
async def test_nothing_is_told_of_a_supervisor_behind_its_end() -> None:
    """An abort from above may find it ended, its task still on the way out."""
    for ticks in range(8):
        a, b = cast(Record(), "ab")
        inner = Child("inner", SystemSupervisor([a.child()]), shutdown=0)
        middle = SystemSupervisor([inner, b.child()], breaker=NeverRestart)
        async with listened([Child("middle", middle, shutdown=0)]) as (_, heard):
            b.die()
            for _ in range(ticks):
                await trio.lowlevel.checkpoint()
        told = [event for event in heard.events if event.path == "top/middle/inner"]
        assert isinstance(told[-2], SystemStopped)
        assert isinstance(told[-1], ChildTerminated)


@story
async def test_one_that_is_stuck_is_told_until_it_ends() -> None:
    async with listened([Child("stuck", clinging, 5)]) as (_, heard):
        pass
    assert heard.take() == [
        "0 SystemTeardown top",
        "0 ChildAborted top/stuck #1",
        "1 ChildStuck top/stuck await the_stubborn_part(seconds)",
        "3 ChildStuck top/stuck await the_stubborn_part(seconds)",
        "5 ChildTerminated top/stuck #1 Aborted aborted",
        "5 SystemStopped top",
    ]


@story
async def test_one_that_is_discarded() -> None:
    a = Actor(Record(), "a")
    child = a.child(breaker=NeverRestart, on_unrecoverable="discard")
    async with listened([child], strategy="one_for_one") as (_, heard):
        a.die()
        await trio.sleep(1)
        assert heard.take() == [
            "0 ChildTerminated top/a #1 Boom('a1') none",
            "0 RestartRefused top/a",
            "0 ChildDiscarded top/a",
        ]


@story
async def test_one_that_is_not_restarted_says_so_by_saying_nothing_more() -> None:
    a = Actor(Record(), "a")
    async with listened([a.child(restart="temporary")]) as (_, heard):
        a.die()
        await trio.sleep(1)
        assert heard.take() == ["0 ChildTerminated top/a #1 Boom('a1') none"]


@story
async def test_starts_that_fail_are_counted_as_attempts_at_one_restart() -> None:
    record = Record()
    a, b = Actor(record, "a"), Actor(record, "b", STAYS, [no_start], STAYS)
    sub = Child("sub", SystemSupervisor([a.child(), b.child()], breaker=NeverRestart))
    async with listened([sub], strategy="one_for_one") as (_, heard):
        a.die()
        await trio.sleep(1)
        assert heard.take()[7:] == [
            "0 ChildTerminated top/sub #1 TooManyRestarts('top/sub/a', 0, Boom('a1')) none",
            "0 RestartScheduled top/sub in 0 attempt 1",
            "0 ChildStarting top/sub #2",
            "0 ChildStarting top/sub/a #1",
            "0 ChildStarted top/sub/a #1",
            "0 ChildStarting top/sub/b #1",
            "0 ChildStartFailed top/sub/b #1 Boom('no start of b1') none",
            "0 SystemTeardown top/sub",
            "0 ChildAborted top/sub/a #1",
            "0 ChildTerminated top/sub/a #1 Aborted aborted",
            "0 SystemStopped top/sub",
            "0 ChildStartFailed top/sub #2 ChildFailure('b', 'top/sub/b') none",
            "0 RestartScheduled top/sub in 0 attempt 2",
            "0 ChildStarting top/sub #3",
            "0 ChildStarting top/sub/a #1",
            "0 ChildStarted top/sub/a #1",
            "0 ChildStarting top/sub/b #1",
            "0 ChildStarted top/sub/b #1",
            "0 SystemStarted top/sub",
            "0 ChildStarted top/sub #3",
        ]


@story
async def test_leaving_out_a_child_is_no_failure() -> None:
    runs = 0

    async def moody(*, task_status: trio.TaskStatus[None]) -> None:
        nonlocal runs
        runs += 1
        if runs == 2:
            raise Ignore
        task_status.started()
        await trio.sleep(1)

    async with listened([Child("moody", moody)]) as (_, heard):
        await trio.sleep(2)
        assert heard.take() == [
            "1 ChildTerminated top/moody #1 Normal none",
            "1 RestartScheduled top/moody in 0 attempt 1",
            "1 ChildStarting top/moody #2",
            "1 ChildTerminated top/moody #2 Ignore() none",
        ]


@story
async def test_a_boot_that_a_stop_interrupts() -> None:
    a, b = Actor(Record(), "a"), Actor(Record(), "b", [5, *STAYS])
    sub = Child("sub", SystemSupervisor([a.child(), b.child()], breaker=NeverRestart))
    async with listened([sub], strategy="one_for_one") as (_, heard):
        a.die()
        await trio.sleep(1)
        heard.take()
    assert heard.take() == [
        "6 SystemTeardown top",
        "6 ChildSettling top/sub #2",
        "6 SystemTeardown top/sub",
        "6 ChildAborted top/sub/b #1",
        "6 ChildTerminated top/sub/b #1 Aborted aborted",
        "6 ChildAborted top/sub/a #1",
        "6 ChildTerminated top/sub/a #1 Aborted aborted",
        "6 SystemStopped top/sub",
        "6 ChildTerminated top/sub #2 Normal settling",
        "6 SystemStopped top",
    ]


@story
async def test_a_subsystem_stopped_by_its_own_handle() -> None:
    a = Actor(Record(), "a")
    sub = Child("sub", SystemSupervisor([a.child()]), restart="transient")
    async with listened([sub]) as (tree, heard):
        await tree.find("sub").value.stop()
        await trio.sleep(1)
        assert heard.take() == [
            "0 SystemTeardown top/sub",
            "0 ChildAborted top/sub/a #1",
            "0 ChildTerminated top/sub/a #1 Aborted aborted",
            "0 SystemStopped top/sub",
            "0 ChildTerminated top/sub #1 Normal none",
        ]


@story
async def test_a_whole_life_balances() -> None:
    """Each start ends, and nothing of a path comes behind its end."""
    actors = list(cast(Record(), "abcd"))
    sub = Child("sub", SystemSupervisor([x.child() for x in actors], breaker=RateLimited(2, 9.0)))
    async with listened([sub], strategy="one_for_one", breaker=RateLimited(99, 1.0)) as (_, heard):
        for _ in range(4):
            for actor in actors:
                actor.die()
                await trio.sleep(1)
    alive = {"top/sub", *(f"top/sub/{x.key}" for x in actors)}
    for event in heard.events:
        match event:
            case ChildStarting(path=path):
                assert path not in alive
                alive.add(path)
            case ChildTerminated(path=path):
                alive.remove(path)
    assert alive == set()
    assert line(heard.events[-1]) == "16 SystemStopped top"


@story
async def test_one_that_has_been_aborted_is_not_aborted_once_more_with_its_supervisor() -> None:
    sub = Child("sub", SystemSupervisor([Child("a", clinging, 5)], name="sub"))
    async with listened([sub]) as (tree, heard), trio.open_nursery() as nursery:
        inner = tree.system("sub")
        nursery.start_soon(inner.terminate_child, "a")
        await trio.sleep(1)
        inner.abort()
        await trio.sleep(10)
        lines = heard.take()
    assert [one for one in lines if "ChildAborted top/sub/a #1" in one] == [
        "0 ChildAborted top/sub/a #1"
    ]
