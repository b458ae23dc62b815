"""Subscribers: what each of them gets, whatever the others do, and that the tree is never hurt."""

from __future__ import annotations

from collections.abc import AsyncIterator
from itertools import pairwise
from typing import Any

import pytest
import trio
import trio.lowlevel
from trio.testing import assert_checkpoints

from actors import Actor, cast
from listeners import Heard, line, listened, one_by_one, rest_of
from spry_py import (
    Child,
    NeverRestart,
    SystemHandle,
    SystemSupervisor,
    cancel_on_settle,
    open_system,
)
from spry_py.events import Event
from spry_py.lowlevel import hear
from stories import Record, story
from trapped import unraisable

# One among others


@story
async def test_two_subscribers_get_the_same_events() -> None:
    a = Actor(Record(), "a")
    late = Heard(incidents=True)
    async with listened(one_by_one(a), incidents=True) as (tree, first):
        a.die()
        await trio.sleep(1)
        async with trio.open_nursery() as nursery:
            await nursery.start(late.listen, tree, 6)
            a.die()
            await trio.sleep(1)
            nursery.cancel_scope.cancel()
        assert len(first.events) == 12
        assert all(x is y for x, y in zip(late.events, first.events[-6:], strict=True))


@story
async def test_events_are_numbered_only_while_somebody_listens() -> None:
    a = Actor(Record(), "a")
    async with open_system(one_by_one(a)) as tree:
        a.die()
        await trio.sleep(1)
        for first in (1, 7):
            async with tree.events() as events:
                a.die()
                await trio.sleep(1)
                assert (await anext(events)).seq == first


@story
async def test_a_subscriber_that_fails_harms_nobody() -> None:
    a = Actor(Record(), "a")
    async with listened(one_by_one(a), incidents=True) as (tree, heard):
        with pytest.raises(ZeroDivisionError):
            async with tree.events() as events:
                a.die()
                async for event in events:
                    raise ZeroDivisionError(event)
        await trio.sleep(1)
        a.die()
        await trio.sleep(1)
        assert [event.seq for event in heard.events] == list(range(1, 13))
        assert tree.child("a").status == "running"


@story
async def test_a_cancelled_subscriber_harms_nobody() -> None:
    a = Actor(Record(), "a")
    other = Heard()
    async with listened(one_by_one(a), incidents=True) as (tree, heard):
        async with trio.open_nursery() as nursery:
            await nursery.start(other.listen, tree)
            # it is woken and cancelled in the same moment
            a.die()
            await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
        await trio.sleep(1)
        a.die()
        await trio.sleep(1)
        assert [event.seq for event in heard.events] == list(range(1, 13))


@story
async def test_cancelling_a_read_loses_nothing() -> None:
    a = Actor(Record(), "a")
    async with open_system(one_by_one(a)) as tree, tree.events() as events:
        with trio.move_on_after(1) as scope:
            await anext(events)
        assert scope.cancelled_caught
        a.die()
        await trio.sleep(1)
        with trio.CancelScope() as scope:
            scope.cancel()
            await anext(events)
        assert scope.cancelled_caught
        assert [text.split()[0] for text in await rest_of(events)] == ["1", "2", "3", "4", "5", "6"]


@story
async def test_a_long_buffer_leaves_room_for_others() -> None:
    actors = list(cast(Record(), "abcdefghijklmnopqrstuvwxyz"))
    passes: list[int] = []

    async def watch(*, task_status: trio.TaskStatus[None]) -> None:
        task_status.started()
        while True:
            passes.append(read)
            await trio.lowlevel.checkpoint()

    read = 0
    async with open_system(one_by_one(*actors)) as tree, tree.events() as events:
        await tree.stop()
        async with trio.open_nursery() as nursery:
            await nursery.start(watch)
            async for _ in events:
                read += 1
            nursery.cancel_scope.cancel()
    assert read == 54
    # tasks take turns in an order of trio's own: two turns of the reader may meet
    assert max(after - before for before, after in pairwise([*passes, read])) <= 32


