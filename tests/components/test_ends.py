"""However a component ends, its object is cleaned up once, and after its last run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import tenacity
import trio

from actors import Actor
from listeners import Heard
from spry_py import (
    Child,
    RunTimeout,
    SystemHandle,
    SystemSupervisor,
    Unrecoverable,
    UnrecoverableFailure,
    open_system,
)
from spry_py.components import component
from spry_py.events import ChildStuck
from stories import story
from things import (
    Thing,
    Things,
    boom,
    by_run,
    fail,
    finish,
    listen,
    of,
    resist,
    stay,
    watch,
)
from workers import calm


@story
async def test_a_stop_lets_it_finish_and_then_clean_up_with_a_time_for_each() -> None:
    things = Things()
    make = things.make(listen, cleanup=finish(None, 8))
    thing = Child("thing", component(make, cleanup_timeout=9), shutdown=4)
    async with open_system([thing]) as tree:
        await trio.sleep(1)
        await tree.stop()
        last = tree.find("thing/object").last_report
        assert last is not None
        assert (last.failed, last.burden) == (False, "settling")
    assert things.record.facts == [(0, "+thing1.1"), (3, "-thing1.1"), (3, "cleanup 1")]
    assert trio.current_time() == 11


@pytest.mark.parametrize("way", ["abort", "cancel"])
@story
async def test_cancelled_it_cleans_up_behind_the_end_of_its_run(way: str) -> None:
    things = Things()
    make = things.make(resist, cleanup=finish(None, 2))
    with trio.CancelScope() as outside:
        async with open_system([Child("thing", component(make))]) as tree:
            await trio.sleep(1)
            if way == "abort":
                tree.abort()
                await tree.wait()
            outside.cancel()
    assert things.record.facts == [(0, "+thing1.1"), (4, "-thing1.1"), (4, "cleanup 1")]
    assert trio.current_time() == 6


@pytest.mark.parametrize("way", ["stop", "abort"])
@story
async def test_a_clean_up_that_takes_too_long_is_cut_short_and_has_failed(way: str) -> None:
    things = Things()
    make = things.make(stay, cleanup=stay)
    async with open_system([Child("thing", component(make, cleanup_timeout=3))]) as tree:
        thing = tree.find("thing/object")
        (tree.abort if way == "abort" else lambda: None)()
        await tree.stop()
        await tree.wait()
        assert trio.current_time() == 3
        assert thing.last_report is not None
        assert isinstance(thing.last_report.exception, RunTimeout)
        assert str(thing.last_report.exception) == (
            "cleanup() of component 'system/thing' took longer than 3 s"
        )
    assert things.record.order == "+thing1.1 -thing1.1 cleanup 1"


@pytest.mark.parametrize("way", ["stop", "abort", "cancel", "sweep", "terminate"])
@story
async def test_without_time_to_finish_it_has_its_time_to_clean_up(way: str) -> None:
    things = Things()
    a = Actor(things.record, "a")
    thing = Child("thing", component(things.make(listen, cleanup=finish(None, 4))), shutdown=0)
    held: Any = None
    with trio.CancelScope() as outside:
        async with open_system([a.child(), thing]) as tree:
            held = tree.find("thing/object")
            if way == "stop":
                await tree.stop()
            elif way == "abort":
                tree.abort()
                await tree.wait()
            elif way == "cancel":
                outside.cancel()
            elif way == "sweep":
                a.die()
                await trio.sleep(5)
                await tree.stop()
            else:
                await tree.terminate_child("thing")
    ended = [at for at, fact in things.record.facts if fact == "cleanup 1"]
    assert (ended, len(things.made)) == ([0], 2 if way == "sweep" else 1)
    assert held.last_report is not None
    assert not held.last_report.failed
    assert trio.current_time() == (9 if way == "sweep" else 4)


@story
async def test_a_clean_up_that_takes_too_long_without_time_to_finish_is_cut_short() -> None:
    things = Things()
    make = things.make(stay, cleanup=stay)
    async with open_system([Child("thing", component(make), shutdown=0)]) as tree:
        held = tree.find("thing/object")
    assert trio.current_time() == 5
    assert held.last_report is not None
    assert isinstance(held.last_report.exception, RunTimeout)


@story
async def test_a_clean_up_that_raises_is_recorded_and_hides_nothing() -> None:
    things, told = Things(), list[str]()
    make = things.make(fail(Unrecoverable("first")), cleanup=fail(boom(2)))
    gone = Child("thing", component(make), on_unrecoverable="discard")
    async with open_system([gone]) as tree, trio.open_nursery() as nursery:
        held = tree.find("thing/object")
        nursery.start_soon(watch, of(tree), told)
        end = await tree.child("thing").wait()
        assert isinstance(end.exception, UnrecoverableFailure)
        assert repr(end.exception.root_cause) == "Unrecoverable('first')"
        assert held.last_report is not None
        assert repr(held.last_report.exception) == "Boom('number 2')"
    assert told == [
        "0 running",
        "1 stopping Unrecoverable('first')",
        "2 stopped Unrecoverable('first')",
    ]


@pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
@story
async def test_swept_along_by_a_sibling_it_comes_back_with_a_new_object(strategy: Any) -> None:
    things = Things()
    a = Actor(things.record, "a")
    children = [a.child(), Child("thing", component(things.make(stay)))]
    async with open_system(children, strategy=strategy) as tree:
        a.die()
        await trio.sleep(1)
        assert of(tree).object is things.made[1]
    assert things.record.order == (
        "+a1 +thing1.1 -a1 -thing1.1 cleanup 1 +a2 +thing2.1 -thing2.1 cleanup 2 -a2"
    )


@story
async def test_restarted_by_hand_the_object_takes_its_run_with_it() -> None:
    things = Things()
    async with open_system([Child("thing", component(things.make(stay)))]) as tree:
        await tree.find("thing/run").restart()
        await tree.find("thing/object").restart()
        assert of(tree).object is things.made[1]
        await tree.find("thing/object").terminate()
        await calm()
        assert of(tree).object is things.made[2]
    assert things.record.order == (
        "+thing1.1 -thing1.1 +thing1.2 -thing1.2 cleanup 1 +thing2.1 -thing2.1 cleanup 2 "
        "+thing3.1 -thing3.1 cleanup 3"
    )


@story
async def test_stopped_alone_the_object_cleans_up_before_there_is_another_one() -> None:
    things, told = Things(), list[str]()
    make = things.make(resist, cleanup=finish(None, 2))
    async with (
        open_system([Child("thing", component(make))]) as tree,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(watch, of(tree), told)
        await trio.sleep(1)
        await tree.find("thing/object").terminate()
        await calm()
        assert of(tree).object is things.made[1]
        await tree.stop()
    assert things.record.facts == [
        (0, "+thing1.1"),
        (4, "-thing1.1"),
        (4, "cleanup 1"),
        (6, "+thing2.1"),
        (9, "-thing2.1"),
        (9, "cleanup 2"),
    ]
    assert told == ["0 running", "4 stopping", "6 stopped"]


@story
async def test_a_clean_up_that_takes_its_time_is_reported_where_it_stands() -> None:
    things, heard = Things(), Heard()
    async with trio.open_nursery() as nursery:
        make = things.make(stay, cleanup=linger)
        async with open_system([Child("thing", component(make))], name="top") as tree:
            await nursery.start(heard.listen, tree)
            tree.abort()
            await tree.wait()
    stuck = [event for event in heard.events if isinstance(event, ChildStuck)]
    assert [(event.at, event.path) for event in stuck] == [(1, "top/thing/object")]
    assert "in linger" in stuck[0].stack


async def linger(thing: Thing) -> object:
    await trio.sleep(2.5)
    return None


@story
async def test_a_time_limit_of_the_system_above_aborts_the_run_and_spares_the_clean_up() -> None:
    things = Things()
    below = SystemSupervisor(
        [Child("thing", component(things.make(resist, cleanup=finish(None, 2))))]
    )
    limited = Child("below", below, run_timeout=1, restart="temporary")
    async with open_system([limited], auto_shutdown="when_empty") as tree:
        run = tree.find("below/thing/run")
        held = tree.find("below/thing/object")
        await tree.wait()
        for handle in (run, held):
            assert handle.last_report is not None
            assert (handle.last_report.failed, handle.last_report.burden) == (False, "aborted")
    assert things.record.facts == [(0, "+thing1.1"), (4, "-thing1.1"), (4, "cleanup 1")]
    assert trio.current_time() == 6


@story
async def test_an_interrupt_ends_the_program_and_the_object_all_the_same() -> None:
    things = Things()
    make = things.make(fail(KeyboardInterrupt()))

    async def program() -> None:
        async with open_system([Child("thing", component(make))]):
            await trio.sleep_forever()

    with pytest.raises(KeyboardInterrupt):
        await program()
    assert things.record.order == "+thing1.1 -thing1.1 cleanup 1"


WAYS: list[Callable[[SystemHandle, trio.CancelScope], object]] = [
    lambda tree, outside: tree.abort(),
    lambda tree, outside: outside.cancel(),
    lambda tree, outside: None,
]


@pytest.mark.parametrize("way", [0, 1, 2])
@story
async def test_ended_at_any_moment_each_object_is_cleaned_up_once(way: int) -> None:
    for tenths in range(0, 130, 2):
        things = Things()
        slow = finish(None, 0.5)
        make = things.make(
            fail(boom(1), 0.5),
            resist,
            fail(Unrecoverable("last"), 0.5),
            start=by_run(slow, slow, fail(boom(2), 0.5), slow),
            recover=slow,
            handle_irrecoverable=slow,
            cleanup=slow,
        )
        wait = tenacity.wait_fixed(0.5)
        thing = Child(
            "thing", component(make), backoff=wait, run_timeout=2, on_unrecoverable="discard"
        )
        with trio.CancelScope() as outside:
            outside.deadline = trio.current_time() + tenths / 10 if way == 1 else float("inf")
            async with open_system([Child("below", SystemSupervisor([thing]))]) as tree:
                await trio.sleep(tenths / 10)
                WAYS[way](tree, outside)
        cleanups = [fact for _, fact in things.record.facts if fact.startswith("cleanup")]
        assert cleanups == [f"cleanup {n + 1}" for n in range(len(things.made))]
        assert [thing.alive for thing in things.made] == [0] * len(things.made)
        assert len(things.made) == 1
