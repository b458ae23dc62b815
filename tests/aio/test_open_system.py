"""A tree in a program of asyncio: how its block begins and ends, whatever happens meanwhile."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest
import trio

import spry_py
from hosts import Notes, for_ever, in_asyncio
from spry_py import (
    Child,
    ChildFailure,
    DynamicSupervisor,
    NeverRestart,
    Normal,
    PartitionSupervisor,
    Scope,
    StartupFailure,
    SystemSupervisor,
    TooManyRestarts,
    current_context,
)
from spry_py.aio import (
    PartitionHandle,
    SystemHandle,
    cancel_on_settle,
    open_system,
    run,
    started,
    task,
)
from stories import HANGS, Boom

UP_AND_DOWN = ["+a", "+b", "+c", "-c", "-b", "-a"]


# A block


@in_asyncio
async def test_leaving_it_stops_the_tree_in_reverse_order() -> None:
    notes = Notes()
    async with open_system(notes.system(), name="app") as handle:
        assert isinstance(handle, SystemHandle)
        assert notes.words == UP_AND_DOWN[:3]
        assert [info.path for info in handle.which_children()] == ["app/a", "app/b", "app/c"]
    assert notes.words == UP_AND_DOWN
    assert handle.status == "stopped"


@in_asyncio
async def test_supervisors_may_be_given() -> None:
    async with open_system(SystemSupervisor(Notes().system())) as handle:
        assert type(handle) is SystemHandle
    async with open_system(DynamicSupervisor(name="pool")) as handle:
        await handle.start_child(Notes().child("a"))
    parts = PartitionSupervisor(lambda index: Child(str(index), task(for_ever)), partitions=2)
    async with open_system(parts) as partitions:
        assert isinstance(partitions, PartitionHandle)
        assert partitions.partition(3).key == "1"
        assert await partitions.resize(1) == 2
        assert partitions.partitions == 1


def test_options_are_refused_at_the_call() -> None:
    with pytest.raises(TypeError, match="options belong to a bare system"):
        open_system(SystemSupervisor([]), name="app")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="async with open_system"):
        open_system([]).__enter__()  # type: ignore[attr-defined]


@in_asyncio
async def test_it_may_be_entered_once() -> None:
    block = open_system([])
    async with block:
        pass
    with pytest.raises(RuntimeError, match="only once"):
        await block.__aenter__()


@in_asyncio
async def test_a_failed_boot_comes_out_of_the_beginning() -> None:
    notes = Notes()

    async def broken() -> None:
        raise Boom

    with pytest.raises(ChildFailure) as caught:
        async with open_system([notes.child("a"), Child("b", task(broken))]):
            notes("never")
    assert isinstance(caught.value.__cause__, Boom)
    assert notes.words == ["+a", "-a"]


@in_asyncio
async def test_a_failing_tree_cancels_the_block_and_comes_out_bare() -> None:
    notes = Notes()
    own = asyncio.current_task()
    assert own is not None
    with pytest.raises(TooManyRestarts) as caught:
        async with open_system(notes.system(), breaker=NeverRestart()) as handle:
            handle.child("b").fail(Boom("b"))
            try:
                await for_ever()
            finally:
                notes(f"block {own.cancelling()}")
    assert str(caught.value.root_cause) == "b"
    assert notes.words == ["+a", "+b", "+c", "-b", "-c", "-a", "block 1"]
    assert own.cancelling() == 0


@in_asyncio
async def test_a_block_that_swallows_that_hears_of_it_at_its_end() -> None:
    with pytest.raises(TooManyRestarts):
        async with open_system(Notes().system(), breaker=NeverRestart()) as handle:
            handle.child("b").fail(Boom("b"))
            with suppress(asyncio.CancelledError):
                await for_ever()
            await asyncio.sleep(0)


@in_asyncio
async def test_an_exception_of_the_block_stops_the_tree_and_goes_on() -> None:
    notes, error = Notes(), Boom("mine")
    with pytest.raises(Boom) as caught:
        async with open_system(notes.system()):
            raise error
    assert caught.value is error
    assert notes.words == UP_AND_DOWN


@in_asyncio
async def test_if_both_fail_both_come_out() -> None:
    error = Boom("mine")
    with pytest.raises(ExceptionGroup) as caught:
        async with open_system(Notes().system(), breaker=NeverRestart()) as handle:
            handle.child("b").fail(Boom("b"))
            try:
                await for_ever()
            except asyncio.CancelledError:
                raise error from None
    assert caught.value.exceptions[0] is error
    assert isinstance(caught.value.exceptions[1], TooManyRestarts)


@in_asyncio
async def test_a_tree_that_ends_by_itself_leaves_the_block_alone() -> None:
    async def once() -> None:
        await asyncio.sleep(0)

    job = Child("job", task(once), restart="transient", significant=True)
    async with open_system([job], auto_shutdown="any_significant") as handle:
        report = await handle.wait()
        await asyncio.sleep(0)
    assert report.reason == Normal(None)


class Leave(BaseException):
    """Asks the program to end, as SystemExit does, which asyncio would not let a test catch."""


@in_asyncio
async def test_an_exit_of_a_child_stops_the_tree_and_comes_out_the_same() -> None:
    notes, leave = Notes(), Leave()

    async def leaves() -> None:
        await asyncio.sleep(0)
        raise leave

    with pytest.raises(Leave) as caught:
        async with open_system([*notes.system(), Child("d", task(leaves))]):
            await for_ever()
    assert caught.value is leave
    assert notes.words == UP_AND_DOWN


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_it_leaves_asyncio_after_the_tree(kind: type[BaseException]) -> None:
    notes = Notes()

    async def leaves() -> None:
        await asyncio.sleep(0)
        raise kind("a child's")

    async def main() -> None:
        async with open_system([*notes.system(), Child("d", task(leaves))]):
            await for_ever()

    with pytest.raises(kind, match="a child's"):
        asyncio.run(main())
    assert notes.words == UP_AND_DOWN


# Cancelled


async def cancelled_after(steps: int, main: Callable[[], Awaitable[None]]) -> bool:
    """Cancel a task after so many turns of the loop. Answers whether it had come to its end."""
    opener = asyncio.ensure_future(main())
    for _ in range(steps):
        await asyncio.sleep(0)
    if not opener.cancel():
        await opener
        return True
    with pytest.raises(asyncio.CancelledError):
        await opener
    assert opener.cancelled()
    return False


@in_asyncio
async def test_cancelling_the_opener_at_any_moment_stops_the_tree_in_order() -> None:
    # which makes each of these trees five times as slow
    asyncio.get_running_loop().set_debug(False)
    ups: set[int] = set()
    for steps in range(1000):
        notes = Notes()

        async def main(notes: Notes = notes) -> None:
            async with open_system(notes.system("ab")):
                await asyncio.sleep(0)
                await asyncio.sleep(0)

        has_ended = await cancelled_after(steps, main)
        up = [word for word in notes.words if word[0] == "+"]
        ups.add(len(up))
        assert notes.words == [*up, *(f"-{word[1]}" for word in reversed(up))]
        assert not trio.lowlevel.in_trio_run()
        if has_ended:
            break
    else:
        raise AssertionError("it never came to its end")
    assert ups == {0, 1, 2}


@in_asyncio
async def test_a_timeout_around_it_is_one() -> None:
    notes = Notes()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(None) as limit, open_system(notes.system()):
            limit.reschedule(asyncio.get_running_loop().time())
            await for_ever()
    assert notes.words == UP_AND_DOWN


@in_asyncio
async def test_what_fails_is_of_more_weight_than_a_cancellation() -> None:
    async def fails() -> None:
        async with cancel_on_settle():
            started()
            await for_ever()
        own.cancel()

    async def opener() -> None:
        async with open_system([Child("a", task(fails))]):
            raise Boom("the block's")

    own = asyncio.create_task(opener())
    with pytest.raises(Boom):
        await own


@pytest.mark.skipif(
    sys.version_info < (3, 13), reason="before 3.13 a timeout around it would leave one behind"
)
@in_asyncio
async def test_a_cancellation_that_gave_way_to_a_failure_comes_again() -> None:
    notes = Notes()

    async def fails() -> None:
        async with cancel_on_settle():
            started()
            await for_ever()
        own.cancel()

    async def opener() -> None:
        with suppress(Boom):
            async with open_system([Child("a", task(fails))]):
                raise Boom("the block's")
        notes("goes on")
        await for_ever()

    own = asyncio.create_task(opener())
    with pytest.raises(asyncio.CancelledError):
        await own
    assert notes.words == ["goes on"]
    assert own.cancelling() == 1


@in_asyncio
async def test_cancelled_while_it_stops_it_is_stopped_all_the_same() -> None:
    notes = Notes()
    is_stopping = asyncio.Event()

    async def slow() -> None:
        async with cancel_on_settle():
            started()
            await for_ever()
        is_stopping.set()
        await asyncio.sleep(0.01)
        notes("slow")

    async def opener() -> None:
        async with open_system([*notes.system("a"), Child("slow", task(slow))]):
            pass

    own = asyncio.create_task(opener())
    await is_stopping.wait()
    own.cancel()
    with pytest.raises(asyncio.CancelledError):
        await own
    assert notes.words == ["+a", "slow", "-a"]


# The whole of a program


@in_asyncio
async def test_run_returns_the_report() -> None:
    async def once() -> None:
        await asyncio.sleep(0)

    job = Child("job", task(once), restart="transient", significant=True)
    report = await run([job], auto_shutdown="any_significant", name="app")
    assert (report.path, report.reason, report.burden) == ("app", Normal(None), "none")


@in_asyncio
async def test_run_raises_what_the_root_raises() -> None:
    async def fails() -> None:
        await asyncio.sleep(0)
        raise Boom

    with pytest.raises(TooManyRestarts):
        await run([Child("a", task(fails))])
    with pytest.raises(TypeError, match="options belong to a bare system"):
        await run(SystemSupervisor([]), name="app")


@in_asyncio
async def test_run_stops_in_order_when_it_is_cancelled() -> None:
    up: list[str] = []
    for steps in range(1000):
        notes = Notes()
        is_up = asyncio.Event()

        async def shop(scope: Scope, notes: Notes = notes, is_up: asyncio.Event = is_up) -> None:
            for child in notes.system():
                await scope.start(child)
            is_up.set()

        async def main(shop: Any = shop) -> None:
            await run(shop)

        await cancelled_after(steps, main)
        up = [word for word in notes.words if word[0] == "+"]
        assert notes.words == [*up, *(f"-{word[1]}" for word in reversed(up))]
        if is_up.is_set():
            break
    assert len(up) == 3


# Several


@in_asyncio
async def test_two_that_open_at_once_share_one_guest() -> None:
    tokens: list[object] = []
    both = asyncio.Barrier(2)

    async def opener() -> None:
        async with open_system([Child("a", task(for_ever))]):
            tokens.append(trio.lowlevel.current_trio_token())
            await both.wait()

    async with asyncio.TaskGroup() as group:
        group.create_task(opener())
        group.create_task(opener())
    assert tokens[0] is tokens[1]


@pytest.mark.parametrize("order", ["ab", "ba"])
def test_they_close_in_any_order(order: str) -> None:
    @in_asyncio
    async def closed() -> None:
        notes = {"a": Notes(), "b": Notes()}
        blocks = {key: open_system(notes[key].system(), name=key) for key in "ab"}
        handles = {key: await blocks[key].__aenter__() for key in "ab"}
        first, last = order[0], order[1]
        await blocks[first].__aexit__(None, None, None)
        assert notes[first].words == UP_AND_DOWN
        assert notes[last].words == UP_AND_DOWN[:3]
        assert trio.lowlevel.in_trio_run()
        assert handles[last].child("a").status == "running"
        await blocks[last].__aexit__(None, None, None)
        assert notes[last].words == UP_AND_DOWN

    closed()


@in_asyncio
async def test_one_that_opens_while_the_last_one_ends_has_a_new_guest() -> None:
    async def opener(number: int) -> None:
        for _ in range(number):
            await asyncio.sleep(0)
        async with open_system([Child("a", task(for_ever))]) as handle:
            assert handle.child("a").status == "running"

    async with asyncio.TaskGroup() as group:
        for number in range(0, 60, 4):
            group.create_task(opener(number))


@in_asyncio
async def test_one_in_a_child_of_another_ends_with_that_child() -> None:
    notes = Notes()

    async def host() -> None:
        async with open_system(notes.system(), name="inner") as inner:
            started(inner.path)
            await inner.wait()
            notes("inner has ended")
        await asyncio.sleep(0)

    async with open_system([Child("host", task(host)), notes.child("z")], name="outer") as handle:
        assert handle.child("host").value == "inner"
        own = current_inner()
    assert notes.words == ["+a", "+b", "+c", "+z", "-z", "-c", "-b", "-a", "inner has ended"]
    report = handle.last_report
    assert report is not None
    assert own == ["outer", "inner"]


def current_inner() -> list[str]:
    return [root.path for root in spry_py.roots()]


@in_asyncio
async def test_it_joins_a_guest_that_is_there() -> None:
    loop = asyncio.get_running_loop()
    over: asyncio.Future[Any] = loop.create_future()
    leave = trio.Event()
    trio.lowlevel.start_guest_run(
        leave.wait,
        run_sync_soon_threadsafe=loop.call_soon_threadsafe,
        done_callback=over.set_result,
        host_uses_signal_set_wakeup_fd=True,
    )
    token = trio.lowlevel.current_trio_token()
    notes = Notes()
    async with open_system(notes.system()):
        assert trio.lowlevel.current_trio_token() is token
    assert notes.words == UP_AND_DOWN
    assert not over.done()

    async with open_system(notes.system()) as handle:
        leave.set()
        await over
        assert handle.status == "stopped"
    assert notes.words == 2 * UP_AND_DOWN


# Left open


def test_asyncio_stops_what_is_still_open_in_order_before_it_closes_the_loop() -> None:
    notes = Notes()
    others: list[asyncio.Task[Any]] = []

    async def main() -> None:
        others.append(asyncio.create_task(run(notes.system())))
        while len(notes.words) < 3:
            await asyncio.sleep(0)

    asyncio.run(main(), debug=True)
    assert notes.words == UP_AND_DOWN
    assert others[0].cancelled()
    assert not trio.lowlevel.in_trio_run()


def test_also_what_nobody_leaves() -> None:
    notes = Notes()

    async def main() -> None:
        await open_system(notes.system()).__aenter__()
        gc.collect()
        assert notes.words == UP_AND_DOWN[:3]

    asyncio.run(main(), debug=True)
    assert notes.words == UP_AND_DOWN
    assert not trio.lowlevel.in_trio_run()


CLOSED_EARLY = """
import asyncio, gc, warnings
from spry_py import Child
from spry_py.aio import open_system, task

