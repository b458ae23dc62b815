"""Ctrl-C, as trio delivers it: to whoever runs, or to the main task where it waits."""

from __future__ import annotations

import signal
import sys
from types import FrameType

import pytest
import tenacity
import trio

from actors import LISTENS, STAYS, Actor, cast
from spry_py import Child, Interrupted, Scope, Strategy, SystemSupervisor, open_system
from stories import Boom, Record, story, told_by


@trio.lowlevel.enable_ki_protection
def interrupt() -> None:
    """Ctrl-C at a moment when trio can only deliver it to the main task."""
    signal.raise_signal(signal.SIGINT)


async def interrupt_at(time: float) -> None:
    await trio.sleep_until(time)
    interrupt()


@story
async def test_ctrl_c_in_a_childs_own_code() -> None:
    record = Record()
    a, c = cast(record, "ac", cleanup=1)

    async def child() -> None:
        await trio.sleep(1)
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        async with open_system([a.child(), Child("b", child), c.child()]):
            await trio.sleep_forever()
    assert record.facts[2:] == [(2, "-c1"), (3, "-a1")]


@story
async def test_ctrl_c_before_a_child_has_begun_counts_as_raised_in_it() -> None:
    """At the very first call in its task, before its own cancel scope is entered."""
    record = Record()
    a, b, c = cast(record, "abc", cleanup=1)
    struck: list[str] = []

    def strike(frame: FrameType, event: str, argument: object) -> None:
        name = trio.lowlevel.current_task().name if frame.f_code.co_name == "_begin" else ""
        if name == "b" and event == "call":
            struck.append(name)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        async with open_system([a.child(), c.child()], name="top") as tree:
            before = sys.getprofile()
            sys.setprofile(strike)
            try:
                with pytest.raises(Interrupted):
                    await tree.start_child(b.child())
            finally:
                sys.setprofile(before)
            await trio.sleep_forever()
    assert struck == ["b"]
    assert record.facts == [(0, "+a1"), (0, "+c1"), (1, "-c1"), (2, "-a1")]


