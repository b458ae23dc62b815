"""Step 11: tests of the greeter, on virtual time: pytest examples/service/test_greeter.py"""

from functools import partial

import pytest
import trio
import trio.testing

from spry_py import AlwaysRestart, Child, Scope
from spry_py.events import ChildStarted, ChildTerminated
from spry_py.testing import Spry, chaos, crash

from .step_05 import talk


class Memory:
    """Stands for the store: counts in memory, and notices who uses it after its end."""

    def __init__(self) -> None:
        self.count = 0
        self.is_open = True

    async def visit(self, name: str) -> int:
        assert self.is_open, "a store of the past"
        await trio.sleep(0.01)
        self.count += 1
        return self.count


async def keep(*, task_status: trio.TaskStatus[Memory]) -> None:
    store = Memory()
    try:
        task_status.started(store)
        await trio.sleep_forever()
    finally:
        store.is_open = False


async def system(stream: trio.abc.Stream, scope: Scope) -> None:
    store = await scope.start(Child("store", keep))
    await scope.start(Child("visitor", talk, store, stream, restart="temporary"))


@pytest.mark.spry
async def test_a_visitor_is_greeted_and_dismissed(spry: Spry) -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    handle, _ = await spry.start(partial(system, theirs), name="greeter")
    await ours.send_all(b"Ada\n")
    assert await ours.receive_some() == b"hello Ada, this is visit 1\n"
    await handle.stop()
    assert await ours.receive_some() == b"we are closing, goodbye\n"


async def caller(store: Memory) -> None:
    while True:
        await store.visit("Ada")


async def called(scope: Scope) -> None:
    store = await scope.start(Child("store", keep))
    await scope.start(Child("api", caller, store))


@pytest.mark.spry
async def test_the_api_gets_the_new_store(spry: Spry) -> None:
    handle, record = await spry.start(called, name="greeter", strategy="rest_for_one")
    crash(handle, "greeter/store", OSError("the disk went away"))
    await record.wait_for(ChildStarted, "greeter/api", count=2)
    assert record.lines(ChildTerminated) == [
        "0.00 greeter/store ChildTerminated failed OSError",
        "0.00 greeter/api ChildTerminated aborted",
    ]


@pytest.mark.spry
@pytest.mark.parametrize("seed", range(3))
async def test_nobody_calls_a_store_of_the_past(spry: Spry, seed: int) -> None:
    handle, record = await spry.start(
        called, name="greeter", strategy="rest_for_one", breaker=AlwaysRestart()
    )
    await chaos(handle, seed=seed)
    assert not any("AssertionError" in line for line in record.lines(ChildTerminated))
