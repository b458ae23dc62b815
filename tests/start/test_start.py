"""How children start: one at a time, in order, and what happens when one does not."""

from __future__ import annotations

import functools

import pytest
import trio

from actors import STAYS, Actor, cast, no_start
from spry_py import (
    Child,
    ChildFailure,
    Normal,
    ReusedKey,
    Scope,
    StartTimeout,
    SystemHandle,
    SystemSupervisor,
    TerminationReport,
    open_system,
)
from stories import Boom, Record, story, told_by


@story
async def test_children_start_one_at_a_time_in_the_order_awaited_and_stop_in_reverse() -> None:
    record = Record()
    a, b, c = cast(record, "abc", [1, *STAYS])
    async with open_system([a.child(), b.child(), c.child()]):
        record("up")
        await trio.sleep(7)
    assert record.facts == [
        (0, "~a1"),
        (1, "+a1"),
        (1, "~b1"),
        (2, "+b1"),
        (2, "~c1"),
        (3, "+c1"),
        (3, "up"),
        (10, "-c1"),
        (10, "-b1"),
        (10, "-a1"),
    ]


@story
async def test_order_is_depth_first_across_nested_systems() -> None:
    record = Record()
    a, b, c, d, e = cast(record, "abcde", cleanup=1)
    inner = SystemSupervisor([c.child()])
    middle = SystemSupervisor([b.child(), Child("inner", inner), d.child()])
    async with open_system([a.child(), Child("middle", middle), e.child()]):
        record("up")
    assert record.facts == [
        (0, "+a1"),
        (0, "+b1"),
        (0, "+c1"),
        (0, "+d1"),
        (0, "+e1"),
        (0, "up"),
        (1, "-e1"),
        (2, "-d1"),
        (3, "-c1"),
        (4, "-b1"),
        (5, "-a1"),
    ]


@story
async def test_a_started_value_goes_to_whoever_started_the_child() -> None:
    record = Record()
    a, b = cast(record, "ab")

    async def system(scope: Scope) -> None:
        value = await scope.start(a.child())
        value = await scope.start(b.child("x", value))
        record(f"got {value}")

    async with open_system(system):
        pass
    assert record.order == "+a1 +b1(x,a#1) got b#1 -b1 -a1"


@story
async def test_any_trio_style_function_is_a_child_serve_tcp_included() -> None:
    async def handler(stream: trio.SocketStream) -> None:
        raise AssertionError("nobody connects")

    serve = functools.partial(trio.serve_tcp, handler, host="127.0.0.1")
    async with open_system([Child("api", serve, 0)]) as tree:
        (listener,) = tree.child("api").value
        assert listener.socket.getsockname()[0] == "127.0.0.1"
    assert listener.socket.fileno() == -1


@story
async def test_one_that_ends_without_calling_started_has_failed_its_start() -> None:
    record = Record()
    (a,) = cast(record, "a")

    async def forgetful(*, task_status: trio.TaskStatus[str]) -> None:
        await trio.sleep(1)

    with pytest.raises(ChildFailure) as caught:
        async with open_system([a.child(), Child("forgetful", forgetful)], name="top"):
            record("never")
    assert (caught.value.key, caught.value.path) == ("forgetful", "top/forgetful")
    assert any("started" in str(error) for error in told_by(caught.value))
    assert record.facts == [(0, "+a1"), (1, "-a1")]


@story
async def test_without_task_status_a_child_is_started_at_its_first_checkpoint() -> None:
    record = Record()

    async def plain() -> None:
        record("plain runs")
        await trio.sleep(1)
        record("plain goes on")
        await trio.sleep_forever()

    async def system(scope: Scope) -> None:
        record(f"got {await scope.start(Child('plain', plain))}")

    async with open_system(system):
        await trio.sleep(2)
    assert record.facts == [(0, "plain runs"), (0, "got None"), (1, "plain goes on")]


@story
async def test_one_that_returns_before_any_checkpoint_has_started_and_ended_normal() -> None:
    record = Record()
    reports: list[TerminationReport] = []

    async def keep(report: TerminationReport) -> None:
        reports.append(report)

    async def quick() -> int:
        return 7

    async def system(scope: Scope) -> None:
        child = Child("quick", quick, restart="transient", on_termination=keep)
        record(f"got {await scope.start(child)}")

    async with open_system(system, name="top") as tree:
        await trio.sleep(1)
        assert tree.child("quick").status == "done"
    assert record.facts == [(0, "got None")]
    assert reports == [TerminationReport("quick", "top/quick", 1, Normal(7), "none", 0.0, 0.0)]


@story
async def test_one_that_raises_before_any_checkpoint_has_failed_its_start() -> None:
    record = Record()
    (a,) = cast(record, "a")
    error = Boom("at once")

    async def broken() -> None:
        raise error

    with pytest.raises(ChildFailure) as caught:
        async with open_system([a.child(), Child("broken", broken)], name="top"):
            record("never")
    assert (caught.value.key, caught.value.path) == ("broken", "top/broken")
    assert caught.value.__cause__ is error
    assert record.order == "+a1 -a1"


