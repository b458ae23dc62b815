"""`max_children` and `max_running` of a dynamic supervisor."""

from __future__ import annotations

import pytest
import tenacity
import trio

from actors import LISTENS, STAYS, Actor, cast, no_start
from callers import Desk, answer, listed, status_of
from pools import open_pool
from spry_py import MaxChildrenReached
from stories import Record, story

FIVE = tenacity.wait_fixed(5)

# max_children


@story
async def test_no_more_children_than_that() -> None:
    record = Record()
    a, b, c = cast(record, "abc", LISTENS)
    async with open_pool(max_children=2) as pool:
        await pool.start_child(a.child())
        await pool.start_child(b.child())
        with pytest.raises(MaxChildrenReached, match="2"):
            await pool.start_child(c.child())
        assert listed(pool) == "a=running b=running"
        await pool.terminate_child("a")
        await pool.start_child(c.child())
        assert listed(pool) == "b=running c=running"
    assert c.runs == 1


@story
async def test_a_key_that_is_alive_is_told_so_though_there_is_no_room() -> None:
    record = Record()
    (a,) = cast(record, "a", LISTENS)
    async with open_pool(max_children=1) as pool:
        await pool.start_child(a.child())
        assert await answer(pool.start_child(a.child())) == "ChildAlreadyStarted"


@pytest.mark.parametrize("restart", ["transient", "temporary"])
@story
async def test_one_that_has_ended_for_good_makes_room(restart: str) -> None:
    record = Record()
    a, b = cast(record, "ab", LISTENS)
    async with open_pool(max_children=1) as pool:
        await pool.start_child(a.child(restart=restart))
        a.stop()
        await trio.sleep(1)
        await pool.start_child(b.child())
        assert listed(pool) == "b=running"


@story
async def test_those_that_wait_to_restart_count() -> None:
    record = Record()
    a, b = cast(record, "ab", LISTENS)
    async with open_pool(max_children=1) as pool:
        await pool.start_child(a.child(backoff=FIVE))
        a.die()
        await trio.sleep(1)
        assert await answer(pool.start_child(b.child())) == "MaxChildrenReached"
        await pool.terminate_child("a")
        assert await answer(pool.start_child(b.child())) == "ok"


@story
async def test_those_being_started_count_and_make_room_if_that_fails() -> None:
    record = Record()
    a = Actor(record, "a", [2, no_start], [2, *STAYS])
    b = Actor(record, "b", [2, *STAYS])
    async with open_pool(max_children=1) as pool, trio.open_nursery() as nursery:
        desk = Desk(record, nursery)
        desk.call("start a", pool.start_child, a.child())
        await trio.sleep(1)
        assert await answer(pool.start_child(b.child())) == "MaxChildrenReached"
        await trio.sleep(2)
        assert record.take() == [(0, "~a1"), (2, "!a1"), (2, "start a:ChildFailure")]
        await pool.start_child(b.child())


@story
async def test_those_being_stopped_count_until_they_have_ended() -> None:
    record = Record()
    a, b = Actor(record, "a", LISTENS, cleanup=3), Actor(record, "b")
    async with open_pool(max_children=1) as pool, trio.open_nursery() as nursery:
        await pool.start_child(a.child())
        nursery.start_soon(pool.terminate_child, "a")
        await trio.sleep(1)
        assert await answer(pool.start_child(b.child())) == "MaxChildrenReached"
        await trio.sleep(3)
        assert await answer(pool.start_child(b.child())) == "ok"


@story
async def test_a_restart_needs_no_room() -> None:
    record = Record()
    a, b = cast(record, "ab", LISTENS)
    async with open_pool(max_children=2) as pool:
        await pool.start_child(a.child())
        await pool.start_child(b.child())
        a.die()
        await pool.child("b").restart()
        await trio.sleep(1)
        assert listed(pool) == "a=running b=running"
        assert (a.runs, b.runs) == (2, 2)


@story
async def test_with_no_room_at_all_nothing_starts() -> None:
    record = Record()
    (a,) = cast(record, "a")
    async with open_pool(max_children=0) as pool:
        assert await answer(pool.start_child(a.child())) == "MaxChildrenReached"
    assert record.facts == []


# max_running


