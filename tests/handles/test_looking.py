"""What can be seen of a running tree: what each child does, how much more it can take, and next."""

from __future__ import annotations

import math
import sys
from typing import Any

import pytest
import trio

from actors import STAYS, Actor, no_start
from spry_py import (
    AlwaysRestart,
    Budget,
    Child,
    DynamicSupervisor,
    Failed,
    Ignore,
    Interrupted,
    NeverRestart,
    RateLimited,
    Scope,
    SpryError,
    Streak,
    SupervisorStopped,
    SystemHandle,
    SystemSupervisor,
    current_context,
    open_system,
    roots,
)
from stories import Boom, Record, story

# Budgets


def test_the_budget_of_a_window_frees_up_with_time() -> None:
    breaker: Any = RateLimited(3, 10.0)()
    assert breaker.budget(0.0) == Budget(3, 3, 10.0, None)
    assert [breaker.may_restart("a", now) for now in (1.0, 4.0)] == [True, True]
    assert breaker.budget(5.0) == Budget(1, 3, 10.0, 11.0)
    assert breaker.budget(10.9) == Budget(1, 3, 10.0, 11.0)
    assert breaker.budget(11.0) == Budget(2, 3, 10.0, 14.0)
    assert breaker.budget(14.0) == Budget(3, 3, 10.0, None)
    assert breaker.may_restart("a", 12.0)


def test_the_budget_of_a_streak_is_that_of_the_worst_child() -> None:
    breaker: Any = Streak(3, reset_after=60.0)()
    assert breaker.budget(0.0) == Budget(3, 3, 60.0)
    for key in ("a", "b", "b"):
        assert breaker.may_restart(key, 1.0)
    assert breaker.budget(1.0) == Budget(1, 3, 60.0)
    breaker.forget("b")
    assert breaker.budget(1.0) == Budget(2, 3, 60.0)


def test_without_a_limit_there_is_no_budget_and_without_a_restart_an_empty_one() -> None:
    assert AlwaysRestart()().budget(0.0) is None
    assert NeverRestart()().budget(0.0) == Budget(0, 0, math.inf)


# What is known of a child


@story
async def test_what_is_known_of_a_worker_all_its_life() -> None:
    a = Actor(Record(), "a", [1, *STAYS])
    child = a.child(backoff=lambda state: 5.0)
    begun = trio.current_time()
    async with open_system([child], strategy="one_for_one", breaker=RateLimited(2, 60.0)) as tree:
        handle = tree.child("a")
        info = handle.info()
        assert (info.child, info.started_at, info.in_a_row) == (child, begun + 1, 0)
        assert (info.restart_at, info.shutdown_by, info.heartbeat_by, info.budget) == (None,) * 4
        await trio.sleep(2)
        a.die(Boom())
        await trio.sleep(1)
        info = handle.info()
        assert (info.status, info.started_at, info.restart_at) == ("restarting", None, begun + 8)
        assert (info.in_a_row, info.budget) == (1, None)
        assert tree.info().budget == Budget(1, 2, 60.0, begun + 63)
        await trio.sleep(6)
        info = handle.info()
        assert (info.status, info.started_at, info.restart_at) == ("running", begun + 9, None)
        assert handle.info() == tree.which_children()[0] == info


@pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
@story
async def test_a_group_that_waits_says_when_it_begins(strategy: Any) -> None:
    record = Record()
    a, b = Actor(record, "a"), Actor(record, "b")
    children = [a.child(backoff=lambda state: 5.0), b.child()]
    begun = trio.current_time()
    async with open_system(children, strategy=strategy) as tree:
        a.die(Boom())
        await trio.sleep(1)
        due = [(info.status, info.restart_at) for info in tree.which_children()]
        assert due == [("restarting", begun + 5)] * 2


