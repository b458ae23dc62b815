"""Admission per key: `start_child(child, on_conflict=…)` of a dynamic supervisor."""

from __future__ import annotations

import pytest
import tenacity
import trio
import trio.testing

from actors import LISTENS, STAYS, Actor, cast, no_start
from callers import Desk, answer, listed
from pools import open_pool
from spry_py import DynamicSupervisor, MaxChildrenReached, RestartType, open_system
from spry_py._spec.options import OnConflict
from stories import Ledger, Record, story
from workers import calm

FIVE = tenacity.wait_fixed(5)
WAYS = ("raise", "replace", "queue", "ignore")


@pytest.mark.parametrize("way", WAYS)
@story
async def test_without_a_conflict_it_is_a_plain_start(way: OnConflict) -> None:
    record = Record()
    a = Actor(record, "a", [2, *STAYS])
    async with open_pool() as pool:
        handle = await pool.start_child(a.child("x"), on_conflict=way)
        assert (handle.path, handle.value, handle.status) == ("pool/a", "a#1", "running")
        assert record.facts == [(0, "~a1"), (2, "+a1(x)")]


@pytest.mark.parametrize("way", WAYS)
@story
async def test_different_keys_never_conflict(way: OnConflict) -> None:
    record = Record()
    a, b = cast(record, "ab", LISTENS)
    async with open_pool() as pool:
        await pool.start_child(a.child(), on_conflict=way)
        await pool.start_child(b.child(), on_conflict=way)
        assert listed(pool) == "a=running b=running"


@pytest.mark.parametrize("way", WAYS)
@story
async def test_a_key_that_has_ended_for_good_is_free(way: OnConflict) -> None:
    record = Record()
    (a,) = cast(record, "a", LISTENS)
    async with open_pool() as pool:
        await pool.start_child(a.child(restart="temporary"))
        a.stop()
        await trio.sleep(1)
        assert (await pool.start_child(a.child(), on_conflict=way)).value == "a#2"


@pytest.mark.parametrize("wrong", ["drop", "", None, 1])
@story
async def test_another_word_is_refused(wrong: object) -> None:
    record = Record()
    (a,) = cast(record, "a")
    async with open_pool() as pool:
        with pytest.raises((TypeError, ValueError), match="on_conflict"):
            await pool.start_child(a.child(), on_conflict=wrong)
        assert listed(pool) == ""


@pytest.mark.parametrize("way", ["replace", "queue", "ignore"])
@pytest.mark.parametrize("is_known", [True, False])
@story
async def test_a_supervisor_that_keeps_what_has_ended_takes_no_other(
    is_known: bool, way: OnConflict
) -> None:
    record = Record()
    a, b = cast(record, "ab", LISTENS)
    async with open_system([a.child()], name="top") as tree:
        with pytest.raises(ValueError, match=f"'raise' for 'top', .* not '{way}'.* Dynamic"):
            await tree.start_child((a if is_known else b).child(), on_conflict=way)
        await tree.start_child(b.child(), on_conflict="raise")
        assert listed(tree) == "a=running b=running"


@story
async def test_raise_is_the_default() -> None:
    record = Record()
    (a,) = cast(record, "a", LISTENS)
    async with open_pool() as pool:
        await pool.start_child(a.child())
        assert await answer(pool.start_child(a.child())) == "ChildAlreadyStarted"
        assert await answer(pool.start_child(a.child(), on_conflict="raise")) == (
            "ChildAlreadyStarted"
        )
        assert (listed(pool), a.runs) == ("a=running", 1)


# ignore


@pytest.mark.parametrize("waits", [False, True])
@story
async def test_ignore_leaves_the_present_one_alone_also_if_it_waits_to_restart(
    waits: bool,
) -> None:
    record = Record()
    (a,) = cast(record, "a", LISTENS)
    async with open_pool() as pool:
        await pool.start_child(a.child("x", backoff=FIVE))
        if waits:
            a.die()
        await trio.sleep(1)
        handle = await pool.start_child(a.child("y"), on_conflict="ignore")
        assert (trio.current_time(), handle.key, handle.incarnation) == (1, "a", 1)
        assert (handle.status, handle.value) == (
            ("restarting", None) if waits else ("running", "a#1")
        )
        await trio.sleep(9)
        again = [(0, "-a1"), (5, "+a2(x)")] if waits else []
        assert (listed(pool), record.take()) == ("a=running", [(0, "+a1(x)"), *again])