@story
async def test_no_more_run_than_that_and_the_others_wait_in_line() -> None:
    record = Record()
    actors = list(cast(record, "abcd", LISTENS))
    async with open_pool(max_running=2) as pool, trio.open_nursery() as nursery:
        desk = Desk(record, nursery)
        for actor in actors:
            desk.call(actor.key, pool.start_child, actor.child(restart="temporary"))
            await trio.sleep(1)
        assert listed(pool) == "a=running b=running c=waiting d=waiting"
        counts = pool.count_children()
        assert (counts.specs, counts.active, counts.workers) == (4, 2, 4)
        assert (pool.child("c").value, pool.child("c").incarnation) == (None, 0)
        actors[1].stop()
        await trio.sleep(1)
        assert listed(pool) == "a=running c=running d=waiting"
        actors[0].die()
        await trio.sleep(1)
        assert listed(pool) == "c=running d=running"
        assert record.take() == [
            (0, "+a1"),
            (0, "a:ok"),
            (1, "+b1"),
            (1, "b:ok"),
            (4, "-b1"),
            (4, "+c1"),
            (4, "c:ok"),
            (5, "-a1"),
            (5, "+d1"),
            (5, "d:ok"),
        ]


@story
async def test_those_being_started_run() -> None:
    record = Record()
    a, b = Actor(record, "a", [3, no_start], [3, *STAYS]), Actor(record, "b")
    async with open_pool(max_running=1) as pool, trio.open_nursery() as nursery:
        desk = Desk(record, nursery)
        desk.call("a", pool.start_child, a.child())
        await trio.sleep(1)
        desk.call("b", pool.start_child, b.child())
        await trio.sleep(1)
        assert listed(pool) == "a=starting b=waiting"
        await trio.sleep(5)
        order = record.take()
        assert sorted(order) == [
            (0, "~a1"),
            (3, "!a1"),
            (3, "+b1"),
            (3, "a:ChildFailure"),
            (3, "b:ok"),
        ]
        assert listed(pool) == "b=running"


@pytest.mark.parametrize("terminates", [False, True])
@story
async def test_one_that_waits_can_be_given_up_by_its_caller_and_terminated(
    terminates: bool,
) -> None:
    record = Record()
    a, b, c = cast(record, "abc", LISTENS)
    async with open_pool(max_running=1) as pool, trio.open_nursery() as nursery:
        desk = Desk(record, nursery)
        await pool.start_child(a.child(restart="temporary"))
        call = desk.call("b", pool.start_child, b.child())
        await trio.sleep(1)
        desk.call("c", pool.start_child, c.child())
        await trio.sleep(1)
        if terminates:
            assert await answer(pool.terminate_child("b")) == "ok"
        else:
            call.cancel()
        await trio.sleep(1)
        assert listed(pool) == "a=running c=waiting"
        a.stop()
        await trio.sleep(1)
        told = "b:Interrupted" if terminates else "b:cancelled"
        assert record.order == f"+a1 {told} -a1 +c1 c:ok"
        assert b.runs == 0


@story
async def test_the_answers_about_one_that_waits() -> None:
    record = Record()
    a, b = cast(record, "ab", LISTENS)
    async with open_pool(max_running=1) as pool, trio.open_nursery() as nursery:
        await pool.start_child(a.child())
        call = Desk(record, nursery).call("b", pool.start_child, b.child())
        await trio.sleep(1)
        assert await answer(pool.start_child(b.child())) in (
            "ChildAlreadyStarted",
            "ChildAlreadyPresent",
        )
        assert status_of(pool, "b") == "waiting"
        call.cancel()


@story
async def test_a_stop_turns_away_those_that_wait() -> None:
    record = Record()
    a, b = cast(record, "ab", LISTENS)
    async with trio.open_nursery() as nursery:
        async with open_pool(max_running=1) as pool:
            await pool.start_child(a.child())
            Desk(record, nursery).call("b", pool.start_child, b.child())
            await trio.sleep(1)
        await trio.sleep(1)
        assert sorted(record.facts) == [(0, "+a1"), (1, "-a1"), (1, "b:SupervisorStopped")]
        assert b.runs == 0