async def for_ever():
    await asyncio.get_running_loop().create_future()

async def main():
    return await open_system([Child("a", task(for_ever))]).__aenter__()

async def again():
    async with open_system([Child("a", task(for_ever))]) as handle:
        print(handle.child("a").status)

warnings.simplefilter("ignore")
for wait in (0, 0.05):
    loop = asyncio.new_event_loop()
    handle = loop.run_until_complete(main())
    loop.run_until_complete(asyncio.sleep(wait))
    loop.close()
    asyncio.run(again())
print("end")
"""


def test_a_loop_that_was_closed_too_early_is_forgotten() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", CLOSED_EARLY],
        capture_output=True,
        text=True,
        timeout=HANGS,
        check=False,
    )
    assert ended.stdout.splitlines() == ["running", "running", "end"]
    assert ended.returncode == 0


@in_asyncio
async def test_handles_may_be_asked_after_the_end() -> None:
    async with open_system(Notes().system()) as handle:
        a = handle.child("a")
    assert (await handle.wait()).reason == Normal(None)
    assert (await a.wait()).burden == "settling"
    await handle.stop()
    handle.abort()
    with pytest.raises(spry_py.SupervisorStopped, match="has ended"):
        await handle.start_child(Notes().child("b"))
    with pytest.raises(spry_py.SupervisorStopped, match="has ended"):
        a.fail(Boom())


# Elsewhere


@in_asyncio
async def test_trio_s_own_says_which_one_is_meant() -> None:
    for _ in range(2):
        with pytest.raises(RuntimeError, match=r"write spry_py\.aio\.open_system"):
            async with spry_py.open_system([]):
                pass  # pragma: no cover
        async with open_system([]):
            with pytest.raises(RuntimeError, match=r"write spry_py\.aio\.open_system"):
                async with spry_py.open_system([]):
                    pass  # pragma: no cover


def test_trio_in_a_callback_of_asyncio_is_no_guest() -> None:
    async def nested() -> str:
        async with spry_py.open_system([Child("a", task(tell_thread))]) as handle:
            return str(handle.child("a").value)

    async def tell_thread() -> None:
        started(threading.current_thread() is threading.main_thread())
        await for_ever()

    async def main() -> str:
        return trio.run(nested)

    assert asyncio.run(main()) == "False"


@in_asyncio
async def test_context_variables_come_from_the_opener_and_stay_there() -> None:
    async def tell() -> None:
        started(current_context().path)
        await for_ever()

    async with open_system([Child("a", task(tell))], name="app") as handle:
        assert handle.child("a").value == "app/a"
        with pytest.raises(RuntimeError, match="outside a supervision tree"):
            current_context()


@in_asyncio
async def test_a_stopped_boot_is_a_failed_start() -> None:
    async def shop(scope: Scope) -> None:
        await scope.start(Child("a", task(hangs)))

    async def hangs() -> None:
        spry_py.roots()[0].abort()
        await for_ever()
        started()  # pragma: no cover

    with pytest.raises((StartupFailure, spry_py.Interrupted)):
        async with open_system(shop):
            pass  # pragma: no cover