@story
async def test_a_read_that_finds_nothing_is_a_checkpoint() -> None:
    a = Actor(Record(), "a")
    async with open_system(one_by_one(a)) as tree, tree.events() as events:
        with assert_checkpoints(), trio.move_on_after(1):
            await anext(events)
        await tree.stop()
        await rest_of(events)
        with assert_checkpoints(), pytest.raises(StopAsyncIteration):
            await anext(events)


@story
async def test_two_readers_share_one_subscription() -> None:
    a = Actor(Record(), "a")
    seqs: list[int] = []

    async def read(events: AsyncIterator[Event]) -> None:
        async for event in events:
            seqs.append(event.seq)
            await trio.sleep(0.1)

    async with (
        open_system(one_by_one(a)) as tree,
        tree.events() as events,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(read, events)
        nursery.start_soon(read, events)
        await trio.sleep(1)
        a.die()
        await trio.sleep(1)
        await tree.stop()
    assert sorted(seqs) == list(range(1, 11))


@story
async def test_a_subscription_that_has_been_left_is_of_no_use() -> None:
    a = Actor(Record(), "a")

    async def read(events: AsyncIterator[Event]) -> None:
        with pytest.raises(trio.ClosedResourceError):
            await anext(events)

    async with open_system(one_by_one(a)) as tree, trio.open_nursery() as nursery:
        async with tree.events() as events:
            nursery.start_soon(read, events)
            await trio.sleep(1)
            a.die()
        await read(events)


# Whom it listens to


@story
async def test_a_subscriber_of_a_subtree_hears_that_subtree() -> None:
    a, b, c = cast(Record(), "abc")
    children = [Child("sub", one_by_one(a)), Child("sub2", one_by_one(b)), c.child()]
    async with listened(children, strategy="one_for_one") as (tree, whole):
        heard = Heard()
        async with trio.open_nursery() as nursery:
            await nursery.start(heard.listen, tree.find("sub").value)
            for actor in (c, b, a):
                actor.die()
                await trio.sleep(1)
            assert [event.seq for event in heard.events] == [13, 15, 16, 17]
            assert heard.take() == [
                "2 ChildTerminated top/sub/a #1 Boom('a1') none",
                "2 RestartScheduled top/sub/a in 0 attempt 1",
                "2 ChildStarting top/sub/a #2",
                "2 ChildStarted top/sub/a #2",
            ]
            nursery.cancel_scope.cancel()
        assert len(whole.events) == 12


@story
async def test_a_subscription_lasts_over_all_incarnations() -> None:
    a = Actor(Record(), "a")
    sub = SystemSupervisor([a.child()], breaker=NeverRestart)
    async with open_system([Child("sub", sub)], name="top", strategy="one_for_one") as tree:
        handle: SystemHandle = tree.find("sub").value
        async with handle.events() as events:
            for _ in range(2):
                a.die()
                await trio.sleep(1)
            read = [text for text in await rest_of(events) if text.endswith(("sub #2", "sub #3"))]
            assert read == [
                "9 0 ChildStarting top/sub #2",
                "13 0 ChildStarted top/sub #2",
                "23 1 ChildStarting top/sub #3",
                "27 1 ChildStarted top/sub #3",
            ]


@story
async def test_a_child_may_listen_to_its_own_tree() -> None:
    a = Actor(Record(), "a")
    heard: list[str] = []

    async def listen(top: list[SystemHandle]) -> None:
        with cancel_on_settle():
            while not top:
                await trio.sleep(1)
            async with top[0].events() as events:
                async for event in events:
                    heard.append(line(event))  # noqa: PERF401 - what it hears until it is cancelled

    top: list[SystemHandle] = []
    async with open_system(
        [a.child(), Child("ear", listen, top)], name="top", strategy="one_for_one"
    ) as tree:
        top.append(tree)
        await trio.sleep(2)
        a.die()
        await trio.sleep(1)
    assert heard == [
        "2 ChildTerminated top/a #1 Boom('a1') none",
        "2 IncidentOpened top/a",
        "2 RestartScheduled top/a in 0 attempt 1",
        "2 ChildStarting top/a #2",
        "2 ChildStarted top/a #2",
        "2 IncidentClosed top/a cured",
        "3 SystemTeardown top",
    ]


# The end of the stream


@story
async def test_the_stream_ends_with_the_root_and_not_with_the_subtree() -> None:
    a, b = cast(Record(), "ab")
    sub = Child("sub", one_by_one(a), restart="temporary")
    async with open_system([sub, b.child()], name="top", strategy="one_for_one") as tree:
        handle: SystemHandle = tree.find("sub").value
        async with handle.events() as events, trio.open_nursery() as nursery:
            await handle.stop()
            assert [text.split(" ", 1)[1] for text in await rest_of(events)] == [
                "0 SystemTeardown top/sub",
                "0 ChildAborted top/sub/a #1",
                "0 ChildTerminated top/sub/a #1 Aborted aborted",
                "0 SystemStopped top/sub",
                "0 ChildTerminated top/sub #1 Normal none",
            ]
            nursery.start_soon(tree.stop)
            with pytest.raises(StopAsyncIteration):
                await anext(events)
            assert tree.status == "stopped"


@story
async def test_what_is_kept_can_be_read_after_the_root_has_ended() -> None:
    a = Actor(Record(), "a")
    async with open_system(one_by_one(a)) as tree, tree.events() as events:
        await tree.stop()
        await trio.sleep(5)
        read = [line(event) async for event in events]
    assert read == [
        "0 SystemTeardown top",
        "0 ChildAborted top/a #1",
        "0 ChildTerminated top/a #1 Aborted aborted",
        "0 SystemStopped top",
    ]


@story
async def test_a_subscription_to_a_tree_that_has_ended_ends_at_once() -> None:
    async with open_system([], name="top") as tree:
        pass
    async with tree.events() as events:
        assert [event async for event in events] == []


# Bad values


@pytest.mark.parametrize(
    ("capacity", "error"),
    [(0, ValueError), (-1, ValueError), (1.5, TypeError), (True, TypeError), ("9", TypeError)],
    ids=repr,
)
def test_a_bad_capacity_is_refused_where_it_is_written(capacity: Any, error: Any) -> None:
    async def story() -> None:
        async with open_system([]) as tree:
            with pytest.raises(error) as raised:
                tree.events(capacity)
            text = f"events: capacity must be an int, 1 or more, or inf, not {capacity!r}"
            assert str(raised.value) == text

    trio.run(story)


# One that hears at once


class Hearer:
    """Writes down what it is offered, and fails each time."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def offer(self, event: Event) -> None:
        self.heard.append(line(event))
        raise ValueError("no disk")

    def wake(self) -> None:
        self.heard.append("end")
        raise ValueError("no disk")


@story
async def test_a_hearer_that_fails_hears_all_until_it_is_taken_back() -> None:
    a = Actor(Record(), "a")
    hearer, other, over = Hearer(), Heard(incidents=True), Hearer()
    with unraisable() as dropped:
        async with trio.open_nursery() as nursery, open_system(one_by_one(a)) as tree:
            undo, to_the_end = hear(tree, hearer), hear(tree.child("a"), over)
            await nursery.start(other.listen, tree)
            a.die()
            assert hearer.heard == []
            await trio.sleep(1)
            assert hearer.heard == over.heard == [line(event) for event in other.events] != []
            undo()
            undo()
            hearer.heard.clear()
            a.die()
            await trio.sleep(1)
            assert hearer.heard == []
            assert tree.child("a").history() == ()
            hear(tree, hearer, history=True)()
            a.die()
            await trio.sleep(1)
            assert len(tree.child("a").history()) == 6
        to_the_end()
    assert over.heard[-1] == "end"
    assert {str(one.exc_value) for one in dropped} == {"no disk"}