@story
async def test_one_that_waits_to_be_restarted_holds_no_place() -> None:
    record = Record()
    a, b = cast(record, "ab", LISTENS)
    async with open_pool(max_running=1) as pool, trio.open_nursery() as nursery:
        await pool.start_child(a.child(backoff=FIVE))
        Desk(record, nursery).call("b", pool.start_child, b.child(restart="temporary"))
        await trio.sleep(1)
        a.die()
        await trio.sleep(1)
        assert listed(pool) == "a=restarting b=running"
        await trio.sleep(5)
        assert listed(pool) == "a=waiting b=running"
        b.stop()
        await trio.sleep(1)
        assert listed(pool) == "a=running"
        assert record.take() == [
            (0, "+a1"),
            (1, "-a1"),
            (1, "+b1"),
            (1, "b:ok"),
            (7, "-b1"),
            (7, "+a2"),
        ]


@story
async def test_one_that_is_restarted_stands_behind_those_that_came_first() -> None:
    record = Record()
    a, b, c = cast(record, "abc", LISTENS)
    async with open_pool(max_running=1) as pool, trio.open_nursery() as nursery:
        desk = Desk(record, nursery)
        await pool.start_child(a.child())
        for actor in (b, c):
            desk.call(actor.key, pool.start_child, actor.child())
            await trio.sleep(1)
        a.die()
        await trio.sleep(1)
        assert listed(pool) == "a=waiting b=running c=waiting"
        b.die()
        await trio.sleep(1)
        assert listed(pool) == "a=waiting b=waiting c=running"
        c.die()
        await trio.sleep(1)
        assert listed(pool) == "a=running b=waiting c=waiting"
        assert record.order == "+a1 -a1 +b1 b:ok -b1 +c1 c:ok -c1 +a2"


@story
async def test_one_that_waits_for_its_restart_can_be_terminated() -> None:
    record = Record()
    a, b = cast(record, "ab", LISTENS)
    async with open_pool(max_running=1) as pool, trio.open_nursery() as nursery:
        await pool.start_child(a.child())
        Desk(record, nursery).call("b", pool.start_child, b.child())
        await trio.sleep(1)
        a.die()
        await trio.sleep(1)
        assert listed(pool) == "a=waiting b=running"
        await pool.terminate_child("a")
        b.die()
        await trio.sleep(1)
        assert (listed(pool), a.runs) == ("b=running", 1)


@story
async def test_nobody_is_passed_over_when_many_end_at_once() -> None:
    record = Record()
    actors = [Actor(record, f"w{number}", LISTENS) for number in range(20)]
    begun: list[str] = []
    async with open_pool(max_running=5) as pool, trio.open_nursery() as nursery:
        desk = Desk(record, nursery)
        for actor in actors:
            desk.call(actor.key, pool.start_child, actor.child(restart="temporary"))
            await trio.sleep(1)
        for _ in range(4):
            running = [actor for actor in actors if actor.is_running]
            assert len(running) == 5
            begun.extend(actor.key for actor in running)
            for actor in running:
                actor.stop()
            await trio.sleep(1)
        assert listed(pool) == ""
    assert begun == [actor.key for actor in actors]


@story
async def test_those_that_wait_count_as_children() -> None:
    record = Record()
    a, b, c = cast(record, "abc", LISTENS)
    async with (
        open_pool(max_running=1, max_children=2) as pool,
        trio.open_nursery() as nursery,
    ):
        await pool.start_child(a.child())
        call = Desk(record, nursery).call("b", pool.start_child, b.child())
        await trio.sleep(1)
        assert await answer(pool.start_child(c.child())) == "MaxChildrenReached"
        call.cancel()
        await trio.sleep(1)
        call = Desk(record, nursery).call("c", pool.start_child, c.child())
        await trio.sleep(1)
        assert listed(pool) == "a=running c=waiting"
        call.cancel()


@story
async def test_a_place_is_free_once_the_incarnation_has_ended_not_when_it_is_asked() -> None:
    record = Record()
    a, b = Actor(record, "a", LISTENS, cleanup=3), Actor(record, "b")
    async with open_pool(max_running=1) as pool, trio.open_nursery() as nursery:
        desk = Desk(record, nursery)
        await pool.start_child(a.child())
        desk.call("b", pool.start_child, b.child())
        await trio.sleep(1)
        desk.call("end a", pool.terminate_child, "a")
        await trio.sleep(9)
        facts = [fact for fact in record.take() if ":" not in fact[1]]
        assert facts == [(0, "+a1"), (4, "-a1"), (4, "+b1")]