@story
async def test_forty_at_once_and_only_one_runs() -> None:
    record = Record()
    a = Actor(record, "a", [1, *STAYS])
    async with open_pool() as pool:
        async with trio.open_nursery() as nursery:
            for _ in range(40):
                nursery.start_soon(lambda: pool.start_child(a.child(), on_conflict="ignore"))
        await trio.sleep(5)
        assert (a.runs, listed(pool)) == (1, "a=running")


# replace


@story
async def test_replace_stops_the_present_one_first() -> None:
    record = Record()
    a = Actor(record, "a", [1, *LISTENS], cleanup=2)
    ledger = Ledger(record)
    async with open_pool(breaker=ledger) as pool:
        await pool.start_child(a.child("x"))
        record.take()
        handle = await pool.start_child(a.child("y"), on_conflict="replace")
        assert (handle.value, handle.status) == ("a#2", "running")
        assert record.take() == [(3, "-a1"), (3, "~a2"), (4, "+a2(y)")]
        a.die()
        await trio.sleep(9)
        assert record.take_order() == "-a2 ?a ~a3 +a3(y)"


@pytest.mark.parametrize("starts", [False, True])
@story
async def test_replace_ends_a_backoff_and_a_start(starts: bool) -> None:
    record = Record()
    a = Actor(record, "a", [3, *STAYS] if starts else STAYS, STAYS)
    async with open_pool() as pool, trio.open_nursery() as nursery:
        Desk(record, nursery).call("first", pool.start_child, a.child("x", backoff=FIVE))
        await calm()
        if not starts:
            a.die()
        await trio.sleep(1)
        handle = await pool.start_child(a.child("y"), on_conflict="replace")
        assert handle.value == "a#2"
        await trio.sleep(9)
        if starts:
            # which of the two callers comes back first is trio's choice
            record.facts.remove((1, "first:Interrupted"))
            assert record.take() == [(0, "~a1"), (1, "-a1"), (1, "+a2(y)")]
        else:
            told = [(0, "+a1(x)"), (0, "first:ok"), (0, "-a1"), (1, "+a2(y)")]
            assert record.take() == told


@story
async def test_fifty_replace_each_other_and_one_is_left() -> None:
    record = Record()
    a = Actor(record, "a", LISTENS, cleanup=1)
    async with open_pool() as pool:
        async with trio.open_nursery() as nursery:
            desk = Desk(record, nursery)
            for number in range(50):
                desk.call(str(number), pool.start_child, a.child(number), on_conflict="replace")
                await trio.testing.wait_all_tasks_blocked()
        await trio.sleep(100)
        assert (listed(pool), a.is_running) == ("a=running", True)
        begun = [fact for _, fact in record.facts if fact.startswith("+")]
        assert begun[-1] == f"+a{a.runs}(49)"
        assert "overlap" not in record.order


@story
async def test_a_replacement_that_fails_to_start_leaves_neither() -> None:
    record = Record()
    a = Actor(record, "a", LISTENS, [no_start], LISTENS)
    async with open_pool() as pool:
        await pool.start_child(a.child())
        assert await answer(pool.start_child(a.child(), on_conflict="replace")) == "ChildFailure"
        assert (record.order, listed(pool)) == ("+a1 -a1 !a2", "")


@story
async def test_replacing_needs_no_further_room() -> None:
    record = Record()
    (a,) = cast(record, "a", LISTENS)
    async with open_pool(max_children=1) as pool:
        await pool.start_child(a.child())
        await pool.start_child(a.child(), on_conflict="replace")
        assert (record.order, listed(pool)) == ("+a1 -a1 +a2", "a=running")


