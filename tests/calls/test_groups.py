"""Children added and removed by calls, and the restarts of groups they belong to."""

from __future__ import annotations

import pytest
import tenacity
import trio

from actors import LISTENS, STAYS, Actor, cast, no_start
from callers import answer, listed, status_of
from spry_py import (
    Backoff,
    Child,
    Ignore,
    Scope,
    Strategy,
    SystemSupervisor,
    TooManyRestarts,
    open_system,
)
from stories import Ledger, Record, story


class Shop:
    """A system of two declared actors that counts how often it was run."""

    def __init__(self, record: Record) -> None:
        self.a, self.b = cast(record, "ab", LISTENS)
        self.runs = 0

    async def __call__(self, scope: Scope) -> None:
        self.runs += 1
        value = await scope.start(self.a.child())
        await scope.start(self.b.child(value))


@story
async def test_added_children_follow_the_declared_ones_in_a_restart_of_all() -> None:
    record = Record()
    shop = Shop(record)
    c, d = cast(record, "cd", LISTENS)
    async with open_system(shop, strategy="one_for_all", breaker=Ledger(record)) as tree:
        await tree.start_child(c.child())
        await tree.start_child(d.child())
        record.take()
        shop.a.die()
        await trio.sleep(1)
        assert record.take_order() == "-a1 ?a -d1 -c1 -b1 +a2 +b2(a#2) +c2 +d2"
        d.die()
        await trio.sleep(1)
        assert record.take_order() == "-d2 ?d -c2 -b2 -a2 +a3 +b3(a#3) +c3 +d3"
        assert listed(tree) == "a=running b=running c=running d=running"
        assert shop.runs == 3
    assert record.order == "-d3 -c3 -b3 -a3"


@pytest.mark.parametrize("strategy", ["rest_for_one", "one_for_all"])
@pytest.mark.parametrize("end", ["normal", "discarded"])
@story
async def test_where_only_added_ones_are_down_the_system_is_not_run(
    strategy: Strategy, end: str
) -> None:
    """A declared child that is done is not down: no replay would start it."""
    record = Record()
    a, c, d = cast(record, "acd")
    runs = 0

    async def system(scope: Scope) -> None:
        nonlocal runs
        runs += 1
        await scope.start(
            a.child(restart="transient", recoverable=lambda _: False, on_unrecoverable="discard")
        )

    async with open_system(system, strategy=strategy) as tree:
        await tree.start_child(c.child())
        await tree.start_child(d.child())
        if end == "normal":
            a.stop()
        else:
            a.die()
        await trio.sleep(1)
        record.take()
        c.die()
        await trio.sleep(1)
        assert record.take_order() == "-c1 -d1 +c2 +d2"
        assert listed(tree) == "a=done c=running d=running"
        assert runs == 1


@story
async def test_a_restart_of_the_rest_takes_the_added_ones_along() -> None:
    record = Record()
    shop = Shop(record)
    c, d = cast(record, "cd", LISTENS)
    async with open_system(shop, strategy="rest_for_one") as tree:
        await tree.start_child(c.child())
        await tree.start_child(d.child())
        record.take()
        shop.b.die()
        await trio.sleep(1)
        assert record.take_order() == "-b1 -d1 -c1 +b2(a#1) +c2 +d2"
        assert shop.runs == 2


@story
async def test_the_system_is_not_run_when_no_declared_child_is_down() -> None:
    record = Record()
    shop = Shop(record)
    c, d, e = cast(record, "cde", LISTENS)
    async with open_system(shop, strategy="rest_for_one") as tree:
        for actor in (c, d, e):
            await tree.start_child(actor.child())
        record.take()
        d.die()
        await trio.sleep(1)
        assert record.take_order() == "-d1 -e1 +d2 +e2"
        assert shop.runs == 1
        assert listed(tree) == "a=running b=running c=running d=running e=running"


@pytest.mark.parametrize("strategy", ["rest_for_one", "one_for_all"])
@story
async def test_an_added_temporary_child_that_is_swept_along_is_gone(strategy: Strategy) -> None:
    record = Record()
    shop = Shop(record)
    c, d = cast(record, "cd", LISTENS)
    async with open_system(shop, strategy=strategy) as tree:
        await tree.start_child(c.child(restart="temporary"))
        await tree.start_child(d.child(restart="transient"))
        shop.b.die()
        await trio.sleep(1)
        assert listed(tree) == "a=running b=running d=running"
        assert (c.runs, d.runs) == (1, 2)


