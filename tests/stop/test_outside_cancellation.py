"""When the scope around a tree is cancelled, the tree still stops in order."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest
import trio

from actors import LISTENS, STAYS, Actor, cast
from spry_py import Child, Scope, Strategy, SystemSupervisor, current_context, open_system
from spry_py.testing import Step
from stories import Boom, Record, story


def two_levels(record: Record, runs: Sequence[Step]) -> list[Child[Any]]:
    a, b, c, d = cast(record, "abcd", runs, cleanup=2)
    return [a.child(), Child("sub", SystemSupervisor([b.child(), c.child()])), d.child()]


IN_ORDER = [(3, "-d1"), (5, "-c1"), (7, "-b1"), (9, "-a1")]


@pytest.mark.parametrize("runs", [STAYS, LISTENS])
@story
async def test_a_timeout_around_open_system(runs: Sequence[Step]) -> None:
    record = Record()
    with trio.move_on_after(1) as outside:
        async with open_system(two_levels(record, runs)):
            record.take()
            await trio.sleep_forever()
    assert outside.cancelled_caught
    assert record.facts == IN_ORDER


@story
async def test_a_timeout_around_an_embedded_supervisor() -> None:
    record = Record()
    with trio.move_on_after(1) as outside:
        await SystemSupervisor(two_levels(record, LISTENS))()
    assert outside.cancelled_caught
    assert record.facts[4:] == IN_ORDER


@story
async def test_the_nursery_of_an_embedded_tree_is_cancelled() -> None:
    record = Record()
    async with trio.open_nursery() as nursery:
        supervisor = SystemSupervisor(two_levels(record, LISTENS), name="top")
        handle = await nursery.start(supervisor)
        assert handle.path == "top"
        record.take()
        await trio.sleep(1)
        nursery.cancel_scope.cancel()
    assert nursery.cancel_scope.cancelled_caught
    assert record.facts == IN_ORDER


@pytest.mark.parametrize("embedded", [False, True])
@story
async def test_a_sibling_of_the_host_program_crashes(embedded: bool) -> None:
    record = Record()
    error = Boom("of the host")

    async def crash() -> None:
        await trio.sleep(1)
        raise error

    async def host() -> None:
        async with open_system(two_levels(record, LISTENS)):
            await trio.sleep_forever()

    with pytest.raises(ExceptionGroup) as caught:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(crash)
            if embedded:
                await nursery.start(SystemSupervisor(two_levels(record, STAYS)))
            else:
                nursery.start_soon(host)
    assert caught.value.exceptions == (error,)
    assert record.facts[4:] == IN_ORDER


@story
async def test_children_have_their_own_time_although_all_around_is_cancelled() -> None:
    record = Record()

    async def stubborn() -> None:
        context = current_context()
        await context.settled()
        record("asked")
        try:
            await trio.sleep_forever()
        finally:
            record("aborted")

    a = Actor(record, "a", LISTENS, cleanup=2)
    children = [a.child(), Child("stubborn", stubborn, shutdown=4)]
    with trio.move_on_after(1):
        async with open_system(children):
            await trio.sleep_forever()
    assert record.facts == [(0, "+a1"), (1, "asked"), (5, "aborted"), (7, "-a1")]


@story
async def test_a_child_that_fails_on_the_way_out_does_not_replace_the_cancellation() -> None:
    async def sour() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise Boom

    with trio.move_on_after(1) as outside:
        async with open_system([Child("sour", sour)]):
            await trio.sleep_forever()
    assert outside.cancelled_caught


@story
async def test_a_cancellation_while_the_tree_is_stopping_changes_nothing() -> None:
    record = Record()
    with trio.move_on_after(2) as outside:
        async with open_system(two_levels(record, LISTENS)):
            record.take()
            await trio.sleep(1)
    assert record.facts == IN_ORDER
    assert outside.cancel_called


@pytest.mark.parametrize("strategy", ["one_for_one", "rest_for_one", "one_for_all"])
@story
async def test_a_cancellation_during_a_restart(strategy: Strategy) -> None:
    record = Record()
    a, c = cast(record, "ac")
    b = Actor(record, "b", [10, *STAYS])
    with trio.move_on_after(15) as outside:
        async with open_system([a.child(), b.child(), c.child()], strategy=strategy):
            record.take()
            b.die()
            await trio.sleep_forever()
    assert outside.cancelled_caught
    assert (
        record.take_order()
        == {
            "one_for_one": "-b1 ~b2 -c1 -b2 -a1",
            "rest_for_one": "-b1 -c1 ~b2 -b2 -a1",
            "one_for_all": "-b1 -c1 -a1 +a2 ~b2 -b2 -a2",
        }[strategy]
    )


@story
async def test_no_cancellation_reaches_into_a_nested_supervisor_past_the_root() -> None:
    record = Record()
    leaf = Actor(record, "leaf", LISTENS, cleanup=3)
    deep: Child[Any] = leaf.child()
    for level in range(5):
        deep = Child(f"level{level}", SystemSupervisor([deep]))
    with trio.move_on_after(1):
        async with open_system([deep]):
            await trio.sleep_forever()
    assert record.facts == [(0, "+leaf1"), (4, "-leaf1")]


# A tree inside a child's own code


def owner(*children: Child[Any], **options: Any) -> Callable[..., Awaitable[None]]:
    """A child that opens a tree of its own and waits for its end."""

    async def own(*, task_status: trio.TaskStatus[None]) -> None:
        async with open_system(list(children), name="inner", **options) as tree:
            task_status.started()
            await tree.wait()

    return own


@story
async def test_a_tree_inside_a_child_settles_with_it() -> None:
    record = Record()
    a, b = cast(record, "ab")
    c, d = cast(record, "cd", LISTENS, cleanup=2)
    own = Child("own", owner(c.child(), d.child()), shutdown=50)
    async with open_system([a.child(), own, b.child()]) as tree:
        handle = tree.child("own")
        record.take()
        await trio.sleep(1)
    assert record.facts == [(1, "-b1"), (3, "-d1"), (5, "-c1"), (5, "-a1")]
    assert handle.last_report is not None
    assert handle.last_report.burden == "settling"


@story
async def test_a_tree_inside_a_child_is_aborted_with_it() -> None:
    record = Record()

    async def stubborn(name: str) -> None:
        context = current_context()
        await context.settled()
        record(f"{name} asked")
        try:
            await trio.sleep_forever()
        finally:
            record(f"{name} aborted")

    leaves = [Child(key, stubborn, key, shutdown=50) for key in "cd"]
    a = Actor(record, "a")
    own = Child("own", owner(*leaves), shutdown=4)
    async with open_system([a.child(), own]) as tree:
        handle = tree.child("own")
        await trio.sleep(1)
    # The whole of the inner tree is cancelled at once: d was asked, c never came to that.
    assert record.facts == [(0, "+a1"), (1, "d asked"), (5, "d aborted"), (5, "-a1")]
    assert handle.last_report is not None
    assert handle.last_report.burden == "aborted"


@story
async def test_a_scope_around_a_tree_inside_a_child_stops_it_in_order() -> None:
    record = Record()
    c, d = cast(record, "cd", LISTENS, cleanup=2)

    async def own() -> None:
        with trio.move_on_after(1):
            async with open_system([c.child(), d.child()]):
                await trio.sleep_forever()
        record("own goes on")
        await trio.sleep_forever()

    async with open_system([Child("own", own)]):
        await trio.sleep(9)
    assert record.facts[2:] == [(3, "-d1"), (5, "-c1"), (5, "own goes on")]


@story
async def test_the_failure_of_a_tree_inside_a_child_is_that_childs_failure() -> None:
    record = Record()
    a, c = cast(record, "ac")
    async with open_system([a.child(), Child("own", owner(c.child(), breaker=Nobody))]) as tree:
        c.die()
        await trio.sleep(1)
        report = tree.child("own").last_report
        assert report is not None
        assert report.failed
        assert "inner/c" in str(report.exception)
    assert record.order == "+a1 +c1 -c1 -a1 +a2 +c2 -c2 -a2"


class Nobody:
    """A breaker that refuses everything."""

    def may_restart(self, key: str, now: float) -> bool:
        return False


@story
async def test_outside_cancellation_goes_through_a_tree_inside_a_child_in_order() -> None:
    record = Record()
    a, b = cast(record, "ab")
    c, d = cast(record, "cd", LISTENS, cleanup=2)
    own = Child("own", owner(c.child(), d.child()), shutdown=50)
    with trio.move_on_after(1) as outside:
        async with open_system([a.child(), own, b.child()]):
            record.take()
            await trio.sleep_forever()
    assert outside.cancelled_caught
    assert record.facts == [(1, "-b1"), (3, "-d1"), (5, "-c1"), (5, "-a1")]


@story
async def test_a_tree_opened_by_a_system_function_is_not_left_behind() -> None:
    record = Record()
    a, b = cast(record, "ab")

    async def system(scope: Scope) -> None:
        async with open_system([a.child()]):
            await scope.start(b.child())
        record("inner tree gone")

    async with open_system(system):
        pass
    assert record.order == "+a1 +b1 -a1 inner tree gone -b1"