@story
async def test_when_it_will_be_aborted_and_when_it_must_have_beaten() -> None:
    async def works() -> None:
        context = current_context()
        context.heartbeat()
        await context.settled()
        await trio.sleep(2)

    begun = trio.current_time()
    child = Child("a", works, heartbeat=30.0, shutdown=7.0)
    async with open_system([child]) as tree, trio.open_nursery() as nursery:
        await trio.sleep(1)
        assert tree.child("a").info().heartbeat_by == begun + 30
        nursery.start_soon(tree.terminate_child, "a")
        await trio.sleep(1)
        info = tree.child("a").info()
        assert (info.status, info.shutdown_by) == ("stopping", begun + 8)
    assert tree.child("a").info().shutdown_by is None


@pytest.mark.parametrize(
    ("breaker", "before", "after"),
    [
        (RateLimited(2, 60.0), Budget(2, 2, 60.0), Budget(1, 2, 60.0, 61.0)),
        (Streak(3, reset_after=9.0), Budget(3, 3, 9.0), Budget(2, 3, 9.0)),
        (AlwaysRestart(), None, None),
    ],
    ids=["RateLimited", "Streak", "AlwaysRestart"],
)
@story
async def test_the_budget_of_a_breaker_of_its_own_is_whole_before_the_first_restart(
    breaker: Any, before: Budget | None, after: Budget | None
) -> None:
    a, sub = Actor(Record(), "a"), SystemSupervisor([], breaker=RateLimited(5, 7.0))
    children = [a.child(breaker=breaker), Child("sub", sub, breaker=breaker)]
    async with open_system(children, strategy="one_for_one") as tree:
        assert tree.child("a").info().budget == before
        assert tree.child("sub").info().budget == Budget(5, 5, 7.0)
        await trio.sleep(1)
        a.die(Boom())
        await trio.sleep(1)
        assert tree.child("a").info().budget == after


def test_a_breaker_of_somebody_else_may_have_a_budget_or_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    heard: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", heard.append)
    budgets_of_strange_breakers()
    assert [type(one.exc_value) for one in heard] == [Boom]


@story
async def budgets_of_strange_breakers() -> None:
    class Mine:
        def may_restart(self, key: str, now: float) -> bool:
            return True

        def budget(self, now: float) -> Budget:
            raise Boom

    class Own(Mine):
        def budget(self, now: float) -> Budget:
            return Budget(4, 9, 1.0)

    async def crashes() -> None:
        await trio.sleep(1)
        raise Boom

    own = Child("a", crashes, breaker=Own)
    async with open_system([own], breaker=Mine, strategy="one_for_one") as tree:
        assert tree.child("a").info().budget is None  # it is not made for the sake of this
        await trio.sleep(1.5)
        assert tree.child("a").info().budget == Budget(4, 9, 1.0)
        assert tree.info().budget is None


# What is counted


@story
async def test_failures_and_restarts_by_hand_are_counted_apart() -> None:
    async def left_out() -> None:
        raise Ignore

    record = Record()
    a, b = Actor(record, "a", STAYS, STAYS, [no_start], STAYS), Actor(record, "b")
    children = [a.child(), b.child(restart="transient"), Child("c", left_out)]
    async with open_system(children, strategy="one_for_one", breaker=AlwaysRestart()) as tree:
        a.die(Boom())
        b.stop()
        await trio.sleep(1)
        assert counted(tree) == {"a": (1, 0), "b": (0, 0), "c": (0, 0)}
        await tree.child("a").restart()  # its third start fails, and is tried again
        assert (a.runs, counted(tree)["a"]) == (4, (2, 1))
        await tree.restart_child("b")
        await tree.restart_child("c")
        assert counted(tree) == {"a": (2, 1), "b": (0, 1), "c": (0, 1)}
        await tree.terminate_child("a")
        await tree.replay()
        assert counted(tree) == {"a": (2, 2), "b": (0, 1), "c": (0, 2)}