@pytest.mark.parametrize("strategy", ["rest_for_one", "one_for_all"])
@story
async def test_a_replay_starts_what_was_terminated_but_not_what_is_done_or_deleted(
    strategy: Strategy,
) -> None:
    record = Record()
    actors = {key: Actor(record, key, LISTENS) for key in "abcdefg"}
    values: list[object] = []

    async def system(scope: Scope) -> None:
        values[:] = [await scope.start(actors[key].child(restart="transient")) for key in "abcd"]

    async with open_system(system, strategy=strategy) as tree:
        for key in "efg":
            await tree.start_child(actors[key].child(restart="transient"))
        actors["b"].stop()
        actors["f"].stop()
        await trio.sleep(1)
        for key in "cdeg":
            await tree.terminate_child(key)
        await tree.delete_child("d")
        await tree.delete_child("g")
        assert listed(tree) == "a=running b=done c=stopped e=stopped f=done"
        record.take()
        actors["a"].die()
        await trio.sleep(1)
        assert record.take_order() == "-a1 +a2 +c2 +e2"
        assert values == ["a#2", None, "c#2", None]
        assert listed(tree) == "a=running b=done c=running e=running f=done"


@story
async def test_a_replay_starts_also_what_was_terminated_before_its_pivot() -> None:
    record = Record()
    a, b, c = cast(record, "abc", LISTENS)
    children = [a.child(), b.child(), c.child()]
    async with open_system(children, strategy="rest_for_one") as tree:
        await tree.terminate_child("a")
        record.take()
        b.die()
        await trio.sleep(1)
        assert record.take_order() == "-b1 -c1 +a2 +b2 +c2"


@story
async def test_an_added_child_that_was_left_out_is_tried_again_with_its_group() -> None:
    record = Record()
    (a,) = cast(record, "a", LISTENS)
    c = Actor(record, "c", [Ignore], STAYS)
    async with open_system([a.child()], strategy="one_for_all") as tree:
        await tree.start_child(c.child())
        a.die()
        await trio.sleep(1)
        assert record.take_order() == "+a1 /c1 -a1 +a2 +c2"
        assert listed(tree) == "a=running c=running"


@story
async def test_an_added_child_that_cannot_start_again_fails_the_attempt() -> None:
    record = Record()
    (a,) = cast(record, "a", LISTENS)
    c = Actor(record, "c", LISTENS, [no_start], LISTENS)
    d = Actor(record, "d", LISTENS)
    async with open_system([a.child()], strategy="one_for_all", breaker=Ledger(record)) as tree:
        await tree.start_child(c.child())
        await tree.start_child(d.child())
        record.take()
        a.die()
        await trio.sleep(1)
        assert record.take_order() == "-a1 ?a -d1 -c1 +a2 !c2 -a2 ?c +a3 +c3 +d2"
        assert listed(tree) == "a=running c=running d=running"


@story
async def test_under_rest_for_one_the_next_attempt_goes_on_from_there() -> None:
    record = Record()
    (a,) = cast(record, "a", LISTENS)
    c = Actor(record, "c", LISTENS, [no_start], LISTENS)
    async with open_system([a.child()], strategy="rest_for_one", breaker=Ledger(record)) as tree:
        await tree.start_child(c.child())
        record.take()
        a.die()
        await trio.sleep(1)
        assert record.take_order() == "-a1 ?a -c1 +a2 !c2 ?c +c3"
        assert listed(tree) == "a=running c=running"


@pytest.mark.parametrize("strategy", ["rest_for_one", "one_for_all"])
@story
async def test_an_added_child_that_never_starts_again_escalates(strategy: Strategy) -> None:
    record = Record()
    (a,) = cast(record, "a", LISTENS)
    c = Actor(record, "c", LISTENS, [no_start])
    with pytest.raises(TooManyRestarts) as caught:
        async with open_system([a.child()], strategy=strategy, name="top") as tree:
            await tree.start_child(c.child())
            c.die()
            await trio.sleep_forever()
    assert caught.value.path == "top/c"
    assert c.runs == 4