@story
async def test_one_that_raises_after_its_first_checkpoint_had_started() -> None:
    record = Record()
    runs = 0

    async def late() -> None:
        nonlocal runs
        runs += 1
        record(f"late{runs}")
        await trio.sleep(1)
        if runs == 1:
            raise Boom
        await trio.sleep_forever()

    async with open_system([Child("late", late)]):
        record("up")
        await trio.sleep(3)
    assert record.facts == [(0, "late1"), (0, "up"), (1, "late2")]


@story
async def test_a_supervisor_is_started_when_its_whole_subtree_is() -> None:
    record = Record()
    a, b = cast(record, "ab", [1, *STAYS])

    async def system(scope: Scope) -> None:
        handle = await scope.start(Child("sub", SystemSupervisor([a.child(), b.child()])))
        record("sub is up")
        assert isinstance(handle, SystemHandle)
        assert handle.path == "top/sub"
        assert [info.key for info in handle.which_children()] == ["a", "b"]

    async with open_system(system, name="top"):
        pass
    assert record.facts == [
        (0, "~a1"),
        (1, "+a1"),
        (1, "~b1"),
        (2, "+b1"),
        (2, "sub is up"),
        (2, "-b1"),
        (2, "-a1"),
    ]


@story
async def test_a_key_used_twice_in_one_startup_is_refused() -> None:
    record = Record()
    (a,) = cast(record, "a")

    async def system(scope: Scope) -> None:
        await scope.start(a.child())
        with pytest.raises(ReusedKey, match="'a'"):
            await scope.start(a.child())
        record("refused")

    async with open_system(system):
        pass
    assert record.order == "+a1 refused -a1"


@story
async def test_a_reused_key_that_nobody_catches_fails_the_startup() -> None:
    record = Record()
    a, b = cast(record, "ab")
    with pytest.raises(Exception, match="'a'") as caught:
        async with open_system([a.child(), b.child(), a.child()]):
            record("never")
    assert any(isinstance(error, ReusedKey) for error in told_by(caught.value))
    assert record.order in ("+a1 +b1 -b1 -a1", "")


@story
async def test_a_key_whose_start_failed_and_was_caught_is_free_again() -> None:
    record = Record()
    a = Actor(record, "a", [no_start], STAYS)

    async def system(scope: Scope) -> None:
        with pytest.raises(ChildFailure):
            await scope.start(a.child())
        record(f"got {await scope.start(a.child())}")

    async with open_system(system) as tree:
        assert tree.child("a").status == "running"
    assert record.order == "!a1 +a2 got a#2 -a2"


@story
async def test_past_start_timeout_a_start_has_failed() -> None:
    record = Record()
    a = Actor(record, "a")
    b = Actor(record, "b", [10, *STAYS], cleanup=1)
    with pytest.raises(ChildFailure) as caught:
        async with open_system([a.child(), b.child(start_timeout=2)]):
            record("never")
    assert isinstance(caught.value.__cause__, StartTimeout)
    assert record.facts == [(0, "+a1"), (0, "~b1"), (3, "-b1"), (3, "-a1")]


@story
async def test_start_timeout_is_over_once_started() -> None:
    record = Record()
    a = Actor(record, "a", [1.5, *STAYS])
    async with open_system([a.child(start_timeout=2)]):
        await trio.sleep(8.5)
    assert record.facts == [(0, "~a1"), (1.5, "+a1"), (10, "-a1")]


@story
async def test_start_timeout_of_a_subsystem_cancels_it_whole() -> None:
    record = Record()
    a, b = cast(record, "ab")
    c = Actor(record, "c", [10, *STAYS])
    sub = SystemSupervisor([b.child(), c.child()])
    with pytest.raises(ChildFailure) as caught:
        async with open_system([a.child(), Child("sub", sub, start_timeout=2)], name="top"):
            record("never")
    assert caught.value.path == "top/sub"
    assert isinstance(caught.value.__cause__, StartTimeout)
    assert record.facts[:3] == [(0, "+a1"), (0, "+b1"), (0, "~c1")]
    # Too late, the subtree is cancelled whole; what stands before it is not.
    assert sorted(record.facts[3:5]) == [(2, "-b1"), (2, "-c1")]
    assert record.facts[5:] == [(2, "-a1")]


@story
async def test_a_start_that_swallows_its_timeout_has_failed_all_the_same() -> None:
    record = Record()

    async def stubborn(*, task_status: trio.TaskStatus[str]) -> None:
        try:
            await trio.sleep(10)
        except trio.Cancelled:
            record("swallowed")
        with pytest.raises(RuntimeError, match="started"):
            task_status.started("late")
        try:
            await trio.sleep_forever()
        finally:
            record("gone")

    with pytest.raises(ChildFailure) as caught:
        async with open_system([Child("stubborn", stubborn, start_timeout=2)]):
            record("never")
    assert isinstance(caught.value.__cause__, StartTimeout)
    assert record.facts == [(2, "swallowed"), (2, "gone")]
