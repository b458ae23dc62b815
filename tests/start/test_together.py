"""Starting several children at once, ends during a startup, stops during one, stray scopes."""

from __future__ import annotations

import pytest
import trio

from actors import STAYS, Actor, cast, no_start
from callers import listed
from spry_py import (
    Child,
    ChildFailure,
    Ignore,
    Interrupted,
    Scope,
    SupervisorStopped,
    SystemSupervisor,
    open_system,
)
from stories import Boom, Ledger, Record, story


@story
async def test_start_together_starts_at_once_and_argument_order_is_start_order() -> None:
    record = Record()
    a = Actor(record, "a", [3, *STAYS])
    b = Actor(record, "b", [1, *STAYS])
    c = Actor(record, "c", [2, *STAYS])

    async def system(scope: Scope) -> None:
        values = await scope.start_together(a.child(), b.child(), c.child())
        record(f"got {values}")

    async with open_system(system) as tree:
        assert [info.key for info in tree.which_children()] == ["a", "b", "c"]
    assert sorted(record.facts[:3]) == [(0, "~a1"), (0, "~b1"), (0, "~c1")]
    assert record.facts[3:] == [
        (1, "+b1"),
        (2, "+c1"),
        (3, "+a1"),
        (3, "got ('a#1', 'b#1', 'c#1')"),
        (3, "-c1"),
        (3, "-b1"),
        (3, "-a1"),
    ]


@story
async def test_at_the_first_failure_the_group_is_shut_down_in_reverse() -> None:
    record = Record()
    a = Actor(record, "a", cleanup=1)
    b = Actor(record, "b", cleanup=1)
    c = Actor(record, "c", [2, no_start], [2, *STAYS])
    d = Actor(record, "d", [9, *STAYS], cleanup=1)

    async def system(scope: Scope) -> None:
        await scope.start(a.child())
        with pytest.raises(ChildFailure) as caught:
            await scope.start_together(b.child(), c.child(), d.child())
        record(f"failed {caught.value.key}: {caught.value.__cause__}")

    async with open_system(system) as tree:
        assert [info.key for info in tree.which_children()] == ["a"]
    assert record.facts[0] == (0, "+a1")
    assert sorted(record.facts[1:4]) == [(0, "+b1"), (0, "~c1"), (0, "~d1")]
    assert record.facts[4:] == [
        (2, "!c1"),
        (3, "-d1"),
        (4, "-b1"),
        (4, "failed c: no start of c1"),
        (5, "-a1"),
    ]


@story
async def test_an_empty_group_starts_nothing() -> None:
    record = Record()

    async def system(scope: Scope) -> None:
        record(f"got {await scope.start_together()}")

    async with open_system(system):
        pass
    assert record.order == "got ()"


@story
async def test_a_group_is_replayed_as_a_group_with_the_values_of_those_alive() -> None:
    record = Record()
    a, b, c = cast(record, "abc")

    async def system(scope: Scope) -> None:
        values = await scope.start_together(a.child(), b.child())
        await scope.start(c.child(*values))

    async with open_system(system, strategy="rest_for_one"):
        assert sorted(record.take_order().split()) == ["+a1", "+b1", "+c1(a#1,b#1)"]
        b.die()
        await trio.sleep(1)
    assert record.order == "-b1 -c1 +b2 +c2(a#1,b#2) -c2 -b2 -a1"


@story
async def test_ends_seen_during_a_startup_are_decided_when_it_is_over() -> None:
    record = Record()
    ledger = Ledger(record)
    a = Actor(record, "a")
    b = Actor(record, "b", [3, *STAYS])

    async def kill_a() -> None:
        await trio.sleep(1)
        a.die()

    async def system(scope: Scope) -> None:
        await scope.start(a.child())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(kill_a)
            await scope.start(b.child())
        record("startup over")

    async with open_system(system, strategy="one_for_one", breaker=ledger):
        await trio.sleep(1)
    assert record.facts == [
        (0, "+a1"),
        (0, "~b1"),
        (1, "-a1"),
        (3, "+b1"),
        (3, "startup over"),
        (3, "?a"),
        (3, "+a2"),
        (4, "-b1"),
        (4, "-a2"),
    ]


@story
async def test_a_stop_interrupts_a_startup() -> None:
    record = Record()
    a, c = cast(record, "ac")
    b = Actor(record, "b", [10, *STAYS])

    async def system(scope: Scope) -> None:
        await scope.start(a.child())
        with pytest.raises(Interrupted):
            await scope.start(b.child())
        record("interrupted")
        with pytest.raises(SupervisorStopped):
            await scope.start(c.child())
        record("too late")

    with trio.move_on_after(1) as outside:
        async with open_system(system):
            record("never")
    assert outside.cancelled_caught
    assert record.facts[:2] == [(0, "+a1"), (0, "~b1")]
    told = [fact for fact in record.facts[2:] if not fact[1].startswith("-")]
    assert told == [(1, "interrupted"), (1, "too late")]
    assert [fact for fact in record.facts[2:] if fact not in told] == [(1, "-b1"), (1, "-a1")]