@story
async def test_a_cancelled_replacement_has_stopped_the_present_one_and_starts_nothing() -> None:
    record = Record()
    a = Actor(record, "a", LISTENS, cleanup=3)
    async with open_pool() as pool:
        await pool.start_child(a.child())
        with trio.move_on_after(1):
            await pool.start_child(a.child(), on_conflict="replace")
        await trio.sleep(9)
        assert (record.take(), listed(pool)) == ([(0, "+a1"), (3, "-a1")], "")


# queue


@pytest.mark.parametrize("terminates", [False, True])
@story
async def test_queue_waits_for_the_end_of_the_present_one(terminates: bool) -> None:
    record = Record()
    a = Actor(record, "a", LISTENS, cleanup=1)
    async with open_pool() as pool, trio.open_nursery() as nursery:
        restart: RestartType = "permanent" if terminates else "temporary"
        await pool.start_child(a.child("x", restart=restart))
        Desk(record, nursery).call("second", pool.start_child, a.child("y"), on_conflict="queue")
        await trio.sleep(5)
        assert record.take_order() == "+a1(x)"
        if terminates:
            await pool.terminate_child("a")
        else:
            a.stop()
        await trio.sleep(5)
        assert record.take() == [(6, "-a1"), (6, "+a2(y)"), (6, "second:ok")]
        assert listed(pool) == "a=running"


@story
async def test_the_length_of_a_queue_is_seen_and_its_limit_is_an_option() -> None:
    record = Record()
    a, b = cast(record, "ab", LISTENS)
    async with open_pool(max_queued=2) as pool, trio.open_nursery() as nursery:
        desk = Desk(record, nursery)
        await pool.start_child(b.child())
        await pool.start_child(a.child(restart="temporary"))
        seen = []
        for name in ("one", "two", "three"):
            desk.call(name, pool.start_child, a.child(restart="temporary"), on_conflict="queue")
            await trio.sleep(1)
            seen.append([info.queued for info in pool.which_children()])
        assert seen == [[0, 1], [0, 2], [0, 2]]
        assert record.take()[2:] == [(2, "three:MaxChildrenReached")]
        assert [node.queued for node in pool.snapshot().children] == [0, 2]
        a.stop()
        await trio.sleep(1)
        assert {info.key: info.queued for info in pool.which_children()} == {"a": 1, "b": 0}
        await pool.stop()


@story
async def test_without_room_in_the_queue_every_conflict_is_refused() -> None:
    record = Record()
    (a,) = cast(record, "a", LISTENS)
    async with open_pool(max_queued=0) as pool:
        await pool.start_child(a.child(), on_conflict="queue")
        assert await answer(pool.start_child(a.child(), on_conflict="queue")) == (
            "MaxChildrenReached"
        )
        with pytest.raises(MaxChildrenReached, match=r"'a' already \(max_queued=0\)"):
            await pool.start_child(a.child(), on_conflict="queue")


@pytest.mark.parametrize("wrong", [-1, 1.5, "3", None, True])
def test_the_limit_of_a_queue_is_a_count(wrong: object) -> None:
    with pytest.raises((TypeError, ValueError), match="max_queued"):
        DynamicSupervisor(max_queued=wrong)  # type: ignore[arg-type]


@story
async def test_three_in_a_queue_run_in_their_order() -> None:
    record = Record()
    (a,) = cast(record, "a", LISTENS)
    async with open_pool() as pool, trio.open_nursery() as nursery:
        desk = Desk(record, nursery)
        await pool.start_child(a.child(0, restart="temporary"))
        for number in (1, 2, 3):
            child = a.child(number, restart="temporary")
            desk.call(str(number), pool.start_child, child, on_conflict="queue")
            await trio.sleep(1)
        for _ in range(4):
            a.stop()
            await trio.sleep(1)
        assert record.order == ("+a1(0) -a1 +a2(1) 1:ok -a2 +a3(2) 2:ok -a3 +a4(3) 3:ok -a4")
        assert listed(pool) == ""


