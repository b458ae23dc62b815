"""The handles of a tree in code of asyncio: what they are asked, and what they are told to do."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextvars import copy_context
from typing import Any

import pytest
import trio

import spry_py
from hosts import Notes, for_ever, in_asyncio
from spry_py import (
    Child,
    ChildAlreadyStarted,
    ChildCounts,
    ChildFailure,
    ChildNotFound,
    ChildRunning,
    DynamicSupervisor,
    Failed,
    Interrupted,
    Normal,
    Scope,
    SupervisorStopped,
    WouldDeadlock,
    aio,
    current_context,
)
from spry_py.aio import ChildHandle, SystemHandle, open_system, settled, started, task
from spry_py.aio.call import Bridge
from spry_py.aio.source import read
from spry_py.events import ChildStarted, Event
from stories import Boom
from ways import both_ways


@in_asyncio
async def test_queries_answer_as_those_of_trio_do() -> None:
    notes = Notes()
    async with open_system(notes.system("ab"), name="app") as handle:
        a = handle.child("a")
        assert (a.path, a.key, a.kind, a.status) == ("app/a", "a", "worker", "running")
        assert (a.value, a.incarnation, a.restarts, a.last_report) == ("a", 1, 0, None)
        assert a.info() == handle.which_children()[0]
        assert " in live\n" in a.stack()
        assert a.as_system is None
        assert handle.count_children() == ChildCounts(2, 2, 0, 2)
        assert [node.path for _, node in handle.snapshot().walk()] == ["app", "app/a", "app/b"]
        assert handle.render().splitlines()[1] == "  a  [running]"
        assert handle.new_key("job") == "job-1"
        assert repr(a) == "<ChildHandle 'app/a', running>"
        with pytest.raises(ChildNotFound):
            handle.child("z")


@in_asyncio
async def test_a_subsystem_has_a_handle_of_its_own() -> None:
    async def shop(scope: Scope) -> None:
        await scope.start(Child("pool", DynamicSupervisor()))

    async with open_system(shop) as handle:
        pool = handle.system("pool")
        await pool.start_child(Notes().child("x"))
        assert handle.find("pool/x").value == "x"
        also = handle.child("pool").as_system
        assert isinstance(also, SystemHandle)
        assert also.child("x").path == "shop/pool/x"
        assert SystemHandle(handle.child("pool").value).count_children().active == 1


@in_asyncio
async def test_children_come_and_go_by_calls() -> None:
    notes = Notes()
    async with open_system(notes.system("a"), strategy="one_for_one") as handle:
        b = await handle.start_child(notes.child("b"))
        assert isinstance(b, ChildHandle)
        with pytest.raises(ChildAlreadyStarted):
            await handle.start_child(notes.child("b"))
        with pytest.raises(ChildRunning):
            await handle.delete_child("b")
        await b.restart()
        assert await b.wait_started() == "b"
        assert await b.wait_incarnation(2) == "b"
        await b.terminate()
        assert (await handle.restart_child("b")).incarnation == 3
        await handle.terminate_child("b")
        await handle.delete_child("b")
        await handle.replay()
        assert [info.key for info in handle.which_children()] == ["a"]
    assert notes.words == ["+a", "+b", "-b", "+b", "-b", "+b", "-b", "-a"]


@in_asyncio
async def test_a_child_that_fails_is_told_of_by_its_handle() -> None:
    error = Boom("given up")
    options: dict[str, Any] = {"restart": "temporary"}
    async with open_system(Notes().system("a"), strategy="one_for_one") as handle:
        child = await handle.start_child(Notes().child("t", **options))
        waiting = asyncio.create_task(child.wait())
        await asyncio.sleep(0)
        child.fail(error)
        assert (await waiting).reason == Failed(error)


@in_asyncio
async def test_a_failed_start_is_an_error_of_the_call() -> None:
    async def broken() -> None:
        raise Boom

    async with open_system([]) as handle:
        with pytest.raises(ChildFailure) as caught:
            await handle.start_child(Child("a", task(broken)))
        assert isinstance(caught.value.__cause__, Boom)
        assert handle.count_children().specs == 0


@pytest.mark.parametrize("call", ["start_child", "restart_child"])
def test_a_cancelled_caller_takes_a_start_back_at_every_moment(call: str) -> None:
    @in_asyncio
    async def taken_back() -> None:
        for steps in range(200):
            notes = Notes()
            async with open_system([]) as handle:
                if call == "restart_child":
                    await handle.start_child(notes.child("a"))
                    await handle.terminate_child("a")
                    notes.words.clear()
                    calling = asyncio.create_task(handle.restart_child("a"))
                else:
                    calling = asyncio.create_task(handle.start_child(notes.child("a")))
                for _ in range(steps):
                    await asyncio.sleep(0)
                if not calling.cancel():
                    return
                with pytest.raises(asyncio.CancelledError):
                    await calling
                known = [(info.key, info.status) for info in handle.which_children()]
                assert known == ([("a", "stopped")] if call == "restart_child" else [])
                assert notes.words in ([], ["+a", "-a"])
        raise AssertionError("it never came to its end")

    taken_back()


@in_asyncio
async def test_a_cancelled_caller_never_takes_a_termination_back() -> None:
    notes = Notes()
    async with open_system(notes.system("a"), strategy="one_for_one") as handle:
        calling = asyncio.create_task(handle.terminate_child("a"))
        while handle.child("a").status == "running":
            await asyncio.sleep(0)
        calling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await calling
        await handle.child("a").wait()
        assert notes.words == ["+a", "-a"]


@in_asyncio
async def test_stop_and_abort() -> None:
    notes = Notes()
    async with open_system(notes.system()) as handle:
        await handle.stop()
        assert notes.words[3:] == ["-c", "-b", "-a"]
        await handle.stop()
        with pytest.raises(SupervisorStopped):
            await handle.start_child(notes.child("d"))
    async with open_system(notes.system()) as handle:
        handle.abort()
        assert (await handle.wait()).burden == "aborted"


@in_asyncio
async def test_events_come_in_order_and_end_with_the_tree() -> None:
    async with open_system(Notes().system("ab"), name="app") as handle, handle.events() as events:
        await handle.child("b").terminate()
        await handle.restart_child("b")
        await handle.stop()
        heard = [f"{type(event).__name__} {event.path}" async for event in events]
    assert heard == [
        "ChildSettling app/b",
        "ChildTerminated app/b",
        "ChildStarting app/b",
        "ChildStarted app/b",
        "SystemTeardown app",
        "ChildSettling app/b",
        "ChildTerminated app/b",
        "ChildSettling app/a",
        "ChildTerminated app/a",
        "SystemStopped app",
    ]


@pytest.mark.parametrize("name", ["ChildHandle", "SystemHandle", "PartitionHandle"])
def test_they_have_what_those_of_trio_have(name: str) -> None:
    def public(of: object) -> set[str]:
        return {one for one in dir(getattr(of, name)) if not one.startswith("_")}

    # what makes one of a member of the kernel's is for the kernel
    assert public(aio) == public(spry_py) - {"of"}


@in_asyncio
async def test_a_tree_can_be_followed_from_a_snapshot_on() -> None:
    async with open_system(Notes().system("a"), name="app") as handle:
        async with handle.follow(history=True) as (snapshot, events):
            assert [node.path for _, node in snapshot.walk()] == ["app", "app/a"]
            await handle.start_child(Notes().child("b"))
            heard = [f"{type(await anext(events)).__name__}" for _ in range(2)]
        assert heard == ["ChildStarting", "ChildStarted"]
        assert [entry.path for entry in handle.history()] == ["app/b", "app/b"]


@in_asyncio
async def test_a_reader_that_is_cancelled_loses_no_event() -> None:
    async with open_system([], name="app") as handle, handle.events() as events:
        heard: list[int] = []

        async def read() -> None:
            async for event in events:
                note(event)

        def note(event: Event) -> None:
            if isinstance(event, ChildStarted):
                heard.append(int(event.path.rpartition("/")[2]))

        async def write() -> None:
            for number in range(50):
                await handle.start_child(Child(str(number), task(for_ever)))

        writing = asyncio.create_task(write())
        turns = 0
        while len(heard) < 50:
            turns += 1
            reading = asyncio.create_task(read())
            for _ in range(turns % 7):
                await asyncio.sleep(0)
            reading.cancel()
            await asyncio.wait([reading])
        await writing
    assert heard == list(range(50))


@in_asyncio
async def test_leaving_a_block_may_be_cancelled_and_is_left_all_the_same() -> None:
    notes = Notes()
    async with open_system([]) as handle:

        async def maps() -> None:
            async with handle.map(notes.live, ["a"]):
                while not notes.words:
                    await asyncio.sleep(0)

        mapping = asyncio.create_task(maps())
        while not handle.which_children() or handle.which_children()[0].status != "stopping":
            await asyncio.sleep(0)
        mapping.cancel()
        with pytest.raises(asyncio.CancelledError):
            await mapping
        assert notes.words == ["+a", "-a"]


@in_asyncio
async def test_a_bad_capacity_is_refused_at_the_call() -> None:
    async with open_system([]) as handle:
        with pytest.raises(ValueError, match="capacity"):
            handle.events(0)
        with pytest.raises(TypeError, match="items must be an iterable"):
            handle.map(double, 3)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="fn must be an async function"):
            handle.map(None, [])  # type: ignore[arg-type]


async def double(number: int) -> int:
    await asyncio.sleep(0)
    return 2 * number


@in_asyncio
async def test_tasks_run_below_a_handle() -> None:
    error = Boom("mine")

    async def fails(number: int) -> None:
        await asyncio.sleep(0)
        raise error

    async with open_system([]) as handle:
        assert await handle.run(double, 21) == 42
        with pytest.raises(Boom) as caught:
            await handle.run(fails, 1)
        assert caught.value is error
        async with handle.map(double, range(5), limit=2) as results:
            assert [result async for result in results] == [Normal(2 * n) for n in range(5)]
        async with handle.map(fails, [1]) as results:
            assert [result async for result in results] == [Failed(error)]
        assert handle.count_children().specs == 0


class Counted:
    """Numbers that have to be awaited, and what has become of their generator."""

    def __init__(self, until: int, error: Exception | None = None) -> None:
        self.words: list[object] = []
        self.has_begun = False
        self._until = until
        self._error = error

    async def numbers(self) -> AsyncIterator[int]:
        self.has_begun = True
        try:
            for number in range(self._until):
                await asyncio.sleep(0)
                self.words.append(number)
                yield number
            if self._error is not None:
                raise self._error
            await for_ever()
        finally:
            await asyncio.sleep(0)
            self.words.append(type(sys.exception()).__name__)


class Few:
    """An async iterable that is no generator."""

    def __init__(self, until: int) -> None:
        self._left = until

    def __aiter__(self) -> Few:
        assert asyncio.current_task() is not None
        return self

    async def __anext__(self) -> int:
        await asyncio.sleep(0)
        if not self._left:
            raise StopAsyncIteration
        self._left -= 1
        return self._left


@both_ways
async def test_items_may_have_to_be_awaited() -> None:
    told: list[Any] = []

    async def boss(pool: spry_py.SystemHandle) -> None:
        async with SystemHandle(pool).map(double, Few(3), limit=1) as results:
            told.extend([result async for result in results])
        started()
        await settled()

    async def system(scope: Scope) -> None:
        pool = await scope.start(Child("pool", DynamicSupervisor()))
        await scope.start(Child("boss", task(boss, pool)))

    async with spry_py.open_system(system):
        assert told == [Normal(4), Normal(2), Normal(0)]


@in_asyncio
async def test_items_are_closed_when_no_more_are_wanted() -> None:
    items = Counted(5)
    async with open_system([]) as handle:
        async with handle.map(double, items.numbers(), limit=1) as results:
            assert await anext(results) == Normal(0)
            assert await anext(results) == Normal(2)
        assert items.words[:2] == [0, 1]
        assert items.words[-1] in {"GeneratorExit", "CancelledError"}


@in_asyncio
async def test_what_the_items_raise_comes_out_of_the_iteration() -> None:
    items = Counted(2, error := Boom("no more"))
    async with open_system([]) as handle:
        with pytest.raises(Boom) as caught:
            async with handle.map(double, items.numbers(), limit=4) as results:
                async for _ in results:
                    pass
        assert caught.value is error
        assert items.words == [0, 1, "Boom"]


@in_asyncio
async def test_a_wait_for_items_ends_with_its_caller() -> None:
    items = Counted(0)

    async def consume(handle: SystemHandle) -> None:
        async with handle.map(double, items.numbers()) as results:
            await anext(results)

    async with open_system([]) as handle:
        consuming = asyncio.create_task(consume(handle))
        while not items.has_begun:
            await asyncio.sleep(0)
        consuming.cancel()
        with pytest.raises(asyncio.CancelledError):
            await consuming
        assert items.words == ["CancelledError"]


@in_asyncio
async def test_items_that_swallow_a_cancellation_are_cancelled_again() -> None:
    asked: list[float] = []
    begun = asyncio.Event()

    async def deaf() -> AsyncIterator[int]:
        begun.set()
        while len(asked) < 2:
            try:
                await for_ever()
            except asyncio.CancelledError:
                asked.append(asyncio.get_running_loop().time())
        yield 1

    async with open_system([]) as handle:
        async with handle.map(double, deaf()):
            await begun.wait()
        assert len(asked) == 2


async def bridge_to(token: trio.lowlevel.TrioToken) -> Bridge:
    return Bridge(token)


@pytest.mark.parametrize("closed", ["before", "while they are awaited"])
def test_items_of_a_loop_that_is_gone_are_an_error(closed: str) -> None:
    async def never() -> AsyncIterator[int]:
        await for_ever()
        yield 1  # pragma: no cover

    async def main() -> None:
        loop = asyncio.new_event_loop()
        bridge = loop.run_until_complete(bridge_to(trio.lowlevel.current_trio_token()))
        items = read(never(), bridge, copy_context())
        if closed == "before":
            loop.close()
            with pytest.raises(RuntimeError, match=r"the loop of asyncio .* is closed"):
                await anext(items)
            return
        # its turns are taken by hand, as those of another thread would be
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(items.__anext__)
                for _ in range(5):
                    await trio.testing.wait_all_tasks_blocked()
                    loop.run_until_complete(asyncio.sleep(0))
                for left in asyncio.all_tasks(loop):
                    left.set_name("left")
                    kept.append(left)
                loop.close()
                scope.cancel()
        assert scope.cancelled_caught

    kept: list[asyncio.Task[object]] = []
    trio.run(main)


@in_asyncio
async def test_a_cancelled_task_has_ended_when_its_caller_is_told() -> None:
    notes = Notes()
    async with open_system([]) as handle:
        calling = asyncio.create_task(handle.run(notes.live, "t"))
        while not notes.words:
            await asyncio.sleep(0)
        calling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await calling
        assert notes.words == ["+t", "-t"]
        assert handle.count_children().specs == 0


@in_asyncio
async def test_a_block_of_tasks_that_is_left_early_ends_them() -> None:
    notes = Notes()
    async with open_system([]) as handle:
        async with handle.map(notes.live, "abc", limit=3):
            while len(notes.words) < 3:
                await asyncio.sleep(0)
        assert sorted(notes.words) == ["+a", "+b", "+c", "-a", "-b", "-c"]


@in_asyncio
async def test_a_stopped_task_has_no_value() -> None:
    async with open_system([]) as handle:
        calling = asyncio.create_task(handle.run(for_ever))
        while not handle.which_children():
            await asyncio.sleep(0)
        await handle.terminate_child(handle.which_children()[0].key)
        with pytest.raises(Interrupted):
            await calling


# In a child


@both_ways
async def test_a_child_calls_its_own_tree() -> None:
    seen: list[object] = []

    async def boss(pool: spry_py.SystemHandle) -> None:
        handle = SystemHandle(pool)
        await asyncio.sleep(0)
        child = await handle.start_child(Child("x", task(for_ever)))
        seen.extend((child.path, child.status, handle.new_key("x"), await handle.run(double, 2)))
        async with handle.events() as events:
            await handle.terminate_child("x")
            async for event in events:
                seen.append(type(event).__name__)
                if len(seen) == 6:
                    break
        async with handle.map(double, [1, 2]) as results:
            seen.extend([result async for result in results])
        handle.child("y").fail(Boom())
        started(seen)
        await settled()

    async def shop(scope: Scope) -> None:
        pool = await scope.start(Child("pool", DynamicSupervisor()))
        await pool.start_child(Child("y", trio.sleep_forever))
        await scope.start(Child("boss", task(boss, pool), shutdown=60))

    async with spry_py.open_system(shop):
        assert seen == [
            "shop/pool/x",
            "running",
            "x-1",
            4,
            "ChildAborted",
            "ChildTerminated",
            Normal(2),
            Normal(4),
        ]


@both_ways
async def test_a_call_that_waits_for_its_own_caller_is_refused() -> None:
    async def asks() -> None:
        started_with = SystemHandle(current_context().system)
        try:
            await started_with.start_child(Child("x", task(for_ever)))
        except WouldDeadlock:
            started("refused")
        await for_ever()

    async with spry_py.open_system([Child("a", task(asks))]) as handle:
        assert handle.child("a").value == "refused"


@both_ways
async def test_a_child_may_stop_its_own_tree() -> None:
    async def ends_it() -> None:
        started()
        root = SystemHandle(current_context().root)
        await root.wait_started()
        await root.stop()

    async with spry_py.open_system([Child("a", task(ends_it), shutdown=60)]) as handle:
        report = await handle.wait()
    assert report.reason == Normal(None)
