"""`follow`: a snapshot of a running tree, and the events from exactly there on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio
import trio.testing

from actors import Actor, cast
from followers import Follower, living
from listeners import line, rest_of
from spry_py import (
    Child,
    DynamicSupervisor,
    NeverRestart,
    Scope,
    Snapshot,
    SystemHandle,
    SystemSupervisor,
    open_system,
)
from spry_py._handles import following
from spry_py.events import Event, EventsLost
from stories import Boom, Record, story


@pytest.fixture
def thin_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slice for each node: everything may happen between any two of them."""
    monkeypatch.setattr(following, "SLICE", -1.0)


class Holder:
    """Holds a reader up in each pause, until it is let go on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.pauses = 0
        self.free = False
        self._go_on = trio.Event()
        monkeypatch.setattr(following.Reader, "_pause", self.pause(following.Reader._pause))

    def pause(self, pause: Any) -> Any:
        async def held(reader: following.Reader) -> None:
            self.pauses += 1
            if not self.free:
                await self._go_on.wait()
            await pause(reader)

        return held

    async def step(self) -> None:
        """Let it read one more node."""
        go_on, self._go_on = self._go_on, trio.Event()
        go_on.set()
        await trio.testing.wait_all_tasks_blocked()

    def let_go(self) -> None:
        self.free = True
        self._go_on.set()


@pytest.fixture
def holder(monkeypatch: pytest.MonkeyPatch, thin_slices: None) -> Holder:
    return Holder(monkeypatch)


class Following:
    """A follower in a task of its own, held up by a `Holder`."""

    def __init__(self, tree: SystemHandle, capacity: float = 1024) -> None:
        self.tree = tree
        self.capacity = capacity
        self.snapshot: Snapshot | None = None
        self.news: list[str] = []
        self.follower: Follower | None = None

    async def run(self) -> None:
        async with self.tree.follow(self.capacity) as (snapshot, events):
            self.snapshot = snapshot
            self.follower = Follower(snapshot)
            await self.follower.read(self.noted(events))

    async def noted(self, events: AsyncIterator[Event]) -> AsyncIterator[Event]:
        async for event in events:
            self.news.append(line(event).split(" ", 1)[1])
            yield event


# From a tree at rest


@story
async def test_a_snapshot_and_what_follows_it() -> None:
    a, b = cast(Record(), "ab")
    options: Any = {"name": "top", "strategy": "one_for_one"}
    async with open_system([a.child(), b.child()], **options) as tree:
        async with tree.follow() as (snapshot, events):
            assert snapshot == tree.snapshot()
            assert [node.seq for _, node in snapshot.walk()] == [0, 0, 0]
            b.die(Boom())
            await trio.sleep(1)
            assert await rest_of(events) == [
                "1 0 ChildTerminated top/b #1 Boom() none",
                "2 0 IncidentOpened top/b",
                "3 0 RestartScheduled top/b in 0 attempt 1",
                "4 0 ChildStarting top/b #2",
                "5 0 ChildStarted top/b #2",
                "6 0 IncidentClosed top/b cured",
            ]
            async with tree.follow() as (later, _):
                assert [node.seq for _, node in later.walk()] == [6, 6, 6]
                assert later == tree.snapshot() != snapshot
        with pytest.raises(trio.ClosedResourceError):
            await anext(events)
        assert tree._tree.stream.subscribers == []


@story
async def test_a_part_of_a_tree_is_followed_alone() -> None:
    a, b = cast(Record(), "ab")
    subs = [Child("s1", SystemSupervisor([a.child()])), Child("s2", SystemSupervisor([b.child()]))]
    async with open_system(subs, name="top") as tree:
        s1 = tree.system("s1")
        async with s1.follow() as (snapshot, events):
            assert (snapshot.path, [child.path for child in snapshot.children]) == (
                "top/s1",
                ["top/s1/a"],
            )
            b.die()
            a.stop()
            await trio.sleep(1)
            read = await rest_of(events)
            assert {text.split(" ")[3].split("/")[1] for text in read} == {"s1"}


@story
async def test_after_the_end_there_is_a_last_snapshot_and_nothing_more() -> None:
    a = Actor(Record(), "a")
    async with open_system([a.child()], name="top") as tree:
        pass
    async with tree.follow() as (snapshot, events):
        assert [node.status for _, node in snapshot.walk()] == ["stopped", "stopped"]
        assert [event async for event in events] == []


@story
async def test_a_slow_reader_is_told_how_much_is_missing() -> None:
    a = Actor(Record(), "a")
    async with open_system([a.child()], name="top", strategy="one_for_one") as tree:
        block = tree.follow(capacity=2)
        async with block as (_, events):
            a.die()
            await trio.sleep(1)
            assert await anext(events) == EventsLost(4, 0.0, "top", 4)
            assert len(await rest_of(events)) == 2


# While it is read


@story
async def test_what_happens_to_a_node_before_it_is_read_is_in_the_snapshot(holder: Holder) -> None:
    a, b, c = cast(Record(), "abc")
    options: Any = {"name": "top", "strategy": "one_for_one"}
    async with open_system([x.child() for x in (a, b, c)], **options) as tree:
        follows = Following(tree)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(follows.run)
            await trio.testing.wait_all_tasks_blocked()
            await holder.step()  # the root has been read
            await holder.step()  # and so has a
            for actor in (a, c):
                actor.die()
                await trio.sleep(1)
            holder.let_go()
            await trio.sleep(1)
            assert follows.snapshot is not None
            incarnations = {child.key: child.incarnation for child in follows.snapshot.children}
            assert incarnations == {"a": 1, "b": 1, "c": 2}
            assert follows.news == [
                "ChildTerminated top/a #1 Boom('a1') none",
                "IncidentOpened top/a",
                "RestartScheduled top/a in 0 attempt 1",
                "ChildStarting top/a #2",
                "ChildStarted top/a #2",
                "IncidentClosed top/a cured",
            ]
            assert follows.follower is not None
            assert follows.follower.living == living(tree.snapshot())
            nursery.cancel_scope.cancel()


@story
async def test_children_that_come_and_go_while_their_supervisor_is_read(holder: Holder) -> None:
    actors = list(cast(Record(), "abcde"))
    a, b, c, d, e = actors
    pool = DynamicSupervisor(name="top")
    async with open_system(pool) as tree:
        for actor in (a, b, c, d):
            await tree.start_child(actor.child())
        follows = Following(tree)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(follows.run)
            await trio.testing.wait_all_tasks_blocked()
            await holder.step()
            await tree.terminate_child("c")
            await tree.terminate_child("d")
            await tree.start_child(d.child())
            await tree.start_child(e.child())
            holder.let_go()
            await trio.sleep(1)
            await tree.start_child(c.child())
            await trio.sleep(1)
            assert follows.snapshot is not None
            assert [child.key for child in follows.snapshot.children] == ["a", "b", "d"]
            assert follows.news == [
                "ChildStarting top/e #1",
                "ChildStarted top/e #1",
                "ChildStarting top/c #1",
                "ChildStarted top/c #1",
            ]
            assert follows.follower is not None
            assert follows.follower.living == living(tree.snapshot())
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize("steps", range(8))
@story
async def test_a_tree_that_restarts_whole_between_any_two_nodes(holder: Holder, steps: int) -> None:
    record = Record()
    a, b, c = cast(record, "abc")
    (below,) = cast(record, "c")
    declared = [a.child(), b.child()]

    async def system(scope: Scope) -> None:
        for child in declared:
            await scope.start(child)

    sub = Child("sub", SystemSupervisor(system, breaker=NeverRestart))
    mid = Child("mid", SystemSupervisor([sub]))
    async with open_system([mid, c.child()], name="top") as tree:
        follows = Following(tree)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(follows.run)
            await trio.testing.wait_all_tasks_blocked()
            for _ in range(steps):
                await holder.step()
            declared[:] = [b.child(), below.child()]
            b.die()
            await trio.sleep(1)
            await tree.child("mid").restart()
            await trio.sleep(1)
            holder.let_go()
            await trio.sleep(1)
            assert follows.follower is not None
            assert follows.follower.living == living(tree.snapshot())
            assert set(follows.follower.living) >= {"top/mid/sub/b", "top/mid/sub/c", "top/c"}
            nursery.cancel_scope.cancel()


@story
async def test_a_subtree_that_is_gone_for_good_when_its_turn_comes(holder: Holder) -> None:
    a = Actor(Record(), "a")
    async with open_system(DynamicSupervisor(name="top")) as tree:
        await tree.start_child(Child("sub", SystemSupervisor([a.child()])))
        follows = Following(tree)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(follows.run)
            await trio.testing.wait_all_tasks_blocked()
            await holder.step()
            await holder.step()  # sub has been read, and a has not
            await tree.terminate_child("sub")
            holder.let_go()
            await trio.sleep(1)
            assert follows.follower is not None
            assert follows.follower.living == {}
            nursery.cancel_scope.cancel()


@story
async def test_what_was_recorded_meanwhile_is_bounded_like_all_else(holder: Holder) -> None:
    a = Actor(Record(), "a")
    async with open_system([a.child()], name="top", strategy="one_for_one") as tree:
        async with trio.open_nursery() as nursery:
            seen: list[str] = []

            async def follow() -> None:
                async with tree.follow(capacity=3) as (_, events):
                    seen.extend(await rest_of(events))

            nursery.start_soon(follow)
            await trio.testing.wait_all_tasks_blocked()
            holder.free = False
            await holder.step()
            await holder.step()
            a.die()
            await trio.sleep(1)
            holder.let_go()
        assert seen[0] == "3 0 EventsLost top 3"
        assert len(seen) == 4


# Left half-way


@pytest.mark.parametrize("steps", range(5))
@story
async def test_cancelled_in_any_phase_it_leaves_nothing_behind(holder: Holder, steps: int) -> None:
    a, b = cast(Record(), "ab")
    async with open_system([a.child(), b.child()], name="top", strategy="one_for_one") as tree:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(Following(tree).run)
            if steps:
                await trio.testing.wait_all_tasks_blocked()
                for _ in range(steps - 1):
                    await holder.step()
                assert len(tree._tree.stream.subscribers) == 1
            nursery.cancel_scope.cancel()
        assert tree._tree.stream.subscribers == []
        a.die()
        await trio.sleep(1)
        assert tree.child("a").incarnation == 2


@story
async def test_the_tree_may_end_while_it_is_read(holder: Holder) -> None:
    a, b = cast(Record(), "ab")
    async with trio.open_nursery() as nursery:
        async with open_system([a.child(), b.child()], name="top") as tree:
            follows = Following(tree)
            nursery.start_soon(follows.run)
            await trio.testing.wait_all_tasks_blocked()
            await holder.step()
            await holder.step()
        holder.let_go()
    assert follows.follower is not None
    assert follows.follower.living == {}
    assert [text.split(" ")[0] for text in follows.news][-1] == "SystemStopped"


@story
async def test_a_large_tree_lets_others_run_between_slices(thin_slices: None) -> None:
    turns: list[int] = []

    async def counts() -> None:
        while True:
            turns.append(1)
            await trio.lowlevel.checkpoint()

    children = [Child(str(n), trio.sleep_forever) for n in range(50)]
    async with open_system(children) as tree, trio.open_nursery() as nursery:
        nursery.start_soon(counts)
        async with tree.follow() as (snapshot, _):
            assert len(snapshot.children) == 50
            assert len(turns) > 50
        nursery.cancel_scope.cancel()


# Bad values, and other threads


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"capacity": 0}, ValueError, "follow: capacity"),
        ({"capacity": "9"}, TypeError, "follow: capacity"),
        ({"history": 1}, TypeError, "follow: history"),
    ],
    ids=repr,
)
@story
async def test_bad_values_are_refused_where_they_are_written(
    options: Any, error: type[Exception], text: str
) -> None:
    async with open_system([]) as tree:
        with pytest.raises(error, match=text):
            tree.follow(**options)


@story
async def test_the_usual_slips_are_refused() -> None:
    async with open_system([]) as tree:
        follow: Any = tree.follow
        with pytest.raises(TypeError, match="it is a block"):
            await follow()
        with pytest.raises(TypeError, match="it is a block"), follow():
            pass


def test_another_thread_may_not_follow() -> None:
    async def main() -> None:
        async with open_system([]) as tree:
            with pytest.raises(RuntimeError, match=r"trio\.from_thread"):
                await trio.to_thread.run_sync(tree.follow)

    trio.run(main)
