"""Calls that could never be served, calls from inside the tree, and callers that give up."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
import trio.testing

from actors import LISTENS, STAYS, Actor, cast
from callers import Desk, answer, listed
from spry_py import (
    Child,
    DynamicSupervisor,
    NeverRestart,
    Scope,
    Strategy,
    SystemHandle,
    SystemSupervisor,
    TerminationReport,
    WouldDeadlock,
    cancel_on_settle,
    current_context,
    open_system,
)
from stories import Boom, Record, story
from workers import STRATEGIES

Call = Callable[[SystemHandle], Awaitable[object]]


class Nosy:
    """A child that makes a call while it is being started, once it has been given a handle."""

    def __init__(self, record: Record, call: Call) -> None:
        self.record = record
        self.call = call
        self.handle: SystemHandle | None = None
        self.die = trio.Event()

    async def play(self, *, task_status: trio.TaskStatus[None]) -> None:
        if self.handle is not None:
            self.record(await answer(self.call(self.handle)))
        self.die = trio.Event()
        task_status.started()
        await self.die.wait()
        raise Boom("as ordered")


def calls_about(actor: Actor) -> list[Call]:
    """Each call that there is."""
    key = actor.key
    return [
        lambda tree: tree.start_child(actor.child()),
        lambda tree: tree.terminate_child(key),
        lambda tree: tree.restart_child(key),
        lambda tree: tree.delete_child(key),
        lambda tree: tree.child("a").terminate(),
        lambda tree: tree.child("a").restart(),
    ]


@pytest.mark.parametrize("strategy", ["rest_for_one", "one_for_all"])
@pytest.mark.parametrize("number", range(6))
@story
async def test_a_child_that_a_replay_starts_cannot_call_its_supervisor(
    number: int, strategy: Strategy
) -> None:
    record = Record()
    a, x = cast(record, "ax", LISTENS)
    nosy = Nosy(record, calls_about(x)[number])
    children = [a.child(), Child("n", nosy.play)]
    async with open_system(children, strategy=strategy) as tree:
        record.take()
        nosy.handle = tree
        nosy.die.set()
        await trio.sleep(1)
        replayed = {"rest_for_one": [], "one_for_all": [(0, "-a1"), (0, "+a2")]}[strategy]
        assert record.take() == [*replayed, (0, "WouldDeadlock")]
        assert listed(tree) == "a=running n=running"


@story
async def test_the_error_says_who_waits_for_whom() -> None:
    errors: list[WouldDeadlock] = []
    die = trio.Event()

    async def nosy(*, task_status: trio.TaskStatus[None]) -> None:
        context = current_context()
        if context.incarnation > 1:
            with pytest.raises(WouldDeadlock) as caught:
                await context.system.terminate_child("n")
            errors.append(caught.value)
            task_status.started()
            await trio.sleep_forever()
        task_status.started()
        await die.wait()

    async with open_system([Child("n", nosy)], name="top"):
        die.set()
        await trio.sleep(1)
        (error,) = errors
        assert "top" in str(error)


@pytest.mark.parametrize("way", ["an ancestor replays", "its supervisor boots again"])
@story
async def test_nor_can_one_that_starts_since(way: str) -> None:
    record = Record()
    a, x = cast(record, "ax", LISTENS)
    nosy = Nosy(record, lambda tree: tree.start_child(x.child()))
    if way == "an ancestor replays":
        inner = SystemSupervisor([Child("n", nosy.play)])
        children = [a.child(), Child("sub", SystemSupervisor([Child("inner", inner)]))]
    else:
        both = [a.child(), Child("n", nosy.play)]
        children = [Child("sub", SystemSupervisor(both, breaker=NeverRestart))]
    async with open_system(children, strategy="one_for_all") as tree:
        record.take()
        nosy.handle = tree if way == "an ancestor replays" else tree.child("sub").value
        a.die()
        await trio.sleep(1)
        assert record.take_order() == "-a1 +a2 WouldDeadlock"
        assert tree.child("sub").status == "running"


@story
async def test_one_that_is_restarted_alone_can_call_its_supervisor() -> None:
    """Nobody waits for it, so that the loop can serve it."""
    record = Record()
    a, x = cast(record, "ax", LISTENS)
    nosy = Nosy(record, lambda tree: tree.start_child(x.child()))
    children = [a.child(), Child("n", nosy.play)]
    async with open_system(children, strategy="one_for_one") as tree:
        record.take()
        nosy.handle = tree
        nosy.die.set()
        await trio.sleep(1)
        assert record.take_order() == "+x1 ok"
        assert listed(tree) == "a=running n=running x=running"


@story
async def test_a_starting_child_can_call_a_system_that_is_up() -> None:
    record = Record()
    a, x = cast(record, "ax", LISTENS)

    async def client(pool: SystemHandle, *, task_status: trio.TaskStatus[None]) -> None:
        handle = await pool.start_child(x.child())
        record(f"client of {handle.value}")
        task_status.started()
        await trio.sleep_forever()

    async def system(scope: Scope) -> None:
        pool = await scope.start(Child("pool", SystemSupervisor([a.child()])))
        await scope.start(Child("client", client, pool))

    async with open_system(system) as tree:
        assert listed(tree) == "pool=running client=running"
    assert record.order == "+a1 +x1 client of x#1 -x1 -a1"


@pytest.mark.parametrize("strategy", STRATEGIES)
@story
async def test_a_running_child_can_call_its_supervisor(strategy: Strategy) -> None:
    record = Record()
    (x,) = cast(record, "x", LISTENS)

    async def boss() -> None:
        await trio.sleep(1)
        tree = current_context().system
        await tree.start_child(x.child())
        await tree.terminate_child("x")
        await tree.restart_child("x")
        await trio.sleep_forever()

    async with open_system([Child("boss", boss)], strategy=strategy) as tree:
        await trio.sleep(2)
        assert listed(tree) == "boss=running x=running"
    assert record.order == "+x1 -x1 +x2 -x2"


@pytest.mark.parametrize("is_deep", [False, True])
@story
async def test_a_running_child_that_calls_during_a_replay_is_served_after_it(is_deep: bool) -> None:
    record = Record()
    b, x = Actor(record, "b", [3, *STAYS]), Actor(record, "x")

    async def boss() -> None:
        await trio.sleep(4)
        record(await answer(current_context().root.start_child(x.child())))
        await trio.sleep_forever()

    above = Child("boss", boss)
    if is_deep:
        above = Child("sub", SystemSupervisor([above]))
    async with open_system([above, b.child()], strategy="rest_for_one"):
        record.take()
        b.die()
        await trio.sleep(9)
        assert record.take() == [(3, "-b1"), (3, "~b2"), (6, "+b2"), (6, "+x1"), (6, "ok")]


@pytest.mark.parametrize("number", range(6))
@story
async def test_the_system_function_cannot_call_its_own_supervisor(number: int) -> None:
    record = Record()
    a, x = cast(record, "ax", LISTENS)
    known: list[SystemHandle] = []

    async def system(scope: Scope) -> None:
        await scope.start(a.child())
        for tree in known:
            record(await answer(calls_about(x)[number](tree)))

    async with open_system(system) as tree:
        known.append(tree)
        a.die()
        await trio.sleep(1)
        assert record.order == "+a1 -a1 +a2 WouldDeadlock"
        assert listed(tree) == "a=running"


@pytest.mark.parametrize("strategy", STRATEGIES)
@story
async def test_on_termination_cannot_call_its_own_supervisor(strategy: Strategy) -> None:
    record = Record()
    a, x = cast(record, "ax", LISTENS)
    known: list[SystemHandle] = []

    async def hook(report: TerminationReport) -> None:
        record(await answer(known[0].start_child(x.child())))

    async with open_system([a.child(on_termination=hook)], strategy=strategy) as tree:
        known.append(tree)
        a.die()
        await trio.sleep(1)
        assert record.order == "+a1 -a1 WouldDeadlock +a2"


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("number", range(6))
@story
async def test_what_a_supervisor_asks_about_an_end_cannot_call_it(
    number: int, strategy: Strategy
) -> None:
    record = Record()
    a, x = cast(record, "ax", LISTENS)
    known: list[SystemHandle] = []

    def call() -> bool:
        # neither may be async, so the call is begun by hand
        with pytest.raises(WouldDeadlock):
            calls_about(x)[number](known[0]).__await__().send(None)
        record("WouldDeadlock")
        return True

    class Caller:
        def may_restart(self, key: str, now: float) -> bool:
            return call()

    child = a.child(recoverable=lambda error: call(), breaker=Caller)
    async with open_system([child], strategy=strategy, breaker=Caller) as tree:
        known.append(tree)
        a.die()
        await trio.sleep(1)
        assert record.order == "+a1 -a1 " + 3 * "WouldDeadlock " + "+a2"


@story
async def test_a_task_that_a_breaker_has_begun_elsewhere_may_call_the_supervisor() -> None:
    record = Record()
    a, x = cast(record, "ax", LISTENS)

    class Caller:
        def may_restart(self, key: str, now: float) -> bool:
            nursery.start_soon(tree.start_child, x.child())
            return True

    async with (
        trio.open_nursery() as nursery,
        open_system([a.child()], strategy="one_for_one", breaker=Caller) as tree,
    ):
        a.die()
        await trio.sleep(1)
        assert listed(tree) == "a=running x=running"


@story
async def test_the_starting_children_of_a_dynamic_supervisor_can_call_it() -> None:
    record = Record()
    (x,) = cast(record, "x", LISTENS)

    async def parent(*, task_status: trio.TaskStatus[str]) -> None:
        handle = await current_context().system.start_child(x.child())
        task_status.started(f"parent of {handle.value}")
        await trio.sleep_forever()

    async with open_system(DynamicSupervisor(name="pool")) as pool:
        handle = await pool.start_child(Child("parent", parent))
        assert handle.value == "parent of x#1"
        await pool.terminate_child("x")
        assert listed(pool) == "parent=running"


@story
async def test_a_call_that_a_replay_turns_into_a_deadlock_is_refused_then() -> None:
    """It could have been served when it was made; then the loop begins to wait for its caller."""
    record = Record()
    m = Actor(record, "m", [3, *LISTENS])
    b, x = cast(record, "bx", LISTENS)

    async def slow(*, task_status: trio.TaskStatus[None]) -> None:
        context = current_context()
        if context.incarnation > 1:
            await trio.sleep(2)
            record(await answer(context.system.start_child(x.child())))
        task_status.started()
        await trio.sleep_forever()

    children = [m.child(), Child("n", slow), b.child()]
    async with (
        open_system(children, strategy="rest_for_one") as tree,
        trio.open_nursery() as nursery,
    ):
        await tree.terminate_child("m")
        await tree.terminate_child("n")
        record.take()
        begin = trio.current_time()
        Desk(record, nursery).call("n", tree.restart_child, "n")
        await trio.sleep(1)
        b.die()
        await trio.sleep(9)
        facts = [(moment - begin, fact) for moment, fact in record.take()]
        assert facts[:4] == [(1, "-b1"), (1, "~m2"), (4, "+m2"), (4, "WouldDeadlock")]
        assert sorted(facts[4:]) == [(4, "+b2"), (4, "n:ok")]
        assert listed(tree) == "m=running n=running b=running"


@pytest.mark.parametrize("way", ["terminate", "restart", "cancel"])
@pytest.mark.parametrize("above", ["one_for_one", "dynamic"])
@story
async def test_one_that_is_starting_again_and_is_being_stopped_can_call(
    above: str, way: str
) -> None:
    """Its supervisor waits for nothing: it has asked it to end, and goes on."""
    record = Record()
    (x,) = cast(record, "x", LISTENS)
    known: list[SystemHandle] = []
    runs = 0

    async def slow(*, task_status: trio.TaskStatus[None]) -> None:
        nonlocal runs
        runs += 1
        if runs == 2:
            with cancel_on_settle():
                await trio.sleep(100)
            record(await answer(known[0].start_child(x.child())))
            return
        task_status.started()
        await trio.sleep(1 if runs == 1 else 1000)

    child = Child("n", slow)
    tops: dict[str, Any] = {
        "one_for_one": SystemSupervisor([child], strategy="one_for_one"),
        "dynamic": DynamicSupervisor(),
    }
    async with open_system(tops[above]) as tree, trio.open_nursery() as nursery:
        known.append(tree)
        if above == "dynamic":
            await tree.start_child(child)
        if way == "cancel":
            # the start of a call, taken back
            runs = 1
            await tree.terminate_child("n")
            begin = tree.start_child if above == "dynamic" else tree.restart_child
            with trio.move_on_after(1):
                await begin(child if above == "dynamic" else "n")
        else:
            await trio.sleep(2)
            assert tree.child("n").status == "starting"
            ask = tree.child("n").restart if way == "restart" else tree.child("n").terminate
            Desk(record, nursery).call("by", ask)
        await trio.sleep(1)
        facts = record.take_order().split()
        assert facts[:2] == ["+x1", "ok"]
        assert facts[2:] == ([] if way == "cancel" else ["by:ok"])


@pytest.mark.parametrize("replays", [False, True])
@story
async def test_one_that_has_started_below_one_that_is_starting_can_call(replays: bool) -> None:
    """A start that the loop waits for does not wait for this call: it is served afterwards."""
    record = Record()
    x, late = Actor(record, "x"), Actor(record, "late", [3, *STAYS])
    known: list[SystemHandle] = []

    async def deep(*, task_status: trio.TaskStatus[None]) -> None:
        task_status.started()
        if known:
            await trio.sleep(2)
            record(await answer(known[0].start_child(x.child())))
        await trio.sleep_forever()

    sub = Child("sub", SystemSupervisor([Child("deep", deep), late.child()]))
    async with (
        open_system([sub], strategy="one_for_one") as tree,
        trio.open_nursery() as nursery,
    ):
        await tree.terminate_child("sub")
        record.take()
        known.append(tree)
        nursery.start_soon(tree.restart_child, "sub")
        await trio.sleep(1)
        if replays:
            await tree.replay()
        await trio.sleep(9)
        order = "~late2 +late2 +x1 ok" if replays else "~late2 +x1 ok +late2"
        assert record.take_order() == order
        assert listed(tree) == "sub=running x=running"
