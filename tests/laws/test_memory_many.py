"""Nothing is left of what has ended: ten thousand of each, and as many objects after as before."""

from __future__ import annotations

import gc
import logging
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
import trio
import trio.lowlevel
import trio.testing
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider

from metered import meters
from spry_py import (
    AlwaysRestart,
    Child,
    ChildFailure,
    DynamicSupervisor,
    Ignore,
    PartitionHandle,
    PartitionSupervisor,
    Scope,
    SpryError,
    Strategy,
    SystemHandle,
    SystemSupervisor,
    TerminationReport,
    cancel_on_settle,
    current_context,
    open_system,
)
from spry_py._spec.options import OnConflict
from spry_py.lowlevel import add_stack
from stories import Boom, story

MANY = 10_000
WARM = 200

Deed = Callable[[], Awaitable[object]]
Story = Callable[[], Awaitable[None]]
Status = trio.TaskStatus[None]

STORIES: list[Story] = []


def told(story: Story) -> Story:
    STORIES.append(story)
    return story


async def many(deed: Deed, each: int = 1) -> None:
    """Do it ten thousand times, where ``deed()`` is ``each`` times; nothing may be left of that."""
    for _ in range(WARM // each):
        await deed()
    await trio.sleep(100)
    kinds, blocks = held()
    for _ in range(MANY // each):
        await deed()
    await trio.sleep(100)
    kinds_after, blocks_after = held()
    assert kinds_after == kinds
    # whatever is no object of ours: less than half a block for each (trio keeps some deadlines)
    assert blocks_after - blocks < MANY // 2


def held() -> tuple[Counter[str], int]:
    """How many objects of each type of ours there are, and how many blocks are allocated."""
    gc.collect()
    kinds = [type(one) for one in gc.get_objects()]
    ours = Counter(kind.__qualname__ for kind in kinds if kind.__module__.startswith("spry_py"))
    return ours, sys.getallocatedblocks()


@pytest.fixture(autouse=True)
def nobody_keeps_records() -> Iterator[None]:
    """For pytest does: each with its exception."""
    logger = logging.getLogger("spry_py")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    # what the whole suite has made so far is not looked through again and again
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()
    logger.setLevel(before)


@pytest.mark.slow
@pytest.mark.parametrize("told", STORIES, ids=lambda told: told.__name__)
def test_nothing_is_left_of_ten_thousand(told: Story) -> None:
    story(told)()


# Children


async def at_once() -> None:
    await trio.lowlevel.checkpoint()


async def steady() -> None:
    await trio.sleep_forever()


async def beats(*, task_status: Status) -> None:
    current_context().heartbeat()
    task_status.started()
    current_context().heartbeat()
    await trio.lowlevel.checkpoint()


async def listens() -> None:
    with cancel_on_settle():
        await trio.sleep_forever()


LIMITS: Any = {"start_timeout": 3600.0, "run_timeout": 7200.0, "heartbeat": 600.0}


@told
async def limited_tasks() -> None:
    async with open_system(DynamicSupervisor()) as pool:

        async def deed() -> None:
            child = Child(pool.new_key(), beats, restart="temporary", **LIMITS)
            await (await pool.start_child(child)).wait()

        await many(deed)


@told
async def runs_of_tasks() -> None:
    async with open_system(DynamicSupervisor()) as pool:
        await many(lambda: pool.run(at_once))


@told
async def items_of_map() -> None:
    async def task(item: int) -> None:
        await trio.lowlevel.checkpoint()
        if item == 3:
            raise Boom

    async with open_system(DynamicSupervisor()) as pool:

        async def deed() -> None:
            async with pool.map(task, range(20), limit=10, timeout=3600.0) as reasons:
                async for _ in reasons:
                    pass

        await many(deed, each=20)


@told
async def children_added_and_terminated_and_deleted() -> None:
    async with open_system([Child("a", steady)], strategy="one_for_one") as tree:

        async def deed() -> None:
            key = tree.new_key()
            await tree.start_child(Child(key, listens, shutdown=3600.0, **LIMITS))
            await tree.terminate_child(key)
            await tree.delete_child(key)

        await many(deed)


@told
async def children_that_end_when_they_like() -> None:
    """Temporary, transient and significant ones, in a system and in a pool."""
    pool = Child("pool", DynamicSupervisor())
    async with open_system([pool], auto_shutdown="any_significant") as tree:

        async def deed() -> None:
            await tree.start_child(Child("a", at_once, restart="temporary"))
            handle = tree.find("pool").value
            await handle.start_child(Child("b", at_once, restart="transient"))
            await trio.lowlevel.checkpoint()
            await trio.sleep(0.01)

        await many(deed, each=2)


@told
async def starts_that_come_to_nothing() -> None:
    async def ignored() -> None:
        raise Ignore

    async def refused() -> None:
        raise Boom

    async def hangs(*, task_status: Status) -> None:
        await trio.sleep_forever()

    async with open_system(DynamicSupervisor()) as pool:

        async def deed() -> None:
            await pool.start_child(Child("a", ignored))
            with pytest.raises(ChildFailure):
                await pool.start_child(Child("b", refused))
            with pytest.raises(ChildFailure):
                await pool.start_child(Child("c", hangs, start_timeout=15))
            with trio.move_on_after(1):
                await pool.start_child(Child("d", hangs, start_timeout=3600))

        await many(deed, each=4)


@told
async def children_that_were_stuck() -> None:
    async def clings() -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(1.5)

    async with open_system(DynamicSupervisor()) as pool:

        async def one(number: int) -> None:
            await pool.start_child(Child(str(number), clings))
            await pool.terminate_child(str(number))

        async def deed() -> None:
            async with trio.open_nursery() as nursery:
                for number in range(100):
                    nursery.start_soon(one, number)

        await many(deed, each=100)


# Keys

CONFLICTS: tuple[OnConflict, ...] = ("queue", "queue", "replace", "queue", "ignore", "raise")


@told
async def starts_that_queue_for_a_key() -> None:
    key = ""
    async with open_system(DynamicSupervisor(max_running=1)) as pool:

        async def start(conflict: OnConflict) -> None:
            with suppress(SpryError):
                await pool.start_child(Child(key, steady), conflict)

        async def deed() -> None:
            nonlocal key
            key = pool.new_key()
            await pool.start_child(Child(key, steady))
            async with trio.open_nursery() as nursery:
                for conflict in CONFLICTS:
                    nursery.start_soon(start, conflict)
                await trio.testing.wait_all_tasks_blocked()
                nursery.cancel_scope.cancel()
            for _ in range(2):
                if pool.count_children().active:
                    await pool.terminate_child(key)

        await many(deed, each=4)


@told
async def keys_of_a_system_that_says_something_else_each_time() -> None:
    number = 0

    async def system(scope: Scope) -> None:
        nonlocal number
        number += 1
        await scope.start(Child("steady", steady))
        await scope.start(Child("changed", steady, shutdown=float(number)))
        await scope.start(Child(f"new-{number}", steady))
        await scope.start(Child(f"spent-{number}", at_once, restart="temporary"))
        await scope.start(Child(f"done-{number}", at_once, restart="transient"))

    async with open_system(system, strategy="one_for_one") as tree:
        await many(tree.replay, each=5)


@told
async def partitions_that_come_and_go() -> None:
    pool = PartitionSupervisor(lambda index: Child("x", steady), partitions=2)
    async with open_system(pool) as tree:
        assert isinstance(tree, PartitionHandle)

        async def deed() -> None:
            await tree.resize(0)
            await tree.resize(2)
            tree.partition("key")

        await many(deed, each=2)


# Restarts


class Crashing:
    """A child that raises when it is told to."""

    def __init__(self) -> None:
        self.order = trio.lowlevel.ParkingLot()

    async def __call__(self) -> None:
        await self.order.park()
        raise Boom

    async def crash(self) -> None:
        self.order.unpark_all()
        await trio.sleep(0.1)


def restarts(name: str, strategy: Strategy, **options: Any) -> None:
    async def tell() -> None:
        async def heard(report: TerminationReport) -> None:
            await trio.lowlevel.checkpoint()

        crashing = Crashing()
        children = [
            Child("a", crashing, run_timeout=3600.0, on_termination=heard, **options),
            Child("b", listens, shutdown=3600.0),
        ]
        async with open_system(children, strategy=strategy, breaker=AlwaysRestart()) as tree:
            await many(crashing.crash, each=2)
            assert tree.child("a").restarts == (WARM + MANY) // 2

    tell.__name__ = name
    told(tell)


restarts("restarts_alone", "one_for_one", breaker=AlwaysRestart())
restarts("restarts_with_later_ones", "rest_for_one")
restarts("restarts_of_all", "one_for_all")
restarts("restarts_with_backoff", "one_for_one", backoff=lambda _: 0.01)


class PerKey:
    """A breaker that counts for each key, and forgets one that is known no more."""

    def __init__(self) -> None:
        self.counts: dict[str, list[float]] = {}

    def may_restart(self, key: str, now: float) -> bool:
        self.counts.setdefault(key, []).append(now)
        return len(self.counts[key]) < 4

    def forget(self, key: str) -> None:
        self.counts.pop(key, None)


@told
async def keys_that_a_breaker_counts_for() -> None:
    """In a pool and in a system, of children that fail and are then taken away."""
    live: list[PerKey] = []

    def factory() -> PerKey:
        live.append(PerKey())
        return live[-1]

    crashing = Crashing()
    pool = Child("pool", DynamicSupervisor(breaker=factory))
    async with open_system([pool], strategy="one_for_one", breaker=factory) as tree:

        async def deed() -> None:
            for handle in (tree, tree.child("pool").value):
                key = handle.new_key()
                await handle.start_child(Child(key, crashing, breaker=factory))
                await crashing.crash()
                await handle.terminate_child(key)
                if handle is tree:
                    await handle.delete_child(key)
            # those of the children themselves
            del live[2:]

        await many(deed, each=2)
        assert [breaker.counts for breaker in live] == [{}, {}]


@told
async def first_starts_that_are_tried_again() -> None:
    """To be given up in the pause or at the last try, or to come up in the end."""
    tries: Counter[str] = Counter()

    async def late(fails: int, *, task_status: Status) -> None:
        key = current_context().key
        tries[key] += 1
        if tries[key] <= fails:
            raise Boom
        task_status.started()
        tries.pop(key)
        await trio.sleep_forever()

    children = [Child("pool", DynamicSupervisor(max_running=1))]
    async with open_system(children, strategy="one_for_one") as tree:

        async def start(handle: SystemHandle, fails: int, patience: float) -> None:
            key = handle.new_key()
            options: Any = {"start_attempts": 3, "backoff": lambda _: 1.0}
            with trio.move_on_after(patience), suppress(ChildFailure):
                await handle.start_child(Child(key, late, fails, **options))
                await handle.terminate_child(key)
                if handle is tree:
                    await handle.delete_child(key)
            tries.pop(key, None)

        async def deed() -> None:
            for handle in (tree, tree.child("pool").value):
                await start(handle, 2, 9)
                await start(handle, 3, 9)
                await start(handle, 3, 0.5)

        await many(deed, each=6)


@told
async def restarts_by_hand_and_waits_called_off() -> None:
    crashing = Crashing()
    child = Child("a", crashing, backoff=lambda _: 3600.0)
    async with open_system([child], strategy="one_for_one", breaker=AlwaysRestart()) as tree:

        async def deed() -> None:
            await tree.child("a").restart()
            await crashing.crash()
            await tree.terminate_child("a")
            await tree.restart_child("a")

        await many(deed, each=4)


@told
async def subsystems_that_give_up() -> None:
    crashing, waits = Crashing(), Crashing()
    sub = SystemSupervisor(
        [
            Child("listens", listens, shutdown=600.0, run_timeout=3600.0),
            Child("waits", waits, backoff=lambda _: 3600.0),
            Child("crashes", crashing),
        ],
        strategy="one_for_one",
        breaker=Twice,
    )
    children = [Child("sub", sub)]
    async with open_system(children, strategy="one_for_one", breaker=AlwaysRestart()) as tree:

        async def deed() -> None:
            await waits.crash()
            await crashing.crash()
            await crashing.crash()

        await many(deed, each=4)
        assert tree.child("sub").restarts == (WARM + MANY) // 4


class Twice:
    """Lets two restarts pass."""

    def __init__(self) -> None:
        self.left = 2

    def may_restart(self, key: str, now: float) -> bool:
        self.left -= 1
        return self.left >= 0


@told
async def subsystems_that_are_stopped_while_busy() -> None:
    """With calls in the mailbox, some of them cancelled, and a system function that hangs."""

    async def system(scope: Scope) -> None:
        await scope.start(Child("a", steady))
        await trio.sleep(hangs)

    async def call(handle: SystemHandle, number: int, patience: float) -> None:
        with trio.move_on_after(patience), pytest.raises(SpryError):
            await handle.start_child(Child(f"b{number}", steady))

    async def replay(handle: SystemHandle) -> None:
        with pytest.raises(SpryError):
            await handle.replay()

    hangs = 0.0
    async with open_system([Child("sub", SystemSupervisor(system))]) as tree:

        async def deed() -> None:
            nonlocal hangs
            hangs = 50.0
            handle = tree.child("sub").value
            async with trio.open_nursery() as nursery:
                nursery.start_soon(replay, handle)
                await trio.sleep(1)
                for number in range(20):
                    nursery.start_soon(call, handle, number, 1 + number)
                await trio.sleep(10)
                await tree.terminate_child("sub")
            hangs = 0
            await tree.restart_child("sub")

        await many(deed, each=20)


# Those who look, listen and wait


@told
async def subscriptions_and_handles() -> None:
    async with open_system([Child("a", steady), Child("b", at_once, restart="transient")]) as tree:

        async def deed() -> None:
            async with tree.events():
                await trio.lowlevel.checkpoint()
            with trio.move_on_after(0):
                await tree.child("a").wait()
            with trio.move_on_after(0):
                await tree.wait()
            await tree.find("a").wait_started()
            await tree.find("b").wait()
            tree.snapshot()
            tree.which_children()
            tree.render()

        await many(deed)


@told
async def calls_that_would_deadlock() -> None:
    async def calls(report: TerminationReport) -> None:
        try:
            await tree.start_child(Child("b", steady))
        except SpryError:
            refused.append(1)

    refused: list[int] = []
    crashing = Crashing()
    child = Child("a", crashing, on_termination=calls)
    async with open_system([child], breaker=AlwaysRestart(), strategy="one_for_one") as tree:
        await many(crashing.crash, each=2)
    assert len(refused) == (WARM + MANY) // 2


# What a child does in its long life


def lives(name: str, deed: Deed, each: int = 1) -> None:
    async def tell() -> None:
        async def child() -> None:
            try:
                await many(deed, each)
            finally:
                done.set()

        done = trio.Event()
        async with open_system([Child("a", child, shutdown=600.0)]):
            await done.wait()

    tell.__name__ = name
    told(tell)


async def inner_tree() -> None:
    async with open_system([Child("b", listens, shutdown=600.0)]):
        pass


async def scopes() -> None:
    with cancel_on_settle():
        await trio.lowlevel.checkpoint()
    with trio.move_on_after(0):
        await current_context().settled()


async def stacks() -> None:
    add_stack(lambda: "elsewhere")()


lives("trees_in_a_child", inner_tree, each=2)
lives("scopes_of_a_child", scopes)
lives("stacks_of_a_child", stacks)


# The same, of what spans and metrics are made of. Not of keys that a system declares anew each
# time: each is a label, and a meter of the SDK keeps all of its labels.

TRACED: list[Story] = [
    story
    for story in STORIES
    if story.__name__
    in (
        "children_added_and_terminated_and_deleted",
        "starts_that_come_to_nothing",
        "keys_that_a_breaker_counts_for",
        "first_starts_that_are_tried_again",
        "restarts_alone",
        "restarts_of_all",
        "subsystems_that_give_up",
        "subsystems_that_are_stopped_while_busy",
    )
]


@pytest.mark.slow
@pytest.mark.parametrize("told", TRACED, ids=lambda told: told.__name__)
def test_nothing_is_left_where_all_of_it_is_traced_and_measured(told: Story) -> None:
    with measured_and_traced():
        story(told)()


@contextmanager
def measured_and_traced() -> Iterator[None]:
    """With the SDK's own providers, which keep nothing of what they are told but sums."""
    meter_provider = MeterProvider([InMemoryMetricReader()], shutdown_on_exit=False)
    tracer_provider = TracerProvider(shutdown_on_exit=False)
    with meters(meter_provider), pytest.MonkeyPatch.context() as patch:
        patch.setattr(trace, "get_tracer_provider", lambda: tracer_provider)
        yield
    meter_provider.shutdown()
    tracer_provider.shutdown()