@story
async def test_a_boot_that_was_interrupted_is_no_failure() -> None:
    record = Record()
    a = Actor(record, "a", [2, *STAYS])

    async def host() -> None:
        async with open_system([a.child()]):
            await trio.sleep_forever()

    async with open_system([Child("host", host)], strategy="one_for_one") as tree:
        await trio.sleep(1)
        await tree.terminate_child("host")
        report = tree.child("host").last_report
        assert report is not None
        assert isinstance(report.reason, Failed)
        assert (type(report.reason.exception), report.failed) == (Interrupted, False)
        assert counted(tree) == {"host": (0, 0)}


def counted(tree: SystemHandle) -> dict[str, tuple[int, int]]:
    return {info.key: (info.failures, info.by_hand) for info in tree.which_children()}


@pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
@story
async def test_a_restart_by_hand_of_a_group_is_one_of_the_child_that_was_meant(
    strategy: Any,
) -> None:
    record = Record()
    a, b = Actor(record, "a"), Actor(record, "b")
    async with open_system([a.child(), b.child()], strategy=strategy) as tree:
        await tree.child("a").restart()
        assert (a.runs, b.runs) == (2, 2)
        assert counted(tree) == {"a": (0, 1), "b": (0, 0)}


@story
async def test_what_fails_while_it_is_stopped_has_failed_and_an_interrupted_start_has_not() -> None:
    async def hangs() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise Boom

    async def system(scope: Scope) -> None:
        await scope.start(Child("a", trio.sleep_forever))
        await trio.sleep_forever()

    pool = DynamicSupervisor()
    children = [Child("a", hangs), Child("pool", pool)]
    async with open_system(children, strategy="one_for_one") as tree, trio.open_nursery() as others:

        async def starts() -> None:
            with pytest.raises(SpryError):
                await tree.system("pool").start_child(Child("sub", SystemSupervisor(system)))

        others.start_soon(starts)
        await trio.sleep(1)
        below = tree.find("pool/sub")
        await tree.terminate_child("a")
        await tree.terminate_child("pool")
        assert counted(tree) == {"a": (1, 0), "pool": (0, 0)}
        assert below.info().failures == 0


@story
async def test_of_declared_children_they_go_on_over_the_incarnations_of_the_supervisor() -> None:
    record = Record()
    a, b = Actor(record, "a"), Actor(record, "b", STAYS, [no_start], STAYS)
    declared = [True]

    async def system(scope: Scope) -> None:
        await scope.start(a.child())
        if declared[0]:
            await scope.start(b.child())

    sub = SystemSupervisor(system, breaker=RateLimited(1, 1000.0))
    mid = SystemSupervisor([Child("sub", sub)])
    async with open_system([Child("mid", mid)], strategy="one_for_one") as tree:
        below = tree.system("mid/sub")
        await below.child("a").restart()
        assert (a.runs, b.runs, tree.system("mid").incarnation) == (3, 3, 1)
        assert counted(below) == {"a": (0, 1), "b": (1, 0)}
        a.die(Boom())
        await trio.sleep(1)
        assert (below.incarnation, counted(below)) == (2, {"a": (1, 1), "b": (1, 0)})
        await tree.child("mid").restart()
        assert (below.incarnation, counted(below)) == (1, {"a": (1, 1), "b": (1, 0)})
        assert counted(tree.system("mid")) == {"sub": (1, 0)}
        declared[0] = False
        await tree.child("mid").restart()
        declared[0] = True
        await tree.child("mid").restart()
        assert counted(below) == {"a": (1, 1), "b": (0, 0)}
        assert counted(tree) == {"mid": (0, 3)}


# Stacks


async def the_inner_part() -> None:
    await trio.sleep_forever()


