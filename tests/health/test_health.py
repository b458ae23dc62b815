"""`Health`: what a tree is like, in a word for those outside."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from actors import STAYS, Actor, cast, no_start
from spry_py import (
    Child,
    DynamicSupervisor,
    Ignore,
    NeverRestart,
    RateLimited,
    Scope,
    SystemHandle,
    SystemSupervisor,
    Unrecoverable,
    open_system,
    roots,
)
from spry_py.health import Health, Verdict
from stories import Boom, Record, story, story_with_threads

GOOD = Verdict(True)
one_for_one = partial(open_system, strategy="one_for_one", breaker=RateLimited(9, 60.0))


def bad(*reasons: str) -> Verdict:
    return Verdict(False, reasons)


# What comes up


@story
async def test_a_tree_is_started_and_ready_once_all_of_it_has_come_up() -> None:
    seen: list[object] = []

    async def slow(task_status: trio.TaskStatus[None]) -> None:
        await trio.sleep(5)
        task_status.started()
        await trio.sleep_forever()

    async def looks() -> None:
        await trio.sleep(1)
        health = Health(roots()[0])
        seen.extend((health.started(), health.ready(), health.degraded(), health.live()))
        await trio.sleep(5)
        seen.extend((health.started(), health.ready(), health.degraded(), health.live()))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(looks)
        inner = SystemSupervisor([Child("db", slow)])
        async with open_system(
            [Child("inner", inner), Child("api", trio.sleep_forever)], name="shop"
        ):
            await trio.sleep(10)
    wrong = ("shop is starting", "shop/inner is starting", "shop/inner/db is starting")
    assert seen == [bad("shop is starting"), bad(*wrong), GOOD, GOOD, *[GOOD] * 4]


@story
async def test_a_tree_that_stops_has_started_and_is_not_ready_from_the_first_moment() -> None:
    a = Actor(Record(), "a", cleanup=5)
    async with trio.open_nursery() as nursery:
        handle = await nursery.start(SystemSupervisor([a.child()], name="shop"))
        health = Health(handle, grace=60.0)
        assert (health.started(), health.ready()) == (GOOD, GOOD)
        nursery.start_soon(handle.stop)
        await trio.sleep(1)
        assert (health.started(), health.ready()) == (GOOD, bad("shop is stopping"))
        await handle.wait()
        assert (health.started(), health.ready()) == (GOOD, bad("shop is stopped"))
        assert health.live() == GOOD


@story
async def test_a_boot_that_is_stopped_has_never_started() -> None:
    handles: list[SystemHandle] = []

    async def hangs(task_status: trio.TaskStatus[None]) -> None:
        handles.extend(roots())
        await trio.sleep_forever()

    with trio.move_on_after(3):
        async with open_system([Child("a", hangs)], name="shop"):
            pass
    assert Health(handles[0]).started() == bad("shop is stopped")
    assert Health(handles[0]).ready() == bad("shop is stopped")


@story
async def test_a_program_that_leaves_is_not_ready_and_goes_on() -> None:
    async with open_system([Child("a", trio.sleep_forever)], name="shop") as handle:
        health = Health(handle, grace=60.0)
        assert health.ready() == GOOD
        health.leave()
        assert health.ready() == bad("shop is stopping")
        assert (health.live(), health.started(), health.degraded()) == (GOOD, GOOD, GOOD)
        assert handle.status == "running"


# What is wrong


@story
async def test_a_child_that_was_restarted_is_fine_once_it_is_steady() -> None:
    a = Actor(Record(), "a", [1, *STAYS])
    children = [a.child(backoff=lambda state: 2.0), Child("b", trio.sleep_forever)]
    async with one_for_one(children, name="shop") as handle:
        health = Health(handle, steady=1.5)
        assert health.ready() == GOOD
        a.die()
        await trio.sleep(0.25)
        seen = []
        for _ in range(10):
            seen.append(health.ready())
            await trio.sleep(0.5)
        assert seen == [
            *[bad("shop/a is restarting")] * 4,
            *[bad("shop/a is starting")] * 2,
            bad("shop/a was restarted 0.25 s ago"),
            bad("shop/a was restarted 0.75 s ago"),
            bad("shop/a was restarted 1.25 s ago"),
            GOOD,
        ]


@story
async def test_a_child_that_fails_again_and_again_is_never_ready() -> None:
    async def fails() -> None:
        await trio.sleep(0.1)
        raise Boom

    child = Child("a", fails)
    async with one_for_one([child], name="shop", breaker=RateLimited(1000, 60.0)) as handle:
        health = Health(handle)
        await trio.sleep(0.15)
        for _ in range(50):
            await trio.sleep(0.1)
            assert handle.child("a").status == "running"
            assert not health.ready().ok


@story
async def test_a_first_start_that_was_tried_several_times_is_no_restart() -> None:
    a = Actor(Record(), "a", [no_start], [no_start], STAYS)
    async with open_system([a.child(start_attempts=3)]) as handle:
        assert handle.child("a").incarnation == 3
        assert Health(handle).ready() == GOOD


@story
async def test_a_child_restarted_by_hand_has_to_be_steady_too() -> None:
    async with one_for_one([Child("a", trio.sleep_forever)], name="shop") as handle:
        await handle.terminate_child("a")
        await handle.restart_child("a")
        health = Health(handle)
        assert health.ready() == bad("shop/a was restarted 0 s ago")
        await trio.sleep(1)
        assert health.ready() == GOOD


@story
async def test_a_subsystem_that_was_restarted_has_to_be_steady_too() -> None:
    a = Actor(Record(), "a")
    inner = SystemSupervisor([a.child()], breaker=NeverRestart())
    async with one_for_one([Child("inner", inner)], name="shop") as handle:
        health = Health(handle)
        a.die()
        await trio.sleep(0.25)
        assert health.ready() == bad("shop/inner was restarted 0.25 s ago")
        await trio.sleep(1)
        assert health.ready() == GOOD


@story
async def test_what_is_done_left_out_waiting_or_down_by_hand_is_fine() -> None:
    async def ignores(task_status: trio.TaskStatus[None]) -> None:
        raise Ignore

    async def succeeds() -> None:
        await trio.sleep(1)

    children = [
        Child("done", succeeds, restart="transient"),
        Child("out", ignores),
        Child("down", trio.sleep_forever),
    ]
    async with one_for_one(children, name="shop") as handle:
        await trio.sleep(2)
        await handle.terminate_child("down")
        statuses = [child.status for child in handle.which_children()]
        assert statuses == ["done", "ignored", "stopped"]
        health = Health(handle)
        assert health.ready() == GOOD
        assert health.degraded() == bad("shop/down was terminated by hand")


@story
async def test_a_child_that_waits_for_its_turn_is_fine() -> None:
    pool = DynamicSupervisor(max_running=1)
    async with open_system([Child("pool", pool)]) as handle, trio.open_nursery() as nursery:
        inside = handle.system("pool")
        await inside.start_child(Child("a", trio.sleep_forever))
        nursery.start_soon(inside.start_child, Child("b", trio.sleep_forever))
        await trio.sleep(1)
        assert [child.status for child in inside.which_children()] == ["running", "waiting"]
        assert Health(handle, counts=lambda child: True).ready() == GOOD
        nursery.cancel_scope.cancel()


# Who counts


@story
async def test_temporary_children_and_those_of_a_dynamic_supervisor_do_not_count() -> None:
    async def fails() -> None:
        await trio.sleep(0.1)
        raise Boom

    loose = {"strategy": "one_for_one", "breaker": RateLimited(1000, 60.0)}
    sick = SystemSupervisor([Child("a", fails)], **loose)  # type: ignore[arg-type]
    children = [
        Child("pool", DynamicSupervisor(breaker=RateLimited(1000, 60.0))),
        Child("spare", sick, restart="temporary"),
    ]
    async with one_for_one(children, name="shop") as handle:
        await handle.system("pool").start_child(Child("b", fails))
        await handle.system("pool").start_child(Child("c", sick))
        await trio.sleep(3.05)
        assert Health(handle).ready() == GOOD
        everything = Health(handle, counts=lambda child: True).ready()
        assert everything == bad(
            "shop/pool/b was restarted 0.05 s ago",
            "shop/pool/c/a was restarted 0.05 s ago",
            "shop/spare/a was restarted 0.05 s ago",
        )


@story
async def test_whoever_asks_may_say_who_counts() -> None:
    record = Record()
    a, b = cast(record, "ab")
    inner = SystemSupervisor([a.child(), b.child()], strategy="one_for_one")
    async with one_for_one([Child("inner", inner)], name="shop") as handle:
        health = Health(handle, counts=lambda child: child.key == "b")
        a.die()
        await trio.sleep(0.5)
        assert health.ready() == GOOD
        b.die()
        await trio.sleep(0.5)
        assert health.ready() == bad("shop/inner/b was restarted 0.5 s ago")


@story
async def test_the_health_of_a_part_of_a_tree() -> None:
    a = Actor(Record(), "a")
    inner = SystemSupervisor([a.child()], breaker=NeverRestart())
    other = Child("other", trio.sleep_forever)
    backoff: Callable[[Any], float] = lambda state: 2.0  # noqa: E731
    children = [Child("inner", inner, backoff=backoff), other]
    async with one_for_one(children, name="shop") as handle:
        health = Health(handle.system("inner"), grace=1.0)
        assert health.ready() == GOOD
        a.die()
        await trio.sleep(0.5)
        assert health.ready() == Verdict(True, ("shop/inner is restarting",))
        await trio.sleep(1)
        assert health.ready() == bad("shop/inner is restarting")
        assert health.started() == GOOD


@story
async def test_an_answer_that_is_none_is_an_error() -> None:
    async def counts(child: object) -> bool:
        return False

    async with open_system([Child("a", trio.sleep_forever)]) as handle:
        with pytest.raises(TypeError, match="counts must return a bool"):
            Health(handle, counts=counts).ready()  # type: ignore[arg-type]
        with pytest.raises(ZeroDivisionError):
            Health(handle, counts=lambda child: bool(1 / 0)).ready()


# Grace


@story
async def test_a_ready_tree_stays_ready_until_something_has_been_wrong_for_a_while() -> None:
    a, b = cast(Record(), "ab")
    pause: Callable[[Any], float] = lambda state: 3.0  # noqa: E731
    children = [a.child(backoff=pause), b.child(backoff=pause)]
    async with one_for_one(children, name="shop") as handle:
        health = Health(handle, grace=5.0)
        assert health.ready() == GOOD
        a.die()
        await trio.sleep(2)
        assert health.ready() == Verdict(True, ("shop/a is restarting",))
        b.die()
        await trio.sleep(2.5)
        # one of them has been down all the time, although the first is fine again
        assert health.ready() == Verdict(True, ("shop/b is restarting",))
        await trio.sleep(1)
        assert health.ready() == bad("shop/b was restarted 0.5 s ago")
        await trio.sleep(1)
        assert health.ready() == GOOD


@story
async def test_what_went_wrong_between_two_looks_has_been_wrong_since_then() -> None:
    a = Actor(Record(), "a")
    async with one_for_one([a.child(backoff=lambda state: 30.0)], name="shop") as handle:
        early, late = Health(handle, grace=5.0), Health(handle, grace=5.0)
        await trio.sleep(10)
        a.die()
        await trio.sleep(4)
        assert early.ready().ok
        await trio.sleep(2)
        assert not late.ready().ok
        assert not early.ready().ok


@story
async def test_grace_is_for_what_was_ready() -> None:
    a = Actor(Record(), "a", [no_start], STAYS)
    seen: list[Verdict] = []

    async def looks() -> None:
        await trio.sleep(0.5)
        health = Health(roots()[0], grace=50.0)
        seen.append(health.ready())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(looks)
        child = a.child(start_attempts=2, backoff=lambda state: 1.0)
        async with open_system([child], name="shop"):
            pass
    assert seen == [bad("shop is starting", "shop/a is starting")]


# How much more it can take


@story
async def test_a_breaker_with_one_restart_left_means_degraded() -> None:
    a = Actor(Record(), "a")
    async with one_for_one([a.child()], name="shop", breaker=RateLimited(3, 60.0)) as handle:
        health = Health(handle)
        seen = []
        for _ in range(4):
            seen.append(health.degraded())
            if len(seen) < 4:
                a.die()
                await trio.sleep(10)
        assert seen == [
            GOOD,
            GOOD,
            bad("shop: 1 of 3 restarts within 60 s left"),
            bad("shop: 0 of 3 restarts within 60 s left"),
        ]
        assert health.ready() == GOOD
        await trio.sleep(30)
        assert health.degraded() == bad("shop: 1 of 3 restarts within 60 s left")
        await trio.sleep(10)
        assert health.degraded() == GOOD


@story
async def test_a_breaker_that_never_lets_anything_pass_has_lost_nothing() -> None:
    own = Child("a", trio.sleep_forever, breaker=RateLimited(1, 60.0))
    async with open_system([own], breaker=NeverRestart()) as handle:
        assert Health(handle).degraded() == GOOD


@story
async def test_what_was_discarded_means_degraded() -> None:
    async def fails() -> None:
        await trio.lowlevel.checkpoint()
        raise Unrecoverable("no such account")

    async def ends() -> None:
        await trio.lowlevel.checkpoint()

    children = [
        Child("a", fails, on_unrecoverable="discard"),
        Child("b", ends, breaker=NeverRestart(), on_unrecoverable="discard"),
        Child("c", ends, restart="transient"),
    ]
    async with one_for_one(children, name="shop") as handle:
        await trio.sleep(1)
        health = Health(handle)
        assert health.ready() == GOOD
        assert health.degraded() == bad(
            "shop/a was discarded: Unrecoverable: no such account", "shop/b was discarded"
        )


# Whether the loop turns


def asked_until(ask: Callable[[], Verdict], ok: bool) -> Verdict:
    """The verdict at last, of those that come within some seconds."""
    verdict, pause = ask(), threading.Event()
    for _ in range(10_000):
        if verdict.ok is ok:
            break
        pause.wait(0.001)
        verdict = ask()
    return verdict


def test_a_blocked_loop_is_seen_from_a_thread_and_an_idle_one_is_none() -> None:
    @story_with_threads
    async def main() -> None:
        async with open_system([Child("a", trio.sleep_forever)]) as handle:
            health = Health(handle, loop=0.01)
            ask = partial(asked_until, health.live, False)
            blocked: list[Verdict] = []
            thread = threading.Thread(target=lambda: blocked.append(ask()))
            thread.start()
            thread.join(20)  # no other task can run meanwhile
            assert "has not turned for" in blocked[0].reasons[0]
            # no turn is as fast as that, and nothing to do is no fault
            idle = Health(handle, loop=1e-9)
            assert await trio.to_thread.run_sync(asked_until, idle.live, True) == GOOD
            assert not idle.live().ok

    main()


@story_with_threads
async def test_it_is_made_and_asked_in_any_thread() -> None:
    async with open_system([Child("a", trio.sleep_forever)], name="shop") as handle:

        def asks() -> list[Verdict]:
            health = Health(handle)
            return [health.live(), health.started(), health.ready(), health.degraded()]

        assert await trio.to_thread.run_sync(asks) == [GOOD] * 4


def test_a_loop_that_has_ended_is_not_live() -> None:
    made: list[Health] = []

    async def main() -> None:
        async with open_system([Child("a", trio.sleep_forever)], name="shop") as handle:
            made.append(Health(handle))

    trio.run(main, clock=MockClock(autojump_threshold=0))
    over = bad("the event loop has ended")
    health = made[0]
    assert (health.live(), Health(health.root).live()) == (over, over)
    assert (health.started(), health.ready()) == (GOOD, bad("shop is stopped"))


@story
async def test_nothing_watches_the_loop_once_the_last_health_has_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    record = Record()
    add, remove = trio.lowlevel.add_instrument, trio.lowlevel.remove_instrument

    def adding(instrument: trio.abc.Instrument) -> None:
        add(instrument)
        record("added")

    def removing(instrument: trio.abc.Instrument) -> None:
        remove(instrument)
        record("removed")

    monkeypatch.setattr(trio.lowlevel, "add_instrument", adding)
    monkeypatch.setattr(trio.lowlevel, "remove_instrument", removing)
    async with open_system([Child("a", trio.sleep_forever)]) as handle:
        first, second = Health(handle), Health(handle)
        for _ in range(2):
            await trio.sleep(1)
            gc.collect()
            del first
            first = second
        assert second.live() == GOOD
        await trio.sleep(1)
        assert record.take() == [(0, "added")]
        del first, second
        gc.collect()
        await trio.sleep(1)
        assert record.take() == [(3, "removed")]
        assert Health(handle).live() == GOOD
        assert record.take_order() == "added"


# Slips


@story
async def test_bad_values_are_refused() -> None:
    async with open_system([Child("a", trio.sleep_forever)]) as handle:
        make: Any = Health
        for wrong, error, field in (
            ({"steady": -1}, ValueError, "steady"),
            ({"grace": "1"}, TypeError, "grace"),
            ({"loop": 0}, ValueError, "loop"),
            ({"counts": 1}, TypeError, "counts"),
        ):
            with pytest.raises(error, match=f"Health: {field} must be"):
                make(handle, **wrong)
        with pytest.raises(TypeError, match="root must be the handle of a supervisor"):
            make(handle.child("a"))
        with pytest.raises(TypeError, match="root must be"):
            make(SystemSupervisor([]))


@story
async def test_what_a_system_may_do_with_its_own_health() -> None:
    seen: list[Verdict] = []

    async def system(scope: Scope) -> None:
        await scope.start(Child("a", trio.sleep_forever))
        seen.append(Health(roots()[0]).ready())

    async with open_system(system) as handle:
        seen.append(Health(handle).ready())
    assert seen == [bad("system is starting"), GOOD]
