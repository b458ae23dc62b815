"""What happens seldom: other loops, eager tasks, signals, trees within trees, runs that end."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable
from typing import Any

import pytest
import trio

import spry_py
from hosts import Notes, for_ever, in_asyncio
from spry_py import Child, Normal, Scope, SupervisorStopped, aio, current_context
from spry_py.aio import SystemHandle, cancel_on_settle, open_system, run, settled, started, task
from stories import Boom
from ways import both_ways

UP_AND_DOWN = ["+a", "+b", "+c", "-c", "-b", "-a"]


# Loops


def test_uvloop_where_it_is_asked_for() -> None:
    pytest.importorskip("uvloop", reason="uvloop is not installed (extra dev)")

    async def tell() -> None:
        started(type(asyncio.get_running_loop()).__module__)
        await settled()

    async def main() -> None:
        child = Child("a", task(tell, loop="uvloop"), shutdown=60)
        async with spry_py.open_system([child]) as handle:
            assert handle.child("a").value == "uvloop"

    trio.run(main)


def test_trio_as_a_guest_of_uvloop() -> None:
    uvloop = pytest.importorskip("uvloop", reason="uvloop is not installed (extra dev)")
    notes = Notes()

    async def main() -> None:
        async with open_system(notes.system()) as handle:
            handle.child("b").fail(Boom())
            await handle.child("c").wait_incarnation(2)
            notes.words.clear()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
    assert notes.words == UP_AND_DOWN[3:]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with Python 3.12")
@in_asyncio
async def test_eager_tasks() -> None:
    factory: Any = vars(asyncio)["eager_task_factory"]
    asyncio.get_running_loop().set_task_factory(factory)
    notes = Notes()

    async def plain() -> None:
        notes("+p")
        # not in the midst of a step of trio's
        assert not trio.lowlevel.in_trio_task()
        await for_ever()

    async def quick() -> str:
        return "done"

    children = [
        *notes.system("ab"),
        Child("p", task(plain)),
        Child("q", task(quick), restart="transient"),
    ]
    async with open_system(children) as handle:
        report = handle.child("q").last_report
        assert report is not None
        assert report.reason == Normal("done")
        assert await handle.run(quick) == "done"
        await asyncio.create_task(handle.child("a").restart())
    assert notes.words == ["+a", "+b", "+p", "-a", "-b", "+a", "+b", "+p", "-b", "-a"]


@in_asyncio
async def test_a_task_that_cannot_be_made_is_a_failed_start() -> None:
    def refuses(loop: Any, coroutine: Any, **options: Any) -> Any:
        if coroutine.__qualname__ == "Life.main":
            raise Boom("no more tasks")
        return asyncio.Task(coroutine, loop=loop, **options)

    asyncio.get_running_loop().set_task_factory(refuses)
    with pytest.raises(spry_py.ChildFailure, match="no more tasks"):
        async with open_system([Child("a", task(for_ever))]):
            pass  # pragma: no cover
    asyncio.get_running_loop().set_task_factory(None)


@in_asyncio
async def test_a_task_that_is_cancelled_before_its_first_step_has_failed_its_start() -> None:
    def cancels(loop: Any, coroutine: Any, **options: Any) -> Any:
        made = asyncio.Task(coroutine, loop=loop, **options)
        if coroutine.__qualname__ == "Life.main":
            made.cancel()
        return made

    asyncio.get_running_loop().set_task_factory(cancels)
    with pytest.raises(spry_py.ChildFailure, match="no one has asked for"):
        async with open_system([Child("a", task(for_ever))]):
            pass  # pragma: no cover
    asyncio.get_running_loop().set_task_factory(None)


# Signals


def test_ctrl_c_is_the_host_s_and_stops_the_tree_in_order() -> None:
    notes = Notes()

    async def main() -> None:
        async with open_system(notes.system()):
            signal.raise_signal(signal.SIGINT)
            await for_ever()

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        asyncio.run(main())
    assert notes.words == UP_AND_DOWN
    assert signal.getsignal(signal.SIGINT) is before


def test_ctrl_c_in_the_midst_of_trio_comes_out_of_the_loop_after_the_tree() -> None:
    notes = Notes()

    async def main() -> None:
        async with open_system(notes.system()):
            trio.lowlevel.spawn_system_task(strike)
            await for_ever()

    # where no runner of asyncio's has a handler, that is trio's as long as its guest runs
    async def strike() -> None:
        signal.raise_signal(signal.SIGINT)

    loop = asyncio.new_event_loop()
    try:
        opener = loop.create_task(main())
        with pytest.raises(KeyboardInterrupt):
            loop.run_until_complete(opener)
        assert notes.words == UP_AND_DOWN
        opener.cancel()
        loop.run_until_complete(asyncio.wait([opener]))
    finally:
        loop.close()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


# Trees within trees


@both_ways
async def test_a_tree_in_a_child_settles_with_that_child() -> None:
    notes = Notes()

    async def host() -> str:
        async with open_system(notes.system(), name="inner") as inner:
            started(inner.host)
            return (await inner.wait()).burden

    async with spry_py.open_system([Child("host", task(host), shutdown=60)], name="app") as handle:
        assert notes.words == UP_AND_DOWN[:3]
        assert handle.child("host").value.path == "app/host"
    assert notes.words == UP_AND_DOWN
    report = handle.child("host").last_report if handle.which_children() else None
    assert report is None or report.reason == Normal("settling")


@both_ways
async def test_it_is_aborted_with_that_child() -> None:
    notes = Notes()

    async def host() -> None:
        async with open_system(notes.system(), name="inner"):
            started()
            await for_ever()

    async with spry_py.open_system([Child("host", task(host), shutdown=0)]):
        pass
    assert sorted(notes.words) == sorted(UP_AND_DOWN)


@both_ways
async def test_its_failure_is_one_of_that_child() -> None:
    async def fails() -> None:
        await asyncio.sleep(0)
        raise Boom

    async def host() -> None:
        async with open_system([Child("a", task(fails))], name="inner"):
            await for_ever()

    with pytest.raises(spry_py.TooManyRestarts) as caught:
        async with spry_py.open_system([Child("host", task(host))]):
            await trio.sleep_forever()
    assert isinstance(caught.value.root_cause, Boom)


@both_ways
async def test_a_child_may_settle_while_its_own_call_is_under_way() -> None:
    async def waits() -> str:
        own = SystemHandle(current_context().system)
        async with cancel_on_settle() as block:
            started()
            await own.wait()
        return f"cancelled: {block.cancelled}"

    async with spry_py.open_system([Child("a", task(waits), shutdown=60)]) as handle:
        a = handle.child("a")
        while "wait" not in a.stack():
            await trio.sleep(0.001)
    report = a.last_report
    assert report is not None
    assert report.reason == Normal("cancelled: True")


# Stacks


@both_ways
async def test_a_stack_shows_what_a_task_waits_for() -> None:
    async def gathers() -> None:
        started()
        await asyncio.gather(one(), asyncio.wait_for(two(), 3600))

    async def one() -> None:
        await for_ever()

    async def two() -> None:
        other = asyncio.create_task(three())
        try:
            await asyncio.wait([other])
        finally:
            other.cancel()

    async def three() -> None:
        await for_ever()

    async with spry_py.open_system([Child("a", task(gathers))], name="app") as handle:
        while " in three\n" not in (stack := handle.child("a").stack()):
            await trio.sleep(0.001)
    for name in ("gathers", "one", "two", "three"):
        assert f" in {name}\n" in stack
    assert "in its task app/a:\n" in stack
    assert "waiting in asyncio: wait" in stack
    assert "/spry_py/" not in stack


# Runs that end early


def foreign_guest(leave: Callable[[], Any]) -> asyncio.Future[Any]:
    """A run of trio as a guest that is not begun by a tree."""
    loop = asyncio.get_running_loop()
    over: asyncio.Future[Any] = loop.create_future()
    trio.lowlevel.start_guest_run(
        leave,
        run_sync_soon_threadsafe=loop.call_soon_threadsafe,
        done_callback=over.set_result,
        host_uses_signal_set_wakeup_fd=True,
    )
    return over


@in_asyncio
async def test_a_run_that_ends_before_its_trees_stops_them() -> None:
    notes = Notes()
    leave = trio.Event()
    over = foreign_guest(leave.wait)
    block = open_system(notes.system())
    handle = await block.__aenter__()
    calls: list[asyncio.Task[Any]] = [
        asyncio.create_task(handle.wait()),
        asyncio.create_task(handle.child("a").wait_incarnation(2)),
    ]
    whole = asyncio.create_task(run([Child("z", task(for_ever))]))
    while len(spry_py.roots()) < 2:
        await asyncio.sleep(0)
    leave.set()
    await over
    assert notes.words == UP_AND_DOWN
    for call in (*calls, whole):
        with pytest.raises(SupervisorStopped, match="the run of trio"):
            await call
    assert (await handle.wait()).burden == "settling"
    await block.__aexit__(None, None, None)


@in_asyncio
async def test_a_run_that_ends_while_a_tree_boots_interrupts_that() -> None:
    async def hangs() -> None:
        await for_ever()
        started()  # pragma: no cover

    leave = trio.Event()
    over = foreign_guest(leave.wait)
    opening = asyncio.ensure_future(open_system([Child("a", task(hangs))]).__aenter__())
    while not spry_py.roots():
        await asyncio.sleep(0)
    leave.set()
    await over
    with pytest.raises(SupervisorStopped, match="the run of trio"):
        await opening


@in_asyncio
async def test_an_opener_that_waits_for_the_last_guest_to_go_may_be_cancelled() -> None:
    is_stopping = asyncio.Event()
    go = asyncio.Event()

    async def slow() -> None:
        async with cancel_on_settle():
            started()
            await for_ever()
        is_stopping.set()
        await go.wait()

    async def opener() -> None:
        async with open_system([Child("a", task(slow), shutdown=60)]):
            pass

    first = asyncio.create_task(opener())
    await is_stopping.wait()
    # its watcher has been told to let it go, as by the end of asyncio.run
    (keeper,) = (one for one in asyncio.all_tasks() if one.get_name() == "spry_py guest")
    keeper.cancel()
    await asyncio.sleep(0)
    second = asyncio.create_task(opener())
    await asyncio.sleep(0)
    second.cancel()
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await second
    await first
    await opener()


# Elsewhere


def test_it_is_for_code_of_asyncio() -> None:
    async def opens() -> None:
        async with open_system([]):
            pass  # pragma: no cover

    async def main() -> None:
        over = foreign_guest(opens)
        with pytest.raises(RuntimeError, match=r"write spry_py\.open_system"):
            (await over).unwrap()

    for start in (trio.run, lambda opens: opens().send(None)):
        with pytest.raises(RuntimeError, match=r"in code of trio write spry_py\.open_system"):
            start(opens)
    asyncio.run(main())


@both_ways
async def test_a_thread_with_a_loop_of_its_own_may_not_listen() -> None:
    async def listens() -> None:
        async def inner() -> None:
            with cancel_on_settle():
                pass  # pragma: no cover

        with pytest.raises(RuntimeError, match="in the loop of the child itself"):
            await asyncio.to_thread(asyncio.run, inner())
        started("refused")
        await for_ever()

    async with spry_py.open_system([Child("a", task(listens))]) as handle:
        assert handle.child("a").value == "refused"


@both_ways
async def test_a_block_may_be_entered_once() -> None:
    async def enters() -> None:
        block = cancel_on_settle()
        async with block:
            pass
        with pytest.raises(RuntimeError, match="only once"):
            block.__enter__()
        started("refused")
        await for_ever()

    async with spry_py.open_system([Child("a", task(enters), shutdown=0)]) as handle:
        assert handle.child("a").value == "refused"


@in_asyncio
async def test_a_value_that_is_a_handle_is_one_for_asyncio() -> None:
    async def shop(scope: Scope) -> None:
        await scope.start(Child("inner", spry_py.SystemSupervisor(Notes().system("a"))))

    async with open_system(shop) as handle:
        inner = handle.child("inner")
        for value in (inner.value, await inner.wait_started(), await inner.wait_incarnation(1)):
            assert isinstance(value, SystemHandle)
            assert aio.SystemHandle(value).path == "shop/inner"
