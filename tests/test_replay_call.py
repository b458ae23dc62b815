"""`SystemHandle.replay`: a running system is made to be what it declares now."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing

from callers import Desk, Shy, answer, listed
from spry_py import (
    Backoff,
    Child,
    ChildFailure,
    NonChildFailure,
    Scope,
    SystemHandle,
    SystemSupervisor,
    TooManyRestarts,
    open_system,
)
from stories import Actor, Boom, Ledger, Record, Strategy, cast, story
from workers import STRATEGIES

every_strategy = pytest.mark.parametrize("strategy", STRATEGIES)


class Script:
    """A system that declares what it is told to; a child may be given the values of others.

    Each line is a `Child`, or a pair of an actor and the keys whose values it is given.
    """

    def __init__(self, *lines: Any) -> None:
        self.lines = lines
        self.error: Exception | None = None

    async def __call__(self, scope: Scope) -> None:
        values: dict[str, Any] = {}
        for line in self.lines:
            if isinstance(line, Child):
                values[line.key] = await scope.start(line)
            else:
                actor, keys = line
                given = [values[key] for key in keys]
                values[actor.key] = await scope.start(actor.child(*given))
        if self.error is not None:
            raise self.error


async def soon() -> None:
    """Let everything happen that takes no time."""
    await trio.testing.wait_all_tasks_blocked()


@every_strategy
@story
async def test_nothing_changed_nothing_happens(strategy: Strategy) -> None:
    record = Record()
    a, b = cast(record, "ab")
    async with open_system(Script((a, ""), (b, "a")), strategy=strategy) as tree:
        record.take()
        await tree.replay()
        assert record.take() == []
        assert [info.incarnation for info in tree.which_children()] == [1, 1]


@every_strategy
@story
async def test_new_keys_start_in_their_declared_place(strategy: Strategy) -> None:
    record = Record()
    a, b, c, d, e = cast(record, "abcde")
    script = Script((b, ""), (d, ""))
    async with open_system(script, strategy=strategy) as tree:
        record.take()
        script.lines = ((a, ""), (b, ""), (c, "ab"), (d, ""), (e, ""))
        await tree.replay()
        assert record.take_order() == "+a1 +c1(a1,b1) +e1"
        assert listed(tree) == "a=running b=running c=running d=running e=running"
    assert record.order == "-e1 -d1 -c1 -b1 -a1"


@every_strategy
@story
async def test_missing_keys_stop_in_reverse_after_the_new_ones_have_started(
    strategy: Strategy,
) -> None:
    record = Record()
    a, b, c, d = cast(record, "abcd")
    script = Script((a, ""), (b, ""), (c, ""))
    async with open_system(script, strategy=strategy) as tree:
        record.take()
        script.lines = ((b, ""), (d, ""))
        await tree.replay()
        assert record.take_order() == "+d1 -c1 -a1"
        assert listed(tree) == "b=running d=running"
        script.lines = ((a, ""), (b, ""))
        await tree.replay()
        assert record.take_order() == "+a2 -d1"
        assert tree.child("a").incarnation == 1


@every_strategy
@story
async def test_a_changed_child_is_started_anew_and_its_value_flows_on(strategy: Strategy) -> None:
    record = Record()
    a, b, c, d = cast(record, "abcd")
    script = Script(a.child("old"), (b, "a"), (c, ""), (d, "b"))
    async with open_system(script, strategy=strategy, breaker=Ledger(record)) as tree:
        record.take()
        script.lines = (a.child("new"), *script.lines[1:])
        await tree.replay()
        assert record.take_order() == "-a1 +a2(new) -b1 +b2(a2) -d1 +d2(b2)"
        numbers = {info.key: info.incarnation for info in tree.which_children()}
        assert numbers == {"a": 2, "b": 2, "c": 1, "d": 2}


@every_strategy
@pytest.mark.parametrize("option", [{"shutdown": 7}, {"restart": "transient"}, {"heartbeat": 9}])
@story
async def test_an_option_is_a_change_too(option: dict[str, Any], strategy: Strategy) -> None:
    record = Record()
    a, b = cast(record, "ab")
    script = Script(a.child(), b.child())
    async with open_system(script, strategy=strategy) as tree:
        record.take()
        script.lines = (a.child(), b.child(**option))
        await tree.replay()
        await tree.replay()
        assert record.take_order() == "-b1 +b2"


@every_strategy
@story
async def test_a_supervisor_that_changed_is_started_anew_an_equal_one_is_not(
    strategy: Strategy,
) -> None:
    record = Record()
    a, b = cast(record, "ab")

    def lines(**options: Any) -> tuple[Child[Any], ...]:
        return (
            Child("one", SystemSupervisor([a.child()])),
            Child("two", SystemSupervisor([b.child()], **options)),
        )

    script = Script(*lines())
    async with open_system(script, strategy=strategy) as tree:
        record.take()
        script.lines = lines()
        await tree.replay()
        assert record.take() == []
        script.lines = lines(strategy="one_for_one")
        await tree.replay()
        assert record.take_order() == "-b1 +b2"


@every_strategy
@story
async def test_children_started_together_change_as_others_do(strategy: Strategy) -> None:
    record = Record()
    a, b, c = cast(record, "abc")
    version = 1

    async def system(scope: Scope) -> None:
        one, _ = await scope.start_together(a.child(version), b.child())
        await scope.start(c.child(one))

    async with open_system(system, strategy=strategy) as tree:
        record.take()
        version = 2
        await tree.replay()
        assert record.take_order() == "-a1 +a2(2) -c1 +c2(a2)"


@every_strategy
@story
async def test_a_list_system_says_the_same_again_and_cures_what_is_down(
    strategy: Strategy,
) -> None:
    record = Record()
    a, b = cast(record, "ab")
    async with open_system([a.child(), b.child()], strategy=strategy) as tree:
        await tree.terminate_child("a")
        record.take()
        await tree.replay()
        assert record.take_order() == "+a2"
        assert listed(tree) == "a=running b=running"


# what is left alone


@every_strategy
@story
async def test_children_added_by_calls_are_kept(strategy: Strategy) -> None:
    record = Record()
    a, b, x = cast(record, "abx")
    script = Script((a, ""))
    async with open_system(script, strategy=strategy) as tree:
        await tree.start_child(x.child())
        record.take()
        script.lines = ((a, ""), (b, ""))
        await tree.replay()
        assert record.take_order() == "+b1"
        assert listed(tree) == "a=running b=running x=running"


@every_strategy
@story
async def test_done_spent_and_deleted_children_stay_away(strategy: Strategy) -> None:
    record = Record()
    a, b, c, d = cast(record, "abcd")
    lines = (
        a.child(restart="transient"),
        b.child(restart="temporary"),
        c.child(),
        d.child(),
    )
    async with open_system(Script(*lines), strategy=strategy) as tree:
        a.stop()
        b.stop()
        await soon()
        await tree.terminate_child("c")
        await tree.delete_child("c")
        record.take()
        await tree.replay()
        assert record.take() == []
        assert listed(tree) == "a=done d=running"


@every_strategy
@story
async def test_one_that_is_done_starts_again_when_it_has_changed(strategy: Strategy) -> None:
    record = Record()
    (a,) = cast(record, "a")
    script = Script(a.child(restart="transient"))
    async with open_system(script, strategy=strategy) as tree:
        a.stop()
        await soon()
        record.take()
        script.lines = (a.child("new", restart="transient"),)
        await tree.replay()
        assert record.take_order() == "+a2(new)"


@every_strategy
@story
async def test_one_that_was_left_out_is_tried_again(strategy: Strategy) -> None:
    record = Record()
    a = Shy(record, "a", ignores=(1, 2))
    async with open_system(Script(a.child()), strategy=strategy) as tree:
        await tree.replay()
        assert listed(tree) == "a=ignored"
        await tree.replay()
        assert listed(tree) == "a=running"
        assert record.order == "/a1 /a2 +a3"


# failures


@pytest.mark.parametrize(
    ("strategy", "after"),
    [
        ("one_for_one", "!b1 ?b b:ChildFailure +b2(a1) +c1"),
        ("rest_for_one", "!b1 ?b b:ChildFailure +b2(a1) +c1"),
        ("one_for_all", "!b1 -a1 ?b b:ChildFailure +a2 +b2(a2) +c1"),
    ],
)
@story
async def test_a_failed_start_is_raised_and_then_tried_again(
    strategy: Strategy, after: str
) -> None:
    record = Record()
    a, c = cast(record, "ac")
    b = Actor(record, "b", fails_starts=(1,))
    script = Script((a, ""))
    async with open_system(script, strategy=strategy, breaker=Ledger(record)) as tree:
        record.take()
        script.lines = ((a, ""), (b, "a"), (c, ""))
        record(f"b:{await answer(tree.replay())}")
        await soon()
        facts = record.take_order().split()
        facts.remove("b:ChildFailure")
        assert facts == [fact for fact in after.split() if fact != "b:ChildFailure"]
        assert listed(tree) == "a=running b=running c=running"


@every_strategy
@story
async def test_the_failure_has_the_cause_and_the_next_attempt_waits_for_the_backoff(
    strategy: Strategy,
) -> None:
    record = Record()
    (a,) = cast(record, "a")
    b = Actor(record, "b", fails_starts=(2,))
    wait = Backoff(lambda _: 3.0)
    script = Script((a, ""), b.child(backoff=wait))
    async with open_system(script, strategy=strategy) as tree:
        record.take()
        script.lines = ((a, ""), b.child("new", backoff=wait))
        with pytest.raises(ChildFailure) as caught:
            await tree.replay()
        assert isinstance(caught.value.__cause__, Boom)
        assert trio.current_time() == 0
        await trio.sleep(9)
        assert (3, "+b3(new)") in record.facts
        assert listed(tree) == "a=running b=running"


@every_strategy
@story
async def test_the_next_attempt_goes_on_with_the_changes(strategy: Strategy) -> None:
    """What lies behind the child that failed has not been looked at yet."""
    record = Record()
    a = Actor(record, "a", fails_starts=(2,))
    (b,) = cast(record, "b")
    script = Script(a.child(), b.child())
    async with open_system(script, strategy=strategy) as tree:
        script.lines = (a.child("new"), b.child("new"))
        assert await answer(tree.replay()) == "ChildFailure"
        await soon()
        assert record.take_order().endswith("+a3(new) +b2(new)") or strategy != "one_for_all"
        assert (a.runs, b.runs) == (3, 2)
        assert listed(tree) == "a=running b=running"


@every_strategy
@story
async def test_a_refused_attempt_escalates(strategy: Strategy) -> None:
    record = Record()
    (a,) = cast(record, "a")
    b = Actor(record, "b", fails_starts=(1,))
    script = Script((a, ""))
    with pytest.raises(TooManyRestarts) as caught:
        async with open_system(script, strategy=strategy, breaker=Ledger(record, 0)) as tree:
            script.lines = ((a, ""), (b, ""))
            record(await answer(tree.replay()))
            await trio.sleep_forever()
    assert caught.value.path == "system/b"
    assert sorted(record.order.split()) == sorted("+a1 !b1 ?b:no ChildFailure -a1".split())


@every_strategy
@story
async def test_a_system_function_that_raises_is_a_failed_attempt(strategy: Strategy) -> None:
    record = Record()
    a, b = cast(record, "ab")
    script = Script((a, ""), (b, ""))
    async with open_system(script, strategy=strategy, breaker=Ledger(record)) as tree:
        script.error = Boom("in the system")
        with pytest.raises(NonChildFailure) as caught:
            await tree.replay()
        assert caught.value.__cause__ is script.error
        script.error = None
        await soon()
        assert record.order.split().count("?a") == 1
        assert listed(tree) == "a=running b=running"


class Faulty:
    """A breaker that cannot answer."""

    def __call__(self) -> Faulty:
        return self

    def may_restart(self, key: str, now: float) -> bool:
        raise LookupError(key)


@every_strategy
@story
async def test_a_breaker_that_raises_about_a_replay_escalates(strategy: Strategy) -> None:
    record = Record()
    (a,) = cast(record, "a")
    b = Actor(record, "b", fails_starts=(1,))
    script = Script((a, ""))
    inner = SystemSupervisor(script, strategy=strategy, breaker=Faulty())
    async with open_system([Child("inner", inner, restart="temporary")]) as tree:
        handle = tree.child("inner").value
        script.lines = ((a, ""), (b, ""))
        child = tree.child("inner")
        assert await answer(handle.replay()) == "ChildFailure"
        report = await child.wait()
        assert type(report.exception).__name__ == "UnrecoverableFailure"
        assert record.order == "+a1 !b1 -a1"


# other things going on


@every_strategy
@story
async def test_a_replay_cures_what_waits_for_a_backoff(strategy: Strategy) -> None:
    record = Record()
    a, b, c = cast(record, "abc")
    slow = Backoff(lambda _: 100.0)
    lines = (a.child(), b.child(backoff=slow), c.child())
    async with open_system(Script(*lines), strategy=strategy) as tree:
        b.die()
        await trio.sleep(1)
        record.take()
        await tree.replay()
        up = {"one_for_one": "+b2", "rest_for_one": "+b2 +c2", "one_for_all": "+a2 +b2 +c2"}
        assert record.take() == [(1, fact) for fact in up[strategy].split()]
        await trio.sleep(500)
        assert record.take() == []


@every_strategy
@story
async def test_one_that_waits_for_a_backoff_and_is_missing_never_comes_back(
    strategy: Strategy,
) -> None:
    record = Record()
    a, b = cast(record, "ab")
    script = Script(a.child(), b.child(backoff=Backoff(lambda _: 100.0)))
    async with open_system(script, strategy=strategy) as tree:
        b.die()
        await trio.sleep(1)
        script.lines = (a.child(),)
        await tree.replay()
        await trio.sleep(500)
        assert (b.runs, listed(tree)) == (1, "a=running")


@story
async def test_a_child_that_is_being_restarted_is_waited_for() -> None:
    record = Record()
    a = Actor(record, "a", start_takes=3)
    (b,) = cast(record, "b")
    async with open_system(Script((a, ""), (b, "a")), strategy="one_for_one") as tree:
        record.take()
        a.die()
        await trio.sleep(1)
        await tree.replay()
        assert record.take_order() == "-a1 ~a2 +a2 -b1 +b2(a2)"


@every_strategy
@story
async def test_a_child_that_a_call_starts_is_waited_for(strategy: Strategy) -> None:
    record = Record()
    a = Actor(record, "a", start_takes=3)
    (b,) = cast(record, "b")
    async with (
        open_system(Script((a, ""), (b, "a")), strategy=strategy) as tree,
        trio.open_nursery() as nursery,
    ):
        await tree.terminate_child("a")
        record.take()
        Desk(record, nursery).call("again", tree.restart_child, "a")
        await trio.sleep(1)
        await tree.replay()
        facts = record.take_order().split()
        facts.remove("again:ok")
        assert facts == "~a2 +a2 -b1 +b2(a2)".split()


@pytest.mark.parametrize("cancels", [False, True])
@every_strategy
@story
async def test_a_start_that_a_replay_waits_for_may_come_to_nothing(
    strategy: Strategy, cancels: bool
) -> None:
    """It fails, which is a failure of the replay, too; or its caller takes it back."""
    record = Record()
    a = Actor(record, "a", start_takes=3, fails_starts=() if cancels else (1,))
    (b,) = cast(record, "b")
    script = Script((b, ""))
    async with (
        open_system(script, strategy=strategy) as tree,
        trio.open_nursery() as nursery,
    ):
        scope = Desk(record, nursery).call("start", tree.start_child, a.child())
        await trio.sleep(1)
        script.lines = ((b, ""), (a, ""))
        Desk(record, nursery).call("replay", tree.replay)
        await trio.sleep(1)
        if cancels:
            scope.cancel()
        await trio.sleep(9)
        facts = [fact for _, fact in record.facts if ":" in fact]
        told = ["start:ChildFailure", "replay:ChildFailure"]
        assert sorted(facts) == sorted(["start:cancelled", "replay:ok"] if cancels else told)
        assert listed(tree) == "b=running a=running"
    assert (a.alive, b.alive) == (0, 0)


@story
async def test_a_start_that_a_replay_waits_for_cannot_call_the_supervisor() -> None:
    record = Record()
    known: list[SystemHandle] = []
    (b,) = cast(record, "b")

    async def caller(*, task_status: trio.TaskStatus[None]) -> None:
        if known:
            await trio.sleep(2)
            record(await answer(known[0].terminate_child("b")))
        task_status.started()
        await trio.sleep_forever()

    lines = (b.child(), Child("caller", caller))
    async with (
        open_system(Script(*lines), strategy="one_for_one") as tree,
        trio.open_nursery() as nursery,
    ):
        record.take()
        await tree.terminate_child("caller")
        known.append(tree)
        nursery.start_soon(tree.restart_child, "caller")
        await trio.sleep(1)
        await tree.replay()
        assert record.take() == [(2, "WouldDeadlock")]


@every_strategy
@story
async def test_a_child_that_is_being_terminated_comes_back(strategy: Strategy) -> None:
    record = Record()
    a = Actor(record, "a", cleanup=3)
    (b,) = cast(record, "b")
    async with (
        open_system(Script((a, ""), (b, "a")), strategy=strategy) as tree,
        trio.open_nursery() as nursery,
    ):
        record.take()
        Desk(record, nursery).call("end", tree.terminate_child, "a")
        await trio.sleep(1)
        await tree.replay()
        facts = record.take_order().split()
        facts.remove("end:ok")
        assert facts == "-a1 +a2 -b1 +b2(a2)".split()


@every_strategy
@story
async def test_one_that_is_being_restarted_by_hand_when_it_changes(strategy: Strategy) -> None:
    record = Record()
    a = Actor(record, "a", cleanup=3)
    script = Script(a.child())
    async with (
        open_system(script, strategy=strategy) as tree,
        trio.open_nursery() as nursery,
    ):
        Desk(record, nursery).call("again", tree.child("a").restart)
        await trio.sleep(1)
        script.lines = (a.child("new"),)
        await tree.replay()
        await trio.sleep(9)
        facts = record.take_order().split()
        facts.remove("again:ok")
        assert facts == "+a1 -a1 +a2(new)".split()


@every_strategy
@story
async def test_one_that_is_being_restarted_by_hand_when_it_goes(strategy: Strategy) -> None:
    record = Record()
    (b,) = cast(record, "b")
    a = Actor(record, "a", cleanup=3)
    script = Script(a.child(), b.child())
    async with (
        open_system(script, strategy=strategy) as tree,
        trio.open_nursery() as nursery,
    ):
        Desk(record, nursery).call("again", tree.child("a").restart)
        await trio.sleep(1)
        script.lines = (b.child(),)
        await tree.replay()
        await trio.sleep(9)
        assert "again:SupervisorStopped" in record.order
        assert (a.runs, b.alive, listed(tree)) == (1, 1, "b=running")


@every_strategy
@story
async def test_a_stop_interrupts_it(strategy: Strategy) -> None:
    record = Record()
    (a,) = cast(record, "a")
    b = Actor(record, "b", start_takes=5)
    script = Script((a, ""))
    async with (
        open_system(script, strategy=strategy) as tree,
        trio.open_nursery() as nursery,
    ):
        record.take()
        script.lines = ((a, ""), (b, ""))
        desk = Desk(record, nursery)
        desk.call("one", tree.replay)
        await trio.sleep(1)
        desk.call("two", tree.replay)
        await trio.sleep(1)
        await tree.stop()
        desk.call("three", tree.replay)
        await trio.sleep(9)
        answers = [fact for fact in record.order.split() if ":" in fact]
        assert sorted(answers) == [
            "one:Interrupted",
            "three:SupervisorStopped",
            "two:SupervisorStopped",
        ]


@every_strategy
@story
async def test_an_abort_answers_it(strategy: Strategy) -> None:
    record = Record()
    b = Actor(record, "b", start_takes=5)
    script = Script()
    async with (
        open_system(script, strategy=strategy) as tree,
        trio.open_nursery() as nursery,
    ):
        script.lines = ((b, ""),)
        Desk(record, nursery).call("one", tree.replay)
        await trio.sleep(1)
        tree.abort()
        await trio.sleep(9)
        assert record.facts[0] == (0, "~b1")
        assert sorted(fact for _, fact in record.facts[1:]) in (
            ["-b1", "one:SupervisorStopped"],
            ["-b1", "one:Interrupted"],
        )


@every_strategy
@story
async def test_two_at_once_are_both_answered(strategy: Strategy) -> None:
    record = Record()
    a = Actor(record, "a", start_takes=2)
    script = Script()
    async with open_system(script, strategy=strategy) as tree, trio.open_nursery() as nursery:
        script.lines = ((a, ""),)
        desk = Desk(record, nursery)
        desk.call("r", tree.replay)
        desk.call("r", tree.replay)
        await trio.sleep(1)
        script.lines = (a.child("new"),)
        desk.call("last", tree.replay)
        await trio.sleep(9)
        starts = [fact for fact in record.facts if ":" not in fact[1]]
        assert starts == [(0, "~a1"), (2, "+a1"), (2, "-a1"), (2, "~a2"), (4, "+a2(new)")]
        answers = [fact for fact in record.facts if ":" in fact[1]]
        assert answers[-1] == (4, "last:ok")
        assert [fact for _, fact in answers] == ["r:ok", "r:ok", "last:ok"]


@every_strategy
@story
async def test_a_cancelled_caller_leaves_nothing_half_changed(strategy: Strategy) -> None:
    record = Record()
    a = Actor(record, "a", start_takes=2)
    (b,) = cast(record, "b")
    script = Script()
    async with open_system(script, strategy=strategy) as tree:
        script.lines = ((a, ""), (b, "a"))
        with trio.move_on_after(1):
            await tree.replay()
        assert trio.current_time() == 1
        await trio.sleep(9)
        assert record.facts == [(0, "~a1"), (2, "+a1"), (2, "+b1(a1)")]
        with trio.CancelScope() as scope:
            scope.cancel()
            script.lines = ()
            await tree.replay()
        await trio.sleep(9)
        assert listed(tree) == "a=running b=running"


@every_strategy
@story
async def test_the_system_function_cannot_ask_for_it(strategy: Strategy) -> None:
    record = Record()
    known: list[SystemHandle] = []

    async def system(scope: Scope) -> None:
        for handle in known:
            record(await answer(handle.replay()))

    async with open_system(system, strategy=strategy) as tree:
        known.append(tree)
        await tree.replay()
        assert record.take_order() == "WouldDeadlock"


@every_strategy
@story
async def test_a_nested_system_is_replayed_alone(strategy: Strategy) -> None:
    record = Record()
    a, b, c = cast(record, "abc")
    script = Script((b, ""))
    inner = SystemSupervisor(script, strategy=strategy)
    async with open_system([a.child(), Child("inner", inner)], strategy=strategy) as tree:
        record.take()
        script.lines = ((c, ""),)
        await tree.replay()
        assert record.take() == []
        await tree.child("inner").value.replay()
        assert record.take_order() == "+c1 -b1"


@story
async def test_the_breaker_of_a_changed_child_is_the_new_one() -> None:
    record = Record()
    (a,) = cast(record, "a")
    script = Script(a.child(breaker=Ledger(record, 1), on_unrecoverable="discard"))
    async with open_system(script, strategy="one_for_one") as tree:
        a.die()
        await soon()
        script.lines = (a.child(breaker=Ledger(record, 1), on_unrecoverable="discard"),)
        await tree.replay()
        record.take()
        a.die()
        await soon()
        assert record.take_order() == "-a3 ?a +a4"


# other supervisors: a partition supervisor's replay is told in test_partitions


@story
async def test_a_dynamic_supervisor_has_nothing_to_replay() -> None:
    from pools import open_pool

    async with open_pool() as pool:
        with pytest.raises(TypeError, match=r"pool.*DynamicSupervisor.*declare"):
            await pool.replay()
        assert pool.status == "running"