@story
async def test_a_restart_of_the_present_one_is_not_its_end() -> None:
    record = Record()
    (a,) = cast(record, "a", LISTENS)
    async with open_pool() as pool, trio.open_nursery() as nursery:
        await pool.start_child(a.child("x", restart="transient", backoff=FIVE))
        Desk(record, nursery).call("next", pool.start_child, a.child("y"), on_conflict="queue")
        await trio.sleep(1)
        a.die()
        await trio.sleep(9)
        assert record.take_order() == "+a1(x) -a1 +a2(x)"
        a.stop()
        await trio.sleep(1)
        assert record.take_order() == "-a2 +a3(y) next:ok"


@story
async def test_one_that_fails_to_start_lets_the_next_in() -> None:
    record = Record()
    a = Actor(record, "a", LISTENS, [no_start], LISTENS)
    async with open_pool() as pool, trio.open_nursery() as nursery:
        desk = Desk(record, nursery)
        await pool.start_child(a.child(1, restart="temporary"))
        for number in (2, 3):
            desk.call(str(number), pool.start_child, a.child(number), on_conflict="queue")
            await trio.sleep(1)
        a.stop()
        await trio.sleep(1)
        assert sorted(record.order.split()) == sorted(
            ["+a1(1)", "-a1", "!a2", "2:ChildFailure", "+a3(3)", "3:ok"]
        )
        assert listed(pool) == "a=running"


@story
async def test_a_cancelled_caller_leaves_the_queue() -> None:
    record = Record()
    (a,) = cast(record, "a", LISTENS)
    async with open_pool() as pool, trio.open_nursery() as nursery:
        desk = Desk(record, nursery)
        await pool.start_child(a.child(1, restart="temporary"))
        second = desk.call("2", pool.start_child, a.child(2), on_conflict="queue")
        await trio.sleep(1)
        desk.call("3", pool.start_child, a.child(3), on_conflict="queue")
        await trio.sleep(1)
        second.cancel()
        await trio.sleep(1)
        a.stop()
        await trio.sleep(1)
        assert record.order == "+a1(1) 2:cancelled -a1 +a2(3) 3:ok"


@story
async def test_a_caller_who_gives_up_in_the_tick_of_a_stop_has_given_up() -> None:
    record = Record()
    a = Actor(record, "a")
    async with open_pool() as pool, trio.open_nursery() as nursery:
        desk = Desk(record, nursery)
        await pool.start_child(a.child())
        second = desk.call("2", pool.start_child, a.child(), on_conflict="queue")
        await calm()
        second.cancel()
        await pool.stop()
        assert sorted(record.take_order().split()) == ["+a1", "-a1", "2:cancelled"]


@story
async def test_a_stop_starts_nothing_that_was_queued() -> None:
    record = Record()
    a = Actor(record, "a", LISTENS, cleanup=2)
    async with trio.open_nursery() as nursery:
        async with open_pool() as pool:
            desk = Desk(record, nursery)
            await pool.start_child(a.child())
            for number in (2, 3):
                desk.call(str(number), pool.start_child, a.child(), on_conflict="queue")
                await trio.sleep(1)
        await trio.sleep(1)
        assert a.runs == 1
        told = [fact for _, fact in record.facts if ":" in fact]
        assert sorted(told) == ["2:SupervisorStopped", "3:SupervisorStopped"]


@story
async def test_a_replacement_turns_away_those_that_queue() -> None:
    """The latest wish counts, as with slots that hold one."""
    record = Record()
    (a,) = cast(record, "a", LISTENS)
    async with open_pool() as pool, trio.open_nursery() as nursery:
        desk = Desk(record, nursery)
        await pool.start_child(a.child(1))
        desk.call("2", pool.start_child, a.child(2), on_conflict="queue")
        await trio.sleep(1)
        desk.call("3", pool.start_child, a.child(3), on_conflict="replace")
        await trio.sleep(1)
        assert (listed(pool), a.is_running) == ("a=running", True)
        assert sorted(record.order.split()) == sorted(
            ["+a1(1)", "2:Interrupted", "-a1", "+a2(3)", "3:ok"]
        )
        await pool.terminate_child("a")
        await trio.sleep(1)
        assert (listed(pool), a.runs) == ("", 2)