@story
async def test_a_stop_interrupts_the_startup_of_a_group() -> None:
    record = Record()
    a = Actor(record, "a")
    b = Actor(record, "b", [10, *STAYS])

    async def system(scope: Scope) -> None:
        with pytest.raises(Interrupted):
            await scope.start_together(a.child(), b.child())
        record("interrupted")

    with trio.move_on_after(1):
        async with open_system(system):
            record("never")
    assert sorted(record.facts[:2]) == [(0, "+a1"), (0, "~b1")]
    assert (1, "interrupted") in record.facts
    downs = [fact for fact in record.facts[2:] if fact != (1, "interrupted")]
    assert downs == [(1, "-b1"), (1, "-a1")]


@story
async def test_a_stop_interrupts_what_else_a_system_function_waits_for() -> None:
    record = Record()
    (a,) = cast(record, "a")

    async def system(scope: Scope) -> None:
        await scope.start(a.child())
        try:
            await trio.sleep(50)
        finally:
            record("woken")

    with trio.move_on_after(1) as outside:
        async with open_system(system):
            record("never")
    assert outside.cancelled_caught
    assert record.facts == [(0, "+a1"), (1, "woken"), (1, "-a1")]


@story
async def test_a_stop_interrupts_a_nested_startup_from_the_inside_out() -> None:
    record = Record()
    a, b = cast(record, "ab")
    slow = Actor(record, "c", [10, *STAYS])

    async def sub(scope: Scope) -> None:
        await scope.start(b.child())
        try:
            await scope.start(slow.child())
        except Interrupted:
            record("sub interrupted")
            raise

    async def top(scope: Scope) -> None:
        await scope.start(a.child())
        try:
            await scope.start(Child("sub", SystemSupervisor(sub)))
        except Interrupted:
            record("top interrupted")
            raise

    with trio.move_on_after(1) as outside:
        async with open_system(top):
            record("never")
    assert outside.cancelled_caught
    assert record.facts[:3] == [(0, "+a1"), (0, "+b1"), (0, "~c1")]
    told = {(1, "sub interrupted"), (1, "top interrupted")}
    assert told < set(record.facts)
    downs = [fact for fact in record.facts[3:] if fact not in told]
    assert downs == [(1, "-c1"), (1, "-b1"), (1, "-a1")]


@story
async def test_a_root_cancelled_while_a_start_fails_lets_only_cancelled_out() -> None:
    record = Record()
    (a,) = cast(record, "a")

    async def sour(*, task_status: trio.TaskStatus[str]) -> None:
        try:
            await trio.sleep(10)
        except trio.Cancelled:
            raise Boom from None

    with trio.move_on_after(1) as outside:
        async with open_system([a.child(), Child("sour", sour)]):
            record("never")
    assert outside.cancelled_caught
    assert record.facts == [(0, "+a1"), (1, "-a1")]


@pytest.mark.parametrize("call", ["start", "start_together"])
@story
async def test_a_scope_is_of_no_use_after_its_system_function_has_returned(call: str) -> None:
    """Neither outside of any run, nor in a later one."""
    record = Record()
    a, b = cast(record, "ab")
    scopes: list[Scope] = []

    async def refuse() -> None:
        with pytest.raises(RuntimeError):
            await getattr(scopes[0], call)(b.child())
        record("refused")

    async def system(scope: Scope) -> None:
        scopes.append(scope)
        await scope.start(a.child())
        if len(scopes) > 1:
            await refuse()

    async with open_system(system):
        await refuse()
        a.die()
        await trio.sleep(1)
    assert record.order == "+a1 refused -a1 +a2 refused -a2"


@story
async def test_a_scope_is_of_no_use_from_two_tasks_at_once() -> None:
    record = Record()
    a = Actor(record, "a", [2, *STAYS])
    b = Actor(record, "b")

    async def system(scope: Scope) -> None:
        async def second() -> None:
            await trio.sleep(1)
            with pytest.raises(RuntimeError):
                await scope.start(b.child())
            record("refused")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(second)
            await scope.start(a.child())
        await scope.start(b.child())

    async with open_system(system):
        pass
    assert record.facts == [
        (0, "~a1"),
        (1, "refused"),
        (2, "+a1"),
        (2, "+b1"),
        (2, "-b1"),
        (2, "-a1"),
    ]


@story
async def test_one_of_a_group_may_leave_itself_out() -> None:
    record = Record()
    (a,) = cast(record, "a", [2, *STAYS])
    shy = Actor(record, "shy", [Ignore], STAYS)
    values: list[object] = []

    async def system(scope: Scope) -> None:
        values.append(await scope.start_together(shy.child(), a.child()))

    async with open_system(system, strategy="one_for_one", breaker=Ledger(record)) as tree:
        assert values == [(None, "a#1")]
        assert listed(tree) == "shy=ignored a=running"
        await tree.replay()
        assert values[1:] == [("shy#2", "a#1")]