@story
async def test_ctrl_c_delivered_to_the_block() -> None:
    record = Record()
    a, b = cast(record, "ab", cleanup=1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(interrupt_at, 1)
        with pytest.raises(KeyboardInterrupt):
            async with open_system([a.child(), b.child()]):
                await trio.sleep_forever()
    assert record.facts[2:] == [(2, "-b1"), (3, "-a1")]


@story
async def test_ctrl_c_delivered_during_the_first_startup() -> None:
    record = Record()
    a = Actor(record, "a", cleanup=1)
    b = Actor(record, "b", [9, *STAYS], cleanup=1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(interrupt_at, 1)
        with pytest.raises(KeyboardInterrupt):
            async with open_system([a.child(), b.child()]):
                record("never")
    assert record.facts == [(0, "+a1"), (0, "~b1"), (2, "-b1"), (3, "-a1")]


@story
async def test_ctrl_c_delivered_during_the_teardown() -> None:
    record = Record()
    a, b, c = cast(record, "abc", LISTENS, cleanup=2)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(interrupt_at, 1)
        with pytest.raises(KeyboardInterrupt):
            async with open_system([a.child(), b.child(), c.child()]):
                record.take()
    assert record.facts == [(2, "-c1"), (4, "-b1"), (6, "-a1")]


@pytest.mark.parametrize("strategy", ["one_for_one", "rest_for_one", "one_for_all"])
@story
async def test_ctrl_c_delivered_during_a_restart(strategy: Strategy) -> None:
    record = Record()
    a = Actor(record, "a")
    b = Actor(record, "b", [4, *STAYS])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(interrupt_at, 6)
        with pytest.raises(KeyboardInterrupt):
            async with open_system([a.child(), b.child()], strategy=strategy):
                b.die()
                await trio.sleep_forever()
    again = "-a1 +a2 ~b2 -b2 -a2" if strategy == "one_for_all" else "~b2 -b2 -a1"
    assert record.order == f"+a1 ~b1 +b1 -b1 {again}"


@story
async def test_ctrl_c_delivered_to_a_supervisor_awaited_by_the_main_task() -> None:
    record = Record()
    a, b = cast(record, "ab", cleanup=1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(interrupt_at, 1)
        with pytest.raises(KeyboardInterrupt):
            await SystemSupervisor([a.child(), b.child()])()
    assert record.facts == [(0, "+a1"), (0, "+b1"), (2, "-b1"), (3, "-a1")]


@story
async def test_ctrl_c_a_second_time_does_not_disturb_the_order() -> None:
    record = Record()
    a, b, c = cast(record, "abc", LISTENS, cleanup=2)
    async with trio.open_nursery() as nursery:
        for time in (1, 2.5):
            nursery.start_soon(interrupt_at, time)
        with pytest.raises(BaseException) as caught:  # noqa: PT011
            async with open_system([a.child(), b.child(), c.child()]):
                record.take()
                await trio.sleep_forever()
    found = caught.value
    leaves = found.exceptions if isinstance(found, BaseExceptionGroup) else (found,)
    assert {type(leaf) for leaf in leaves} == {KeyboardInterrupt}
    assert record.facts == [(3, "-c1"), (5, "-b1"), (7, "-a1")]


@story
async def test_ctrl_c_delivered_while_the_tree_of_a_failed_block_stops_is_not_lost() -> None:
    record = Record()
    a, b = cast(record, "ab", LISTENS, cleanup=2)
    error = Boom("of the block")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(interrupt_at, 1)
        with pytest.raises(BaseException) as caught:  # noqa: PT011
            async with open_system([a.child(), b.child()]):
                raise error
    told = list(told_by(caught.value))
    assert error in told
    assert any(isinstance(one, KeyboardInterrupt) for one in told)
    assert record.facts[2:] == [(2, "-b1"), (4, "-a1")]


@pytest.mark.parametrize("moment", ["sleep", "start", "group", "backoff", "replay", "teardown"])
@story
async def test_ctrl_c_delivered_to_the_main_task_that_is_the_supervisor(moment: str) -> None:
    record = Record()
    begins = {"start": [9], "group": [9], "replay": [2]}.get(moment, [])
    a = Actor(record, "a", cleanup=1)
    b = Actor(record, "b", [*begins, *STAYS], cleanup=1)
    c = Actor(record, "c", cleanup=1)
    killed = {"backoff": a, "replay": a, "group": c}
    backoff = tenacity.wait_fixed(9 if moment == "backoff" else 0)

    async def system(scope: Scope) -> None:
        await scope.start(a.child(backoff=backoff))
        if moment == "sleep":
            await trio.sleep(9)
        if moment == "group":
            await scope.start_together(b.child(), c.child())
        else:
            await scope.start(b.child())

    async with trio.open_nursery() as nursery:
        with pytest.raises(KeyboardInterrupt):
            nursery.start_soon(interrupt_at, 5.5)
            if moment in killed:
                nursery.start_soon(_kill_at, 3, killed[moment])
            with trio.move_on_after(5 if moment == "teardown" else 100):
                await SystemSupervisor(system)()
    facts = [fact for _, fact in record.facts if fact[0] in "-+"]
    expected = {
        "sleep": "+a1 -a1",
        "start": "+a1 -b1 -a1",
        "group": "+a1 +c1 -c1 -b1 -a1",
        "backoff": "+a1 +b1 -a1 -b1",
        "replay": "+a1 +b1 -a1 -b1 +a2 -b2 -a2",
        "teardown": "+a1 +b1 -b1 -a1",
    }
    assert " ".join(facts) == expected[moment]


async def _kill_at(time: float, actor: Actor) -> None:
    await trio.sleep_until(time)
    actor.die()