@story
async def test_the_stack_shows_each_task_of_a_child_and_one_line_of_trio() -> None:
    async def nested() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(the_inner_part)
            await trio.sleep(1000)

    async with open_system([Child("a", nested)]) as tree:
        await trio.sleep(1)
        stack = tree.child("a").stack().replace(f"{__name__}.", "")
        lines = [line.strip() for line in stack.splitlines() if "File" not in line]
        assert lines == [
            "await trio.sleep(1000)",
            "waiting in trio.sleep",
            "in its nested task the_inner_part:",
            "await trio.sleep_forever()",
            "waiting in trio.sleep_forever",
        ]
        assert "spry_py" not in stack
        await tree.terminate_child("a")
        assert tree.child("a").stack() == ""


@story
async def test_the_stack_of_a_supervisor_is_its_own() -> None:
    async def system(scope: Scope) -> None:
        await scope.start(Child("a", the_inner_part))
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:

        async def boot() -> None:
            async with open_system(system, name="top"):
                pass

        nursery.start_soon(boot)
        await trio.sleep(1)
        (root,) = roots()
        assert "await trio.sleep_forever()" in root.stack()
        assert "the_inner_part" not in root.stack()
        nursery.cancel_scope.cancel()


# As text


@story
async def test_a_child_that_waits_for_its_turn_has_no_time_at_which_it_starts() -> None:
    async def slow(*, task_status: trio.TaskStatus[None]) -> None:
        await trio.sleep(5 * (current_context().incarnation - 1))
        task_status.started()
        await trio.sleep(1)
        raise Boom("gone")

    b = Actor(Record(), "b")
    children = [Child("a", slow, backoff=lambda state: 2.0), b.child(backoff=lambda state: 2.0)]
    async with open_system(children, name="top", strategy="one_for_all") as tree:
        await trio.sleep(2)
        assert "  a  [restarting]  starts again in 1 s; last error" in tree.render()
        await trio.sleep(2)
        assert tree.render().splitlines()[2].startswith("  b  [restarting")
        assert "starts again" not in tree.render()


@story
async def test_a_tree_as_text_says_what_is_worth_knowing() -> None:
    record = Record()
    a, b, c = (Actor(record, key) for key in "abc")
    children = [
        a.child(backoff=lambda state: 90.0),
        b.child(restart="transient"),
        Child("pool", DynamicSupervisor(breaker=RateLimited(5, 1e6))),
    ]
    options: Any = {"name": "top", "strategy": "one_for_one", "breaker": RateLimited(3, 1e9)}
    async with open_system(children, **options) as tree:
        assert tree.render() == (
            "top/  [running]\n  a  [running]\n  b  [running]\n  pool/  [running]"
        )
        await tree.system("pool").start_child(c.child())
        await trio.sleep(100)
        c.die(ValueError("no such table\nof this name"))
        b.stop()
        await trio.sleep(7200)
        a.die(Boom("gone"))
        await trio.sleep(5)
        assert tree.render().splitlines() == [
            "top/  [running]  up 2 h; 2 of 3 restarts left",
            "  a  [restarting]  starts again in 85 s; last error: Boom: gone",
            "  b  [done]",
            "  pool/  [running]  up 2 h; 4 of 5 restarts left",
            "    c  [running, 1 restart]  up 2 h; last error: ValueError: no such table",
        ]
        await trio.sleep(80_000)
        assert tree.render().splitlines()[:2] == [
            "top/  [running]  up 24 h; 2 of 3 restarts left",
            "  a  [running, 1 restart]  up 22 h; last error: Boom: gone",
        ]
        await tree.terminate_child("a")
        assert tree.render().splitlines()[1] == "  a  [stopped, 1 restart]"


