"""Incidents in the stream of events: when they open and close, and what belongs to them."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from actors import LISTENS, STAYS, Actor, cast, no_start
from listeners import Heard, line, listened
from spry_py import (
    AlwaysRestart,
    Child,
    DynamicSupervisor,
    Ignore,
    NeverRestart,
    RateLimited,
    SupervisorStopped,
    SystemHandle,
    SystemSupervisor,
    TooManyRestarts,
    current_context,
    open_system,
)
from spry_py.events import ChildAborted, ChildSettling, Event, IncidentClosed
from stories import Boom, Record, story


def numbered(heard: Heard) -> list[str]:
    """Hand over what was heard so far, each line with the number of its incident in front."""
    taken, heard.events = heard.events, []
    return [f"{event.incident or '-'} {line(event).split(' ', 1)[1]}" for event in taken]


def outcomes(heard: Heard) -> list[tuple[int | None, str, str, float]]:
    closed = [event for event in heard.events if isinstance(event, IncidentClosed)]
    return [(event.incident, event.path, event.outcome, event.seconds) for event in closed]


# How they end


@story
async def test_a_restart_that_takes_three_attempts_is_one_incident() -> None:
    a = Actor(Record(), "a", STAYS, [no_start], [no_start], STAYS)
    child = a.child(backoff=lambda state: 2.0)
    options: Any = {"strategy": "one_for_one", "breaker": AlwaysRestart()}
    async with listened([child], incidents=True, **options) as (_, heard):
        a.die()
        await trio.sleep(10)
        assert outcomes(heard) == [(1, "top/a", "cured", 6.0)]
        assert numbered(heard) == [
            "1 ChildTerminated top/a #1 Boom('a1') none",
            "1 IncidentOpened top/a",
            "1 RestartScheduled top/a in 2 attempt 1",
            "1 ChildStarting top/a #2",
            "1 ChildStartFailed top/a #2 Boom('no start of a2') none",
            "1 RestartScheduled top/a in 2 attempt 2",
            "1 ChildStarting top/a #3",
            "1 ChildStartFailed top/a #3 Boom('no start of a3') none",
            "1 RestartScheduled top/a in 2 attempt 3",
            "1 ChildStarting top/a #4",
            "1 ChildStarted top/a #4",
            "1 IncidentClosed top/a cured",
        ]
        a.die()
        await trio.sleep(10)
        assert outcomes(heard) == [(2, "top/a", "cured", 2.0)]


@story
async def test_who_goes_along_with_a_restart_is_a_part_of_the_incident() -> None:
    a, b, c = cast(Record(), "abc")
    options: Any = {"strategy": "rest_for_one"}
    async with listened([x.child() for x in (a, b, c)], incidents=True, **options) as (_, heard):
        b.die()
        await trio.sleep(1)
        assert numbered(heard) == [
            "1 ChildTerminated top/b #1 Boom('b1') none",
            "1 IncidentOpened top/b",
            "1 RestartScheduled top/b in 0 attempt 1",
            "1 ChildAborted top/c #1",
            "1 ChildTerminated top/c #1 Aborted aborted",
            "1 ChildStarting top/b #2",
            "1 ChildStarted top/b #2",
            "1 ChildStarting top/c #2",
            "1 ChildStarted top/c #2",
            "1 IncidentClosed top/b cured",
        ]


@pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
@story
async def test_ends_that_one_restart_cures_are_cured_with_it(strategy: Any) -> None:
    a, b = cast(Record(), "ab")
    children = [a.child(backoff=lambda state: 3.0), b.child()]
    async with listened(children, incidents=True, strategy=strategy) as (_, heard):
        a.die()
        b.die()
        await trio.sleep(10)
        closed = outcomes(heard)
        assert sorted(closed) == [(1, *closed[0][1:]), (2, *closed[1][1:])]
        assert sorted(one[1:] for one in closed) == [
            ("top/a", "cured", 3.0),
            ("top/b", "cured", 3.0),
        ]


@story
async def test_an_end_while_a_group_waits_is_cured_with_the_group() -> None:
    a, b = cast(Record(), "ab")
    children = [b.child(), a.child(backoff=lambda state: 3.0)]
    async with listened(children, incidents=True, strategy="rest_for_one") as (_, heard):
        a.die()
        await trio.sleep(1)
        b.die()
        await trio.sleep(10)
        assert sorted(outcomes(heard)) == [
            (1, "top/a", "cured", 3.0),
            (2, "top/b", "cured", 2.0),
        ]


@story
async def test_what_is_not_restarted_is_dropped_and_an_ordinary_end_is_no_incident() -> None:
    async def fails() -> None:
        await trio.sleep(1)
        raise Boom

    async def ends() -> None:
        await trio.sleep(2)

    children = [
        Child("temporary", fails, restart="temporary"),
        Child("hopeless", fails, recoverable=lambda error: False, on_unrecoverable="discard"),
        Child("own", fails, breaker=NeverRestart, on_unrecoverable="discard"),
        Child("job", ends, restart="transient"),
        Child("task", ends, restart="temporary"),
    ]
    async with listened(children, incidents=True, strategy="one_for_one") as (_, heard):
        await trio.sleep(5)
        assert sorted(one[1:] for one in outcomes(heard)) == [
            ("top/hopeless", "dropped", 0.0),
            ("top/own", "dropped", 0.0),
            ("top/temporary", "dropped", 0.0),
        ]
        by_key: dict[str, list[str]] = {}
        for text in numbered(heard):
            number, kind, path = text.split(" ")[:3]
            by_key.setdefault(path.rpartition("/")[2], []).append(f"{number} {kind}")
        n = {key: lines[0].split(" ")[0] for key, lines in by_key.items()}
        assert {n["temporary"], n["hopeless"], n["own"]} == {"1", "2", "3"}
        assert by_key["job"] == by_key["task"] == ["- ChildTerminated"]
        assert by_key["own"] == [
            f"{n['own']} {kind}"
            for kind in (
                "ChildTerminated",
                "IncidentOpened",
                "RestartRefused",
                "ChildDiscarded",
                "IncidentClosed",
            )
        ]


@story
async def test_a_start_of_a_restart_that_wants_to_be_left_out_drops_it() -> None:
    runs: list[int] = []

    async def child() -> None:
        runs.append(1)
        if len(runs) > 1:
            raise Ignore
        await trio.sleep(1)
        raise Boom

    async with listened([Child("a", child)], incidents=True, strategy="one_for_one") as (_, heard):
        await trio.sleep(5)
        assert outcomes(heard) == [(1, "top/a", "dropped", 0.0)]


@pytest.mark.parametrize("strategy", ["one_for_one", "one_for_all", "rest_for_one"])
@pytest.mark.parametrize("by", ["stop", "terminate"])
@story
async def test_a_stop_overtakes_a_restart(strategy: Any, by: str) -> None:
    a = Actor(Record(), "a")
    child = a.child(backoff=lambda state: 9.0)
    async with listened([child], incidents=True, strategy=strategy) as (tree, heard):
        a.die()
        await trio.sleep(4)
        await (tree.stop() if by == "stop" else tree.terminate_child("a"))
        await trio.sleep(1)
        assert outcomes(heard) == [(1, "top/a", "stopped", 4.0)]


@story
async def test_an_end_that_a_stop_finds_undecided_is_stopped() -> None:
    async def thinks(_: object) -> None:
        await trio.sleep(3)

    a, b = cast(Record(), "ab")
    children = [a.child(on_termination=thinks), b.child(on_termination=thinks)]
    async with listened(children, incidents=True) as (_, heard):
        a.die()
        b.stop()
        await trio.sleep(2)
    assert sorted(one[1:] for one in outcomes(heard)) == [
        ("top/a", "stopped", 2.0),
        ("top/b", "stopped", 2.0),
    ]


@story
async def test_an_exit_is_what_the_whole_tree_ends_of() -> None:
    a = Actor(Record(), "a")
    heard = Heard(incidents=True)
    async with trio.open_nursery() as nursery:
        with pytest.raises(SystemExit):
            async with open_system([a.child()], name="top") as top:
                await nursery.start(heard.listen, top)
                a.die(SystemExit(3))
                await trio.sleep_forever()
    assert outcomes(heard) == [(1, "top/a", "ended", 0.0)]


@story
async def test_an_exit_while_a_failed_restart_by_hand_is_undone_opens_none() -> None:
    a, c = Actor(Record(), "a"), Actor(Record(), "c", STAYS, [no_start])

    async def exits(*, task_status: trio.TaskStatus[None]) -> None:
        task_status.started()
        try:
            await trio.sleep_forever()
        finally:
            if current_context().incarnation == 2:
                raise SystemExit(3)

    children = [a.child(), Child("b", exits), c.child()]
    heard = Heard(incidents=True)
    tops: list[SystemHandle] = []
    async with trio.open_nursery() as nursery:
        with pytest.raises(SystemExit):
            async with open_system(children, name="top") as top:
                tops.append(top)
                await nursery.start(heard.listen, top)
                with pytest.raises(SupervisorStopped):
                    await top.child("a").restart()
                await trio.sleep_forever()
    assert {event.incident for event in heard.events} == {None}
    assert [top.child("c").status for top in tops] == ["stopped"]


# Up the tree


@story
async def test_an_escalation_keeps_its_number_until_it_is_cured_above() -> None:
    record = Record()
    a, b = cast(record, "ab")
    sub = SystemSupervisor([a.child(), b.child()], breaker=NeverRestart)
    mid = SystemSupervisor([Child("sub", sub)], breaker=NeverRestart)
    child = Child("mid", mid, backoff=lambda state: 2.0)
    async with listened([child], incidents=True, strategy="one_for_one") as (_, heard):
        a.die()
        await trio.sleep(5)
        assert outcomes(heard) == [(1, "top/mid/sub/a", "cured", 2.0)]
        below = "TooManyRestarts('top/mid/sub/a', 0, Boom('a1'))"
        assert numbered(heard) == [
            "1 ChildTerminated top/mid/sub/a #1 Boom('a1') none",
            "1 IncidentOpened top/mid/sub/a",
            "1 RestartRefused top/mid/sub/a",
            "1 Escalated top/mid/sub TooManyRestarts from Boom('a1')",
            "1 SystemTeardown top/mid/sub",
            "1 ChildAborted top/mid/sub/b #1",
            "1 ChildTerminated top/mid/sub/b #1 Aborted aborted",
            "1 SystemStopped top/mid/sub",
            f"1 ChildTerminated top/mid/sub #1 {below} none",
            "1 RestartRefused top/mid/sub",
            f"1 Escalated top/mid TooManyRestarts from {below}",
            "1 SystemTeardown top/mid",
            "1 SystemStopped top/mid",
            "1 ChildTerminated top/mid #1 TooManyRestarts('top/mid/sub', 0, Boom('a1')) none",
            "1 RestartScheduled top/mid in 2 attempt 1",
            "1 ChildStarting top/mid #2",
            "1 ChildStarting top/mid/sub #1",
            "1 ChildStarting top/mid/sub/a #1",
            "1 ChildStarted top/mid/sub/a #1",
            "1 ChildStarting top/mid/sub/b #1",
            "1 ChildStarted top/mid/sub/b #1",
            "1 SystemStarted top/mid/sub",
            "1 ChildStarted top/mid/sub #1",
            "1 SystemStarted top/mid",
            "1 ChildStarted top/mid #2",
            "1 IncidentClosed top/mid/sub/a cured",
        ]


@story
async def test_the_root_ends_of_it() -> None:
    a = Actor(Record(), "a")
    sub = SystemSupervisor([a.child()], breaker=NeverRestart)
    heard = Heard(incidents=True)
    async with trio.open_nursery() as nursery:
        with pytest.raises(TooManyRestarts):
            async with open_system([Child("sub", sub)], name="top", breaker=NeverRestart) as top:
                await nursery.start(heard.listen, top)
                await trio.sleep(2)
                a.die()
                await trio.sleep_forever()
    assert outcomes(heard) == [(1, "top/sub/a", "ended", 0.0)]
    assert {event.incident for event in heard.events} == {1}
    assert [type(event).__name__ for event in heard.events[-2:]] == [
        "IncidentClosed",
        "SystemStopped",
    ]


@story
async def test_a_stop_overtakes_an_escalation() -> None:
    record = Record()
    a = Actor(record, "a")
    b = Actor(record, "b", LISTENS, cleanup=3)
    sub = SystemSupervisor([b.child(), a.child()], breaker=NeverRestart)
    async with listened([Child("sub", sub)], incidents=True) as (tree, heard):
        a.die()
        await trio.sleep(1)
        await tree.stop()
        await trio.sleep(1)
        assert outcomes(heard) == [(1, "top/sub/a", "stopped", 3.0)]


@story
async def test_incidents_at_the_same_time_have_numbers_of_their_own() -> None:
    a, b = cast(Record(), "ab")
    pool = DynamicSupervisor(breaker=RateLimited(9, 1.0))
    async with listened([Child("pool", pool)], incidents=True) as (tree, heard):
        for actor in (a, b):
            await tree.system("pool").start_child(actor.child(backoff=lambda state: 2.0))
        await trio.sleep(1)
        heard.events.clear()
        a.die()
        await trio.sleep(1)
        b.die()
        await trio.sleep(5)
        assert {(event.incident, event.path) for event in heard.events} == {
            (1, "top/pool/a"),
            (2, "top/pool/b"),
        }


# By hand


@story
async def test_a_restart_by_hand_is_no_incident_until_it_fails() -> None:
    a = Actor(Record(), "a", STAYS, STAYS, [no_start], STAYS)
    async with listened([a.child()], incidents=True, strategy="one_for_one") as (tree, heard):
        await tree.child("a").restart()
        await trio.sleep(1)
        assert {event.incident for event in heard.events} == {None}
        await trio.sleep(1)
        heard.events.clear()
        await tree.child("a").restart()
        await trio.sleep(1)
        assert numbered(heard) == [
            "- ChildAborted top/a #2",
            "- ChildTerminated top/a #2 Aborted aborted",
            "- ChildStarting top/a #3",
            "- ChildStartFailed top/a #3 Boom('no start of a3') none",
            "1 IncidentOpened top/a",
            "1 RestartScheduled top/a in 0 attempt 1",
            "1 ChildStarting top/a #4",
            "1 ChildStarted top/a #4",
            "1 IncidentClosed top/a cured",
        ]


@story
async def test_an_ordinary_life_has_no_incident() -> None:
    a, b = cast(Record(), "ab", LISTENS)
    async with listened([a.child()], incidents=True) as (tree, heard):
        await tree.start_child(b.child())
        await tree.terminate_child("b")
        await tree.replay()
    assert {event.incident for event in heard.events} == {None}


# Who comes late


@story
async def test_who_comes_in_the_middle_sees_the_rest_of_it() -> None:
    a = Actor(Record(), "a")
    child = a.child(backoff=lambda state: 4.0)
    async with open_system([child], name="top", strategy="one_for_one") as tree:
        a.die()
        await trio.sleep(1)
        first, heard = Heard(incidents=True), Heard(incidents=True)
        async with trio.open_nursery() as nursery:
            await nursery.start(first.listen, tree)
            await trio.sleep(5)
            nursery.cancel_scope.cancel()
        assert numbered(first) == [
            "1 ChildStarting top/a #2",
            "1 ChildStarted top/a #2",
            "1 IncidentClosed top/a cured",
        ]
        a.die()
        await trio.sleep(1)
        async with trio.open_nursery() as nursery:
            await nursery.start(heard.listen, tree)
            await trio.sleep(5)
            nursery.cancel_scope.cancel()
        assert numbered(heard) == [
            "2 ChildStarting top/a #3",
            "2 ChildStarted top/a #3",
            "2 IncidentClosed top/a cured",
        ]


# What they are asked to end for


@story
async def test_events_say_what_a_child_is_stopped_for() -> None:
    record = Record()
    a, b, c = cast(record, "abc", LISTENS)
    sub = Child("sub", SystemSupervisor([c.child()]))
    asked: list[tuple[str, str]] = []

    def note(events: list[Event]) -> list[tuple[str, str]]:
        kinds = ChildSettling, ChildAborted
        return [(one.path, one.by) for one in events if isinstance(one, kinds)]

    declared = [a.child(), sub, b.child()]

    async def system(scope: Any) -> None:
        for child in declared:
            await scope.start(child)

    async with listened(system, strategy="one_for_all") as (tree, heard):
        b.die()
        await trio.sleep(1)
        asked = note(heard.events)
        assert asked == [("top/sub", "restart"), ("top/sub/c", "restart"), ("top/a", "restart")]
        await trio.sleep(1)
        heard.events.clear()
        await tree.terminate_child("b")
        declared.pop()
        del declared[0]
        await tree.replay()
        await trio.sleep(1)
        assert note(heard.events) == [("top/b", "call"), ("top/a", "replay")]
        await trio.sleep(1)
        heard.events.clear()
    assert note(heard.events) == [("top/sub", "stop"), ("top/sub/c", "stop")]


@story
async def test_what_lives_below_a_limit_is_aborted_for_it() -> None:
    a = Actor(Record(), "a")
    sub = Child("sub", SystemSupervisor([a.child()]), run_timeout=3)
    async with listened([sub], strategy="one_for_one") as (_, heard):
        await trio.sleep(4)
        aborted = [event for event in heard.events if isinstance(event, ChildAborted)]
        assert [(event.path, event.by) for event in aborted] == [("top/sub/a", "limit")]
