"""`SystemHandle.replay`: a running system is made to be what it declares now."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import trio

from actors import LISTENS, STAYS, Actor, cast
from callers import listed
from listeners import Heard
from pools import open_pool
from replays import Wanted, every_strategy
from spry_py import (
    AlwaysRestart,
    Child,
    ChildNotFound,
    DynamicSupervisor,
    Ignore,
    Scope,
    Strategy,
    SystemSupervisor,
    open_system,
)
from stories import Ledger, Record, story
from workers import calm


@every_strategy
@story
async def test_nothing_changed_nothing_happens(strategy: Strategy) -> None:
    record = Record()
    a, b = cast(record, "ab")
    async with open_system(Wanted((a, ""), (b, "a")), strategy=strategy) as tree:
        record.take()
        await tree.replay()
        assert record.take() == []
        assert [info.incarnation for info in tree.which_children()] == [1, 1]


@every_strategy
@story
async def test_new_keys_start_in_their_declared_place(strategy: Strategy) -> None:
    record = Record()
    a, b, c, d, e = cast(record, "abcde")
    wanted = Wanted((b, ""), (d, ""))
    async with open_system(wanted, strategy=strategy) as tree:
        record.take()
        wanted.lines = ((a, ""), (b, ""), (c, "ab"), (d, ""), (e, ""))
        await tree.replay()
        assert record.take_order() == "+a1 +c1(a#1,b#1) +e1"
        assert listed(tree) == "a=running b=running c=running d=running e=running"
    assert record.order == "-e1 -d1 -c1 -b1 -a1"


@every_strategy
@story
async def test_missing_keys_stop_in_reverse_after_the_new_ones_have_started(
    strategy: Strategy,
) -> None:
    record = Record()
    a, b, c, d = cast(record, "abcd")
    wanted = Wanted((a, ""), (b, ""), (c, ""))
    async with open_system(wanted, strategy=strategy) as tree:
        record.take()
        wanted.lines = ((b, ""), (d, ""))
        await tree.replay()
        assert record.take_order() == "+d1 -c1 -a1"
        assert listed(tree) == "b=running d=running"
        wanted.lines = ((a, ""), (b, ""))
        await tree.replay()
        assert record.take_order() == "+a2 -d1"
        assert tree.child("a").incarnation == 1


@every_strategy
@story
async def test_a_changed_child_is_started_anew_and_its_value_flows_on(strategy: Strategy) -> None:
    record = Record()
    a, b, c, d = cast(record, "abcd")
    wanted = Wanted(a.child("old"), (b, "a"), (c, ""), (d, "b"))
    async with open_system(wanted, strategy=strategy, breaker=Ledger(record)) as tree:
        record.take()
        wanted.lines = (a.child("new"), *wanted.lines[1:])
        await tree.replay()
        assert record.take_order() == "-a1 +a2(new) -b1 +b2(a#2) -d1 +d2(b#2)"
        numbers = {info.key: info.incarnation for info in tree.which_children()}
        assert numbers == {"a": 2, "b": 2, "c": 1, "d": 2}


@every_strategy
@pytest.mark.parametrize("option", [{"shutdown": 7}, {"restart": "transient"}, {"heartbeat": 9}])
@story
async def test_an_option_is_a_change_too(option: dict[str, Any], strategy: Strategy) -> None:
    record = Record()
    a, b = cast(record, "ab")
    wanted = Wanted(a.child(), b.child())
    async with open_system(wanted, strategy=strategy) as tree:
        record.take()
        wanted.lines = (a.child(), b.child(**option))
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

    wanted = Wanted(*lines())
    async with open_system(wanted, strategy=strategy) as tree:
        record.take()
        wanted.lines = lines()
        await tree.replay()
        assert record.take() == []
        wanted.lines = lines(strategy="one_for_one")
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
        assert record.take_order() == "-a1 +a2(2) -c1 +c2(a#2)"


@every_strategy
@story
async def test_those_started_together_that_change_together_are_stopped_in_reverse(
    strategy: Strategy,
) -> None:
    record = Record()
    a, b = cast(record, "ab")
    version = 1

    async def system(scope: Scope) -> None:
        await scope.start_together(a.child(version), b.child(version))

    async with open_system(system, strategy=strategy) as tree:
        record.take()
        version = 2
        await tree.replay()
        facts = record.take_order().split()
        assert (facts[:2], sorted(facts[2:])) == (["-b1", "-a1"], ["+a2(2)", "+b2(2)"])


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
    wanted = Wanted((a, ""))
    async with open_system(wanted, strategy=strategy) as tree:
        await tree.start_child(x.child())
        record.take()
        wanted.lines = ((a, ""), (b, ""))
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
    async with open_system(Wanted(*lines), strategy=strategy) as tree:
        a.stop()
        b.stop()
        await calm()
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
    wanted = Wanted(a.child(restart="transient"))
    async with open_system(wanted, strategy=strategy) as tree:
        a.stop()
        await calm()
        record.take()
        wanted.lines = (a.child("new", restart="transient"),)
        await tree.replay()
        assert record.take_order() == "+a2(new)"


@every_strategy
@story
async def test_one_that_was_left_out_is_tried_again(strategy: Strategy) -> None:
    record = Record()
    a = Actor(record, "a", [Ignore], [Ignore], STAYS)
    async with open_system(Wanted(a.child()), strategy=strategy) as tree:
        await tree.replay()
        assert listed(tree) == "a=ignored"
        await tree.replay()
        assert listed(tree) == "a=running"
        assert record.order == "/a1 /a2 +a3"


# other supervisors: a partition supervisor's replay is told in test_partitions


@story
async def test_a_dynamic_supervisor_has_nothing_to_replay() -> None:
    async with open_pool() as pool:
        with pytest.raises(TypeError, match=r"pool.*DynamicSupervisor.*declare"):
            await pool.replay()
        assert pool.status == "running"


class Column:
    """As in a table or a query: what `==` gives is no truth."""

    def __eq__(self, other: object) -> Any:
        return self

    __hash__ = None  # type: ignore[assignment]


class Array(Column):
    """One whose answer refuses to be a truth."""

    def __bool__(self) -> bool:
        raise ValueError("the truth of several values is ambiguous")


class Incomparable(Array):
    """One that may not even be compared."""

    def __eq__(self, other: object) -> Any:
        raise LookupError("incomparable")

    __hash__ = None  # type: ignore[assignment]


@pytest.mark.parametrize("kind", [Column, Array, Incomparable])
@pytest.mark.parametrize("place", ["argument", "inside", "option", "supervisor"])
@every_strategy
@story
async def test_what_cannot_be_compared_has_changed_unless_it_is_the_very_same(
    strategy: Strategy, place: str, kind: type[Column]
) -> None:
    record = Record()
    (before,) = cast(record, "a")
    kept = [kind()]

    async def work(*args: object) -> None:
        record("+work")
        await trio.sleep_forever()

    def factory_of(column: Column) -> Any:
        setattr(type(column), "__call__", lambda self: AlwaysRestart())  # noqa: B010 - of any class
        return column

    async def system(scope: Scope) -> None:
        await scope.start(before.child())
        column = kept[-1]
        children: dict[str, Callable[[], Child[Any]]] = {
            "argument": lambda: Child("work", work, 1, column),
            "inside": lambda: Child("work", work, 1, [column]),
            "option": lambda: Child("work", work, breaker=factory_of(column)),
            "supervisor": lambda: Child("work", DynamicSupervisor(breaker=factory_of(column))),
        }
        await scope.start(children[place]())

    async with open_system(system, strategy=strategy) as tree:
        await tree.replay()
        assert [info.incarnation for info in tree.which_children()] == [1, 1]
        kept.append(kind())
        await tree.replay()
        assert [info.incarnation for info in tree.which_children()] == [1, 2]
        assert tree.child("work").status == "running"


@every_strategy
@story
async def test_a_supervisor_that_becomes_a_worker_has_no_children_any_more(
    strategy: Strategy,
) -> None:
    (leaf,) = cast(Record(), "a")
    wanted = Wanted(Child("part", SystemSupervisor([leaf.child()])))
    async with open_system(wanted, name="top", strategy=strategy) as tree:
        assert tree.find("part/a").path == "top/part/a"
        wanted.lines = (Child("part", trio.sleep_forever),)
        await tree.replay()
        assert [node.path for _, node in tree.snapshot().walk()] == ["top", "top/part"]
        with pytest.raises(ChildNotFound, match=r"'top/part' has no child 'a'; it has none"):
            tree.find("part/a")
        async with tree.follow() as (snapshot, _):
            assert [node.path for _, node in snapshot.walk()] == ["top", "top/part"]


@story
async def test_a_new_order_is_an_event() -> None:
    a, b, c, d, e = cast(Record(), "abcde")
    wanted, heard = Wanted((b, ""), (d, "")), Heard()

    def orders() -> list[str]:
        return [line for line in heard.take() if "SystemOrdered" in line]

    async with trio.open_nursery() as nursery, open_system(wanted, name="top") as tree:
        await nursery.start(heard.listen, tree)
        wanted.lines = ((b, ""), (d, ""), (e, ""))
        await tree.replay()
        await calm()
        assert orders() == [], "who comes last stands last"
        wanted.lines = ((a, ""), (b, ""), (c, ""), (d, ""), (e, ""))
        await tree.replay()
        await calm()
        assert orders() == ["0 SystemOrdered top a b c d e"]
        await tree.start_child(Child("x", trio.sleep_forever))
        await tree.start_child(Child("y", trio.sleep_forever))
        wanted.lines = (*wanted.lines, Child("y", trio.sleep_forever))
        await tree.replay()
        await calm()
        assert orders() == ["0 SystemOrdered top a b c d e y x"]
        await tree.replay()
        await calm()
        assert orders() == []
        assert [info.key for info in tree.which_children()] == list("abcdeyx")


@every_strategy
@story
async def test_a_temporary_child_that_a_call_terminates_stays_away_though_it_has_changed(
    strategy: Strategy,
) -> None:
    record = Record()
    (a,) = cast(record, "a")
    b = Actor(record, "b", LISTENS, cleanup=3)
    wanted = Wanted((a, ""), b.child(restart="temporary"))
    async with (
        open_system(wanted, strategy=strategy) as tree,
        trio.open_nursery() as nursery,
    ):
        record.take()
        nursery.start_soon(tree.terminate_child, "b")
        await trio.sleep(1)
        wanted.lines = ((a, ""), b.child(restart="temporary", shutdown=9))
        await tree.replay()
        assert record.take() == [(3, "-b1")]
        assert listed(tree) == "a=running"