@story
async def test_a_tree_opened_in_the_code_of_a_child_stands_below_it() -> None:
    async def opens(name: str, *inner: Child[Any]) -> None:
        async with open_system(inner, name=name):
            await trio.sleep_forever()

    deepest = Child("host", opens, "deepest", Child("leaf", trio.sleep_forever))
    children = [
        Child("host", opens, "inner", Child("a", trio.sleep_forever), deepest),
        Child("last", trio.sleep_forever),
    ]
    async with open_system(children, name="top") as tree:
        await trio.sleep(0.5)
        assert tree.render().splitlines() == [
            "top/  [running]",
            "  host  [running]",
            "    inner/  [running]",
            "      a  [running]",
            "      host  [running]",
            "        deepest/  [running]",
            "          leaf  [running]",
            "  last  [running]",
        ]
        hosts = [(root.path, root.host.path if root.host else None) for root in roots()]
        assert hosts == [("top", None), ("inner", "top/host"), ("deepest", "inner/host")]
        inner = roots()[1]
        await tree.terminate_child("host")
        assert inner.host is None
        assert tree.render().splitlines()[1:] == [
            "  host  [stopped]",
            "  last  [running]  up 5.5 s",
        ]


# Handles


@story
async def test_from_a_child_to_the_supervisor_that_it_is() -> None:
    pool = DynamicSupervisor()
    children = [Child("a", trio.sleep_forever), Child("pool", pool)]
    async with open_system(children, name="top") as tree:
        assert tree.child("a").as_system is None
        found = tree.child("pool").as_system
        assert found is not None
        assert (type(found), found.path) == (SystemHandle, "top/pool")
        await found.start_child(Child("x", trio.sleep_forever))
        assert [info.key for info in found.which_children()] == ["x"]


@story
async def test_a_failure_from_outside_is_one_of_the_child() -> None:
    a = Actor(Record(), "a")
    async with open_system([a.child()], strategy="one_for_one") as tree:
        handle = tree.child("a")
        error = Boom("from outside")
        handle.fail(error)
        assert await handle.wait_incarnation(2) == "a#2"
        assert handle.last_report is not None
        assert handle.last_report.reason == Failed(error)
        with pytest.raises(TypeError, match="fail"):
            handle.fail(Boom)  # type: ignore[arg-type]
        await handle.terminate()
        handle.fail(Boom())
        await trio.sleep(1)
        assert a.record.order == "+a1 -a1 +a2 -a2"


@story
async def test_waiting_for_an_incarnation() -> None:
    a = Actor(Record(), "a", [1, *STAYS])
    child = a.child(backoff=lambda state: 3.0)
    async with open_system([child], strategy="one_for_one") as tree:
        handle = tree.child("a")
        begun = trio.current_time()
        assert await handle.wait_incarnation(1) == "a#1"
        assert trio.current_time() == begun
        a.die(Boom())
        assert await handle.wait_incarnation(2) == "a#2"
        assert trio.current_time() == begun + 4
        assert await handle.wait_incarnation(1) == "a#2"
        with pytest.raises((TypeError, ValueError), match="wait_incarnation"):
            await handle.wait_incarnation(0)
        with trio.move_on_after(100):
            await handle.wait_incarnation(3)
        assert trio.current_time() == begun + 104
        async with trio.open_nursery() as nursery:

            async def waits() -> None:
                with pytest.raises(SupervisorStopped, match="no incarnation 3"):
                    await handle.wait_incarnation(3)

            nursery.start_soon(waits)
            await trio.sleep(1)
            await handle.terminate()


# Roots


@story
async def test_the_living_roots_from_the_first_moment_to_the_last() -> None:
    seen: list[list[str]] = []

    def look() -> None:
        seen.append([root.path for root in roots()])

    async def inner() -> None:
        async with open_system([], name="inner"):
            look()
            await trio.sleep_forever()

    async def system(scope: Scope) -> None:
        look()
        await scope.start(Child("host", inner))

    async def last() -> None:
        try:
            await trio.sleep_forever()
        finally:
            look()

    look()
    async with open_system(system, name="top") as tree:
        await trio.sleep(1)
        await tree.start_child(Child("last", last))
        async with open_system([], name="b"):
            look()
    look()
    assert seen == [[], ["top"], ["top", "inner"], ["top", "inner", "b"], ["top", "inner"], []]
