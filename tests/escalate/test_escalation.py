"""When a supervisor gives up: what goes down, what comes out, and what the parent makes of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import trio

from actors import LISTENS, STAYS, Actor, cast, no_start
from spry_py import (
    AlwaysRestart,
    Child,
    Escalation,
    Failed,
    NeverRestart,
    RateLimited,
    RestartType,
    Scope,
    Strategy,
    SystemSupervisor,
    TooManyRestarts,
    Unrecoverable,
    UnrecoverableFailure,
    open_system,
)
from stories import Boom, Ledger, Record, story, told_by


@pytest.mark.parametrize("strategy", ["one_for_one", "rest_for_one", "one_for_all"])
@story
async def test_children_are_torn_down_in_reverse_before_it_raises(strategy: Strategy) -> None:
    record = Record()
    error = Boom("the cause")
    a, b, c = cast(record, "abc", cleanup=1)
    children = [a.child(), b.child(), c.child()]
    with pytest.raises(TooManyRestarts) as caught:
        async with open_system(
            children, name="top", strategy=strategy, breaker=Ledger(record, allows=0)
        ):
            record.take()
            b.die(error)
            await trio.sleep_forever()
    record("raised")
    refused = caught.value
    assert (refused.path, refused.restarts, refused.root_cause) == ("top/b", 0, error)
    assert refused.__cause__ is error
    assert record.facts == [(1, "-b1"), (1, "?b:no"), (2, "-c1"), (3, "-a1"), (3, "raised")]


@story
async def test_restarts_is_the_count_of_that_child_in_this_incarnation() -> None:
    record = Record()
    a, b = cast(record, "ab")
    with pytest.raises(TooManyRestarts) as caught:
        async with open_system(
            [a.child(), b.child()], strategy="one_for_one", breaker=RateLimited(5)
        ):
            for actor in (a, b, a, b, b):
                actor.die()
                await trio.sleep(0.5)
            b.die()
            await trio.sleep_forever()
    assert caught.value.restarts == 3


@story
async def test_the_text_names_path_restarts_and_root_cause_once() -> None:
    record = Record()
    (a,) = cast(record, "a")
    with pytest.raises(TooManyRestarts) as caught:
        async with open_system([a.child()], name="top", breaker=RateLimited(2)):
            for n in range(3):
                a.die(Boom(f"cause {n}"))
                await trio.sleep(1)
    text = str(caught.value)
    assert [text.count(part) for part in ("top/a", "2", "Boom: cause 2")] == [1, 2, 1]
    assert "\n" not in text


@story
async def test_a_normal_end_too_often_has_no_root_cause() -> None:
    record = Record()
    (a,) = cast(record, "a")
    with pytest.raises(TooManyRestarts) as caught:
        async with open_system([a.child()], name="top", breaker=NeverRestart):
            a.stop()
            await trio.sleep(1)
    assert caught.value.root_cause is None
    assert "None" not in str(caught.value)


@story
async def test_the_parent_sees_a_failed_child_and_restarts_it() -> None:
    record = Record()
    a, b, c, d = cast(record, "abcd")
    error = Boom("the cause")
    ledger = Ledger(record, allows=0)
    sub = Child("sub", SystemSupervisor([b.child(), c.child()], breaker=ledger))
    children = [a.child(), sub, d.child()]
    async with open_system(
        children, name="top", strategy="one_for_one", breaker=Ledger(record)
    ) as tree:
        record.take()
        b.die(error)
        await trio.sleep(1)
        report = tree.child("sub").last_report
        assert record.take_order() == "-b1 ?b:no -c1 ?sub +b2 +c2"
    assert report is not None
    assert (report.path, report.incarnation, report.burden) == ("top/sub", 1, "none")
    assert isinstance(report.reason, Failed)
    assert isinstance(report.exception, TooManyRestarts)
    assert (report.exception.path, report.exception.root_cause) == ("top/sub/b", error)


RESTART = {
    "permanent": "?sub +b2 -d1 -b2 -a1",
    "transient": "?sub +b2 -d1 -b2 -a1",
    "temporary": "-d1 -a1",
}


@pytest.mark.parametrize("restart", RESTART)
@story
async def test_the_parent_decides_by_the_restart_type_of_that_child(restart: RestartType) -> None:
    record = Record()
    a, b, d = cast(record, "abd")
    sub = SystemSupervisor([b.child()], breaker=NeverRestart)
    children = [a.child(), Child("sub", sub, restart=restart), d.child()]
    async with open_system(children, strategy="one_for_one", breaker=Ledger(record)):
        record.take()
        b.die()
        await trio.sleep(1)
    assert record.order == f"-b1 {RESTART[restart]}"


@story
async def test_an_escalation_through_three_levels_is_one_chain_of_causes() -> None:
    record = Record()
    a, b, c, d = cast(record, "abcd")
    error = Boom("the cause")
    leaf = SystemSupervisor([b.child(), c.child()], breaker=RateLimited(0))
    middle = SystemSupervisor([a.child(), Child("leaf", leaf)], breaker=RateLimited(0))
    with pytest.raises(TooManyRestarts) as caught:
        async with open_system(
            [Child("middle", middle), d.child()], name="top", breaker=RateLimited(0)
        ):
            record.take()
            b.die(error)
            await trio.sleep_forever()
    paths = []
    link: BaseException | None = caught.value
    while isinstance(link, TooManyRestarts):
        paths.append(link.path)
        assert link.root_cause is error
        link = link.__cause__
    assert link is error
    assert paths == ["top/middle", "top/middle/leaf", "top/middle/leaf/b"]
    assert record.order == "-b1 -c1 -a1 -d1"


@story
async def test_a_failure_to_start_again_escalates_with_its_own_cause() -> None:
    record = Record()
    a = Actor(record, "a")
    b = Actor(record, "b", STAYS, [no_start])
    with pytest.raises(TooManyRestarts) as caught:
        async with open_system([a.child(), b.child()], name="top", breaker=RateLimited(3)):
            b.die()
            await trio.sleep_forever()
    assert caught.value.path == "top/b"
    assert isinstance(caught.value.root_cause, Boom)
    assert str(caught.value.root_cause) == "no start of b4"


@story
async def test_exceptions_raised_while_going_down_do_not_replace_the_cause() -> None:
    record = Record()
    a, b = cast(record, "ab")
    error = Boom("the cause")

    async def sour() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise Boom("on the way down")

    children = [a.child(), Child("sour", sour), b.child()]
    handles = []
    with pytest.raises(TooManyRestarts) as caught:
        async with open_system(children, breaker=NeverRestart) as tree:
            handles.append(tree.child("sour"))
            b.die(error)
            await trio.sleep_forever()
    assert caught.value.__cause__ is error
    reports = [handle.last_report for handle in handles]
    assert [str(report and report.exception) for report in reports] == ["on the way down"]
    assert record.order == "+a1 +b1 -b1 -a1"


@story
async def test_a_cause_that_is_a_group_stays_whole() -> None:
    record = Record()
    (a,) = cast(record, "a")
    group = ExceptionGroup("both", [Boom("one"), KeyError("two")])
    with pytest.raises(TooManyRestarts) as caught:
        async with open_system([a.child()], breaker=NeverRestart):
            a.die(group)
            await trio.sleep_forever()
    assert caught.value.__cause__ is group
    assert set(group.exceptions) <= set(told_by(caught.value))


@story
async def test_an_exception_with_a_cause_of_its_own_has_that_as_root_cause() -> None:
    record = Record()
    (a,) = cast(record, "a")
    deepest, error = KeyError("deepest"), Boom("outer")
    error.__cause__ = deepest
    with pytest.raises(TooManyRestarts) as caught:
        async with open_system([a.child()], breaker=NeverRestart):
            a.die(error)
            await trio.sleep_forever()
    assert caught.value.__cause__ is error
    assert caught.value.root_cause is deepest


@story
async def test_a_stop_during_the_teardown_of_an_escalation_changes_nothing() -> None:
    record = Record()
    a, b, c = cast(record, "abc", LISTENS, cleanup=2)
    error = Boom("the cause")
    with trio.move_on_after(3) as outside, pytest.raises(TooManyRestarts) as caught:
        async with open_system([a.child(), b.child(), c.child()], breaker=NeverRestart):
            record.take()
            b.die(error)
            await trio.sleep_forever()
    assert caught.value.__cause__ is error
    assert not outside.cancelled_caught
    assert record.facts == [(2, "-b1"), (4, "-c1"), (6, "-a1")]


@story
async def test_a_sweep_that_meets_an_escalating_subsystem_starts_it_again_with_the_rest() -> None:
    record = Record()
    a, b = cast(record, "ab")
    c = Actor(record, "c", cleanup=2)
    sub = SystemSupervisor([b.child(), c.child()], breaker=NeverRestart)
    async with open_system([a.child(), Child("sub", sub)], breaker=Ledger(record)):
        record.take()
        b.die()
        await trio.sleep(1)
        a.die()
        await trio.sleep(9)
        facts = record.take()
    assert facts[:3] == [(0, "-b1"), (1, "-a1"), (1, "?a")]
    assert [fact for _, fact in facts if fact[0] in "+-"][2:] == ["-c1", "+a2", "+b2", "+c2"]


# A chain as deep as anybody may ever build

DEPTH = 1000


def chain(leaf: Child[Any], **options: Any) -> Child[Any]:
    for level in range(DEPTH - 1, 0, -1):
        leaf = Child(f"s{level}", SystemSupervisor([leaf], **options))
    return leaf


@pytest.mark.slow
@story
async def test_a_thousand_levels_start_recover_at_the_leaf_and_stop() -> None:
    record = Record()
    a = Actor(record, "a", cleanup=1)
    async with open_system([chain(a.child())], name="s0") as tree:
        a.die()
        await trio.sleep(5)
        path = "/".join(f"s{level}" for level in range(1, DEPTH)) + "/a"
        handle = tree.find(path)
        assert (handle.incarnation, handle.restarts, handle.value) == (2, 1, "a#2")
        assert handle.path == f"s0/{path}"
    assert record.facts == [(0, "+a1"), (1, "-a1"), (1, "+a2"), (6, "-a2")]


@pytest.mark.slow
@story
async def test_a_thousand_levels_escalate_and_the_error_stays_short() -> None:
    record = Record()
    a = Actor(record, "a")
    error = Boom("at the bottom")
    with pytest.raises(TooManyRestarts) as caught:
        async with open_system(
            [chain(a.child(), breaker=RateLimited(0))], name="s0", breaker=RateLimited(0)
        ):
            a.die(error)
            await trio.sleep_forever()
    assert caught.value.root_cause is error
    assert caught.value.path == "s0/s1"
    assert len(str(caught.value)) < 300
    assert "at the bottom" in str(caught.value)
    assert record.order == "+a1 -a1"


@pytest.mark.slow
@story
async def test_a_thousand_levels_are_cured_by_the_top() -> None:
    record = Record()
    a = Actor(record, "a")
    child = chain(a.child(), breaker=RateLimited(0))
    async with open_system([child], breaker=AlwaysRestart) as tree:
        a.die()
        await trio.sleep(1)
        assert tree.child("s1").restarts == 1
        report = tree.child("s1").last_report
        assert report is not None
        assert isinstance(report.exception, Escalation)
    assert record.order == "+a1 -a1 +a2 -a2"


@pytest.mark.slow
@story
async def test_a_thousand_levels_stop_when_cancelled_from_outside() -> None:
    record = Record()
    a = Actor(record, "a", cleanup=2)
    with trio.move_on_after(1) as outside:
        async with open_system([chain(a.child())]):
            await trio.sleep_forever()
    assert outside.cancelled_caught
    assert record.facts == [(0, "+a1"), (3, "-a1")]


@pytest.mark.slow
@pytest.mark.parametrize("make", [KeyboardInterrupt, SystemExit])
@story
async def test_a_thousand_levels_let_an_exit_through(make: Callable[[], BaseException]) -> None:
    record = Record()
    a = Actor(record, "a")
    error = make()
    with pytest.raises((KeyboardInterrupt, SystemExit)) as caught:
        async with open_system([chain(a.child())]):
            a.die(error)
            await trio.sleep_forever()
    assert caught.value is error


@pytest.mark.slow
@story
async def test_a_thousand_levels_fail_their_first_start_in_turn() -> None:
    async def broken(scope: Scope) -> None:
        raise Boom("no boot")

    with pytest.raises(Exception, match="s1") as caught:
        async with open_system([chain(Child("broken", SystemSupervisor(broken)))], name="s0"):
            await trio.sleep_forever()
    assert any(isinstance(error, Boom) for error in told_by(caught.value))
    leaf = "/".join(f"s{level}" for level in range(DEPTH))
    assert len(str(caught.value)) < len(leaf) + 600


@pytest.mark.parametrize("strategy", ["one_for_one", "rest_for_one", "one_for_all"])
@story
async def test_of_two_that_cannot_be_restarted_in_one_tick_the_first_escalates(
    strategy: Strategy,
) -> None:
    record = Record()
    a, b = cast(record, "ab")
    with pytest.raises(UnrecoverableFailure) as caught:
        async with open_system([a.child(), b.child()], name="top", strategy=strategy):
            a.die(Unrecoverable("of a"))
            b.die(Unrecoverable("of b"))
            await trio.sleep(1)
    ended = [fact[1] for _, fact in record.facts[2:]]
    assert sorted(ended) == ["a", "b"]
    assert caught.value.path == f"top/{ended[0]}"
    assert str(caught.value.root_cause) == f"of {ended[0]}"
