"""KeyboardInterrupt, SystemExit and their like: the whole tree stops in order, and they go on."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio

from actors import LISTENS, Actor, cast, no_start
from callers import Desk
from spry_py import (
    Child,
    ChildFailure,
    ChildHandle,
    Scope,
    Strategy,
    SystemHandle,
    SystemSupervisor,
    TerminationReport,
    Unrecoverable,
    open_system,
)
from stories import Boom, Ledger, Record, story
from workers import calm


class OwnExit(BaseException):
    """An exception that is no `Exception`."""


EXITS: dict[str, Callable[[], BaseException]] = {
    "KeyboardInterrupt": KeyboardInterrupt,
    "SystemExit": lambda: SystemExit(3),
    "own": OwnExit,
    "group": lambda: BaseExceptionGroup("both", [Boom("other"), KeyboardInterrupt()]),
}


@pytest.mark.parametrize("which", EXITS)
@pytest.mark.parametrize("strategy", ["one_for_one", "rest_for_one", "one_for_all"])
@story
async def test_raised_in_a_child_it_stops_the_root_and_surfaces_unchanged(
    strategy: Strategy, which: str
) -> None:
    record = Record()
    error = EXITS[which]()
    a, b, c = cast(record, "abc", cleanup=1)
    children = [a.child(), b.child(restart="temporary"), c.child()]
    with pytest.raises(BaseException) as caught:  # noqa: PT011
        async with open_system(children, strategy=strategy, breaker=Ledger(record)):
            record.take()
            b.die(error)
            await trio.sleep_forever()
    assert caught.value is error
    assert record.facts == [(1, "-b1"), (2, "-c1"), (3, "-a1")]


@pytest.mark.parametrize("which", EXITS)
@story
async def test_from_deep_inside_it_stops_in_the_order_of_the_whole_tree(which: str) -> None:
    record = Record()
    error = EXITS[which]()
    a, b, c, d = cast(record, "abcd", cleanup=1)
    inner = SystemSupervisor([b.child(), c.child()])
    sub = SystemSupervisor([Child("inner", inner)])
    with pytest.raises(BaseException) as caught:  # noqa: PT011
        async with open_system([a.child(), Child("sub", sub), d.child()]):
            record.take()
            b.die(error)
            await trio.sleep_forever()
    assert caught.value is error
    assert record.facts == [(1, "-b1"), (2, "-d1"), (3, "-c1"), (4, "-a1")]


@story
async def test_until_its_turn_comes_each_subsystem_goes_on_serving() -> None:
    """A subsystem beside it restarts, too; what it does for its children is told elsewhere."""
    record = Record()
    a, b, c = cast(record, "abc")
    d = Actor(record, "d", LISTENS, cleanup=4)
    sub = SystemSupervisor([c.child()], strategy="one_for_one", breaker=Ledger(record))
    children = [a.child(), b.child(), Child("sub", sub), d.child()]

    async def kill_c() -> None:
        await trio.sleep(2)
        c.die()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(kill_c)
        with pytest.raises(KeyboardInterrupt):
            async with open_system(children, strategy="one_for_one", breaker=Ledger(record)):
                record.take()
                b.die(KeyboardInterrupt())
                await trio.sleep_forever()
    assert record.facts == [
        (0, "-b1"),
        (2, "-c1"),
        (2, "?c"),
        (2, "+c2"),
        (4, "-d1"),
        (4, "-c2"),
        (4, "-a1"),
    ]


@pytest.mark.parametrize("which", EXITS)
@story
async def test_raised_during_clean_up_it_surfaces_and_the_rest_still_stops(which: str) -> None:
    record = Record()
    error = EXITS[which]()
    a, c = cast(record, "ac")

    async def sour() -> None:
        try:
            await trio.sleep_forever()
        finally:
            record("sour")
            raise error

    sub = SystemSupervisor([Child("sour", sour)])
    with pytest.raises(BaseException) as caught:  # noqa: PT011
        async with open_system([a.child(), Child("sub", sub), c.child()]):
            pass
    assert caught.value is error
    assert record.order == "+a1 +c1 -c1 sour -a1"


@pytest.mark.parametrize("which", EXITS)
@pytest.mark.parametrize("depth", [0, 1, 2])
@story
async def test_raised_in_a_first_start_it_surfaces_unchanged(depth: int, which: str) -> None:
    record = Record()
    error = EXITS[which]()
    a, b = cast(record, "ab")

    async def broken(*, task_status: trio.TaskStatus[None]) -> None:
        await trio.sleep(1)
        raise error

    bad = Child("broken", broken)
    for level in range(depth):
        bad = Child(f"level{level}", SystemSupervisor([bad]))
    with pytest.raises(BaseException) as caught:  # noqa: PT011
        async with open_system([a.child(), b.child(), bad]):
            record("never")
    assert caught.value is error
    assert record.facts == [(0, "+a1"), (0, "+b1"), (1, "-b1"), (1, "-a1")]


@pytest.mark.parametrize("nested", [False, True])
@story
async def test_raised_by_a_system_function_it_surfaces_unchanged(nested: bool) -> None:
    record = Record()
    (a,) = cast(record, "a")
    error = SystemExit(2)

    async def system(scope: Scope) -> None:
        await scope.start(a.child())
        raise error

    tree = [Child("sub", SystemSupervisor(system))] if nested else system
    with pytest.raises(SystemExit) as caught:
        async with open_system(tree):
            record("never")
    assert caught.value is error
    assert record.order == "+a1 -a1"


@pytest.mark.parametrize("strategy", ["one_for_one", "rest_for_one", "one_for_all"])
@story
async def test_raised_in_a_restart_it_surfaces_unchanged(strategy: Strategy) -> None:
    record = Record()
    error = KeyboardInterrupt()
    (a,) = cast(record, "a")
    runs = 0

    async def second_time(*, task_status: trio.TaskStatus[None]) -> None:
        nonlocal runs
        runs += 1
        await trio.sleep(1)
        if runs == 2:
            raise error
        task_status.started()
        await trio.sleep(1)

    children = [a.child(), Child("b", second_time)]
    with pytest.raises(KeyboardInterrupt) as caught:
        async with open_system(children, strategy=strategy):
            await trio.sleep(9)
    assert caught.value is error
    assert runs == 2
    again = " -a1 +a2 -a2" if strategy == "one_for_all" else " -a1"
    assert record.order == f"+a1{again}"


@story
async def test_raised_by_on_termination_it_surfaces() -> None:
    record = Record()
    a, b = cast(record, "ab")
    error = SystemExit(1)

    async def leave(report: TerminationReport) -> None:
        raise error

    with pytest.raises(SystemExit) as caught:
        async with open_system([a.child(), b.child(on_termination=leave)]):
            b.die()
            await trio.sleep(9)
    assert caught.value is error
    assert record.order == "+a1 +b1 -b1 -a1"


@story
async def test_raised_by_the_block_it_surfaces_after_the_tree_has_stopped() -> None:
    record = Record()
    a, b = cast(record, "ab", cleanup=1)
    error = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt) as caught:
        async with open_system([a.child(), b.child()]):
            raise error
    assert caught.value is error
    assert record.facts == [(0, "+a1"), (0, "+b1"), (1, "-b1"), (2, "-a1")]


@story
async def test_raised_in_a_tree_inside_a_child_it_stops_that_tree_first() -> None:
    record = Record()
    a, b, c, d = cast(record, "abcd", cleanup=1)
    error = KeyboardInterrupt()

    async def own(*, task_status: trio.TaskStatus[None]) -> None:
        async with open_system([c.child(), d.child()]) as tree:
            task_status.started()
            await tree.wait()

    with pytest.raises(KeyboardInterrupt) as caught:
        async with open_system([a.child(), Child("own", own), b.child()]):
            record.take()
            d.die(error)
            await trio.sleep_forever()
    assert caught.value is error
    assert record.facts == [(1, "-d1"), (2, "-c1"), (3, "-b1"), (4, "-a1")]


@story
async def test_it_wins_over_a_failure_of_the_tree_at_the_same_time() -> None:
    record = Record()
    a, b = cast(record, "ab")
    error = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt) as caught:
        async with open_system([a.child(), b.child()], breaker=Ledger(record, allows=0)):
            a.die(error)
            b.die()
            await trio.sleep_forever()
    assert caught.value is error


@story
async def test_a_system_that_does_not_come_up_meanwhile_fails_for_the_first_reason() -> None:
    """Its turn to stop comes later; until then it serves calls, and what they start may fail."""
    record = Record()
    systems: list[SystemHandle] = []
    b = Actor(record, "b", [2, no_start])
    k, x = cast(record, "kx")
    late = Actor(record, "late", LISTENS, cleanup=9)

    async def system(scope: Scope) -> None:
        systems.append(scope.system)
        await scope.start(b.child())

    subs: list[ChildHandle] = []
    error = KeyboardInterrupt()
    async with trio.open_nursery() as nursery:
        with pytest.raises(KeyboardInterrupt) as caught:
            async with open_system([k.child()], strategy="one_for_one") as tree:
                desk = Desk(record, nursery)
                desk.call("sub", tree.start_child, Child("sub", SystemSupervisor(system)))
                await calm()
                subs.append(tree.child("sub"))
                await tree.start_child(late.child(shutdown=20))
                await trio.sleep(1)
                record.take()
                k.die(error)
                with trio.CancelScope(shield=True):
                    await trio.sleep(2)
                    await systems[0].start_child(x.child())
                    x.die(Unrecoverable())
                await trio.sleep_forever()
    assert caught.value is error
    (sub,) = subs
    assert sub.last_report is not None
    assert isinstance(sub.last_report.exception, ChildFailure)
    assert record.facts == [
        (1, "-k1"),
        (2, "!b1"),
        (3, "+x1"),
        (3, "-x1"),
        (10, "-late1"),
        (10, "sub:Interrupted"),
    ]