@pytest.mark.parametrize("strategy", ["rest_for_one", "one_for_all"])
@story
async def test_a_backoff_of_an_added_child_holds_its_group(strategy: Strategy) -> None:
    record = Record()
    a, b = cast(record, "ab", LISTENS)
    c, d = cast(record, "cd", LISTENS)
    async with open_system([a.child(), b.child()], strategy=strategy) as tree:
        await tree.start_child(c.child(backoff=Backoff(tenacity.wait_fixed(4))))
        await tree.start_child(d.child())
        record.take()
        c.die()
        await trio.sleep(1)
        down = {"rest_for_one": "-c1 -d1", "one_for_all": "-c1 -d1 -b1 -a1"}[strategy]
        assert record.take_order() == down
        await trio.sleep(9)
        up = {"rest_for_one": "+c2 +d2", "one_for_all": "+a2 +b2 +c2 +d2"}[strategy]
        assert {moment for moment, _ in record.facts} == {4}
        assert record.take_order() == up


@story
async def test_restart_child_moves_no_consumer() -> None:
    """It starts that child alone; only a replay hands its new value on."""
    record = Record()
    shop = Shop(record)
    async with open_system(shop, strategy="rest_for_one") as tree:
        await tree.terminate_child("a")
        await tree.restart_child("a")
        assert record.take_order() == "+a1 +b1(a#1) -a1 +a2"
        assert (listed(tree), shop.runs) == ("a=running b=running", 1)
        shop.b.die()
        await trio.sleep(1)
        assert record.take_order() == "-b1 +b2(a#2)"


@story
async def test_added_children_are_gone_with_their_supervisors_incarnation() -> None:
    record = Record()
    shop = Shop(record)
    (c,) = cast(record, "c", LISTENS)
    sub = Child("sub", SystemSupervisor(shop, breaker=Ledger(record, allows=0)))
    async with open_system([sub], strategy="one_for_one") as tree:
        inner = tree.child("sub").value
        handle = await inner.start_child(c.child())
        shop.a.die()
        await trio.sleep(1)
        assert record.order == "+a1 +b1(a#1) +c1 -a1 ?a:no -c1 -b1 +a2 +b2(a#2)"
        assert listed(inner) == "a=running b=running"
        assert handle.status == "stopped"
        assert await answer(handle.terminate()) == "ChildNotFound"
        assert await answer(inner.start_child(c.child())) == "ok"
        assert (handle.status, handle.incarnation, handle.value) == ("running", 1, "c#2")


@story
async def test_a_replay_that_declares_an_added_key_takes_it_over() -> None:
    record = Record()
    a, b, c = cast(record, "abc", LISTENS)
    keys = ["a"]
    actors = {"a": a, "b": b, "c": c}

    async def system(scope: Scope) -> None:
        for key in keys:
            await scope.start(actors[key].child())

    async with open_system(system, strategy="rest_for_one") as tree:
        await tree.start_child(b.child())
        await tree.start_child(c.child())
        keys.append("c")
        a.die()
        await trio.sleep(1)
        assert record.order == "+a1 +b1 +c1 -a1 -c1 -b1 +a2 +c2 +b2"
        assert listed(tree) == "a=running c=running b=running"


@pytest.mark.parametrize("strategy", ["rest_for_one", "one_for_all"])
@story
async def test_a_declared_key_deleted_and_added_is_an_added_one(strategy: Strategy) -> None:
    record = Record()
    a, b, c = cast(record, "abc", LISTENS)
    children = [a.child(), b.child(), c.child()]
    async with open_system(children, strategy=strategy) as tree:
        await tree.terminate_child("b")
        await tree.delete_child("b")
        await tree.start_child(b.child("new"))
        assert listed(tree) == "a=running c=running b=running"
        record.take()
        c.die()
        await trio.sleep(1)
        assert (status_of(tree, "b"), b.runs) == ("running", 3)
        assert record.order.count("+b3") == 1
        assert (a.is_running, b.is_running, c.is_running) == (True, True, True)
