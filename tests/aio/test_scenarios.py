"""The catalogue's scenarios about starting, stopping, restarting and escalating, told three times.

With children of trio's, with tasks of asyncio in the host's loop, and with tasks in threads: the
events of the tree, their order, and what comes out of it must be the same. The numbers are those
of the catalogue, whose scenarios are told at length in tests/peers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Literal, TypeAlias

import pytest
import trio

import spry_py
from spry_py import (
    Child,
    DynamicSupervisor,
    Ignore,
    RateLimited,
    Scope,
    SystemHandle,
    SystemSupervisor,
    aio,
    current_context,
)
from spry_py.events import ChildTerminated, Escalated, Event, IncidentClosed
from spry_py.lowlevel import open_subscribed
from stories import HANGS
from ways import WAYS

Role: TypeAlias = Literal["polite", "plain", "deaf", "rude", "fail2", "ignore1", "refuses"]
Order: TypeAlias = Literal["die", "stop"]


class Crash(Exception):
    """What a child raises that is told to die."""


def word(event: Event) -> str:
    """An event without its times."""
    text = f"{type(event).__name__} {event.path}"
    if isinstance(event, ChildTerminated):
        report = event.report
        value = getattr(report.reason, "value", "")
        more = (type(report.reason).__name__, report.burden, value, report.exception)
        text += " ".join(("", *(repr(one) if one is not None else "" for one in more)))
    return f"{text} {event.cause!r}" if isinstance(event, Escalated) else text


class Stage:
    """A tree whose children do as they are told; and what happens in it."""

    def __init__(self, is_trio: bool) -> None:
        self._is_trio = is_trio
        self._orders: dict[str, Callable[[Order], object]] = {}
        self.words: list[str] = []

    # The tree

    def offer(self, event: Event) -> None:
        # that an incident is over is seen a little later, perhaps after the next order
        if not isinstance(event, IncidentClosed):
            self.words.append(word(event))

    def wake(self) -> None:
        """There is a subscription that is never waited for."""

    def open(self, *children: Child[Any], **options: Any) -> Any:
        options.setdefault("breaker", RateLimited(2, 3600))
        return open_subscribed(SystemSupervisor(children, name="top", **options), self)

    def tell(self, key: str, order: Order) -> None:
        self._orders[key](order)

    # The children

    def child(self, key: str, role: Role = "polite", **options: Any) -> Child[Any]:
        if self._is_trio:
            return Child(key, self._play_trio, key, role, **options)
        return Child(key, aio.task(self._play, key, role), **options)

    def _begin(self, role: Role) -> str:
        number = current_context().incarnation
        if role == "refuses" or (role == "fail2" and number > 1):
            raise Crash(f"no start {number}")
        if role == "ignore1" and number == 1:
            raise Ignore
        return f"value {number}"

    def _end(self, role: Role, order: Order | None) -> str:
        if order == "die" or (order is None and role == "rude"):
            raise Crash("as told")
        return "settled" if order is None else "stopped"

    async def _play_trio(self, key: str, role: Role, *, task_status: trio.TaskStatus[str]) -> str:
        value = self._begin(role)
        orders: list[Order] = []
        ordered = trio.Event()

        def give(order: Order) -> None:
            orders.append(order)
            ordered.set()

        self._orders[key] = give
        scope = trio.CancelScope() if role == "plain" else spry_py.cancel_on_settle()
        with scope if role != "deaf" else trio.CancelScope():
            task_status.started(value)
            await ordered.wait()
        return self._end(role, orders[0] if orders else None)

    async def _play(self, key: str, role: Role) -> str:
        value = self._begin(role)
        loop = asyncio.get_running_loop()
        ordered: asyncio.Future[Order] = loop.create_future()
        self._orders[key] = lambda order: loop.call_soon_threadsafe(ordered.set_result, order)
        if role == "plain":
            aio.started(value)
            return self._end(role, await ordered)
        if role == "deaf":
            with aio.cancel_on_settle():
                pass
            aio.started(value)
            return self._end(role, await ordered)
        async with aio.cancel_on_settle() as block:
            aio.started(value)
            await ordered
        return self._end(role, None if block.cancelled else ordered.result())


Scenario: TypeAlias = Callable[[Stage], Awaitable[None]]
SCENARIOS: dict[str, Scenario] = {}


def scenario(tell: Scenario) -> Scenario:
    SCENARIOS[tell.__name__] = tell
    return tell


async def up(handle: SystemHandle, **incarnations: int) -> None:
    """Wait until these are up."""
    for key, number in incarnations.items():
        await handle.child(key).wait_incarnation(number)


# Start


@scenario
async def a01_a16_up_and_down(stage: Stage) -> None:
    async with stage.open(stage.child("a"), stage.child("b"), stage.child("c", "plain")) as top:
        stage.words.append(top.render())


@scenario
async def a03_a_child_that_is_left_out(stage: Stage) -> None:
    async with stage.open(stage.child("a", "ignore1"), stage.child("b")) as top:
        stage.words.append(top.render())
        await top.restart_child("a")


@scenario
async def a04_a_temporary_one_that_is_left_out(stage: Stage) -> None:
    ignored = stage.child("a", "ignore1", restart="temporary")
    async with stage.open(ignored, stage.child("b")) as top:
        stage.words.append(top.render())


@scenario
async def a10_a_start_that_fails_takes_the_earlier_ones_with_it(stage: Stage) -> None:
    async with stage.open(stage.child("a"), stage.child("b"), stage.child("c", "refuses")):
        raise AssertionError("never up")


@scenario
async def a09_a_start_that_fails_is_caught(stage: Stage) -> None:
    async def system(scope: Scope) -> None:
        try:
            await scope.start(stage.child("a", "refuses"))
        except spry_py.ChildFailure:
            await scope.start(stage.child("a"))

    async with open_subscribed(SystemSupervisor(system), stage):
        pass


@scenario
async def a10_a_start_by_call_that_fails(stage: Stage) -> None:
    async with stage.open(stage.child("a")) as top:
        with pytest.raises(spry_py.ChildFailure):
            await top.start_child(stage.child("b", "refuses"))


@scenario
async def start_together(stage: Stage) -> None:
    async def system(scope: Scope) -> None:
        stage.words.append(repr(await scope.start_together(stage.child("a"), stage.child("b"))))
        # trio wakes those that start at the same time in an order of its own choice
        stage.words.sort()

    async with open_subscribed(SystemSupervisor(system), stage):
        pass


# Stop


@scenario
async def a17_one_outlives_its_time(stage: Stage) -> None:
    async with stage.open(stage.child("a"), stage.child("b", "deaf", shutdown=0.05)):
        pass


@scenario
async def a19_one_is_cancelled_at_once(stage: Stage) -> None:
    async with stage.open(stage.child("a"), stage.child("b", shutdown=0)):
        pass


@scenario
async def a22_one_raises_while_it_is_stopped(stage: Stage) -> None:
    async with stage.open(stage.child("a", "rude"), stage.child("b")):
        pass


@scenario
async def a20_abort(stage: Stage) -> None:
    async with stage.open(stage.child("a")) as top:
        top.abort()
        await top.wait()


@scenario
async def a16_a_subsystem_goes_down_in_its_turn(stage: Stage) -> None:
    inner = SystemSupervisor([stage.child("x"), stage.child("y")])
    async with stage.open(stage.child("a"), Child("inner", inner), stage.child("b")):
        pass


@scenario
async def the_scope_around_it_is_cancelled(stage: Stage) -> None:
    with trio.CancelScope() as scope:
        async with stage.open(stage.child("a"), stage.child("b")):
            scope.cancel()
            await trio.sleep_forever()


# Restart and escalate


@scenario
async def a30_one_for_one(stage: Stage) -> None:
    children = (stage.child("a"), stage.child("b"))
    async with stage.open(*children, strategy="one_for_one") as top:
        stage.tell("a", "die")
        await up(top, a=2)
        stage.tell("b", "die")
        await up(top, b=2)
        stage.tell("b", "die")
        await trio.sleep_forever()


@scenario
async def a31_one_for_one_escalation(stage: Stage) -> None:
    children = (stage.child("a", "fail2"), stage.child("b"))
    async with stage.open(*children, strategy="one_for_one"):
        stage.tell("a", "die")
        await trio.sleep_forever()


@scenario
async def a32_one_for_all(stage: Stage) -> None:
    children = (stage.child("a"), stage.child("b"), stage.child("c"))
    async with stage.open(*children) as top:
        for number in (2, 3):
            stage.tell("b", "die")
            await up(top, a=number, b=number, c=number)
        stage.tell("b", "die")
        await trio.sleep_forever()


@scenario
async def a33_one_for_all_escalation(stage: Stage) -> None:
    async with stage.open(stage.child("a"), stage.child("b", "fail2"), stage.child("c")):
        stage.tell("a", "die")
        await trio.sleep_forever()


@scenario
async def a41_rest_for_one(stage: Stage) -> None:
    children = (stage.child("a"), stage.child("b"), stage.child("c"))
    async with stage.open(*children, strategy="rest_for_one") as top:
        stage.tell("b", "die")
        await up(top, b=2, c=2)
        stage.tell("c", "die")
        await up(top, c=3)
        stage.tell("a", "die")
        await trio.sleep_forever()


@scenario
async def a42_rest_for_one_escalation(stage: Stage) -> None:
    children = (stage.child("a"), stage.child("b", "fail2"), stage.child("c"))
    async with stage.open(*children, strategy="rest_for_one"):
        stage.tell("a", "die")
        await trio.sleep_forever()


@scenario
async def a_subsystem_gives_up_and_is_restarted(stage: Stage) -> None:
    breaker = RateLimited(0, 3600)
    inner = SystemSupervisor([stage.child("x"), stage.child("y")], breaker=breaker)
    async with stage.open(stage.child("a"), Child("inner", inner), strategy="rest_for_one") as top:
        stage.tell("x", "die")
        await up(top, inner=2)


@scenario
async def l3_a_pause_before_each_restart(stage: Stage) -> None:
    child = stage.child("a", backoff=lambda state: 0.01)
    async with stage.open(child, strategy="one_for_one") as top:
        stage.tell("a", "die")
        await up(top, a=2)


@scenario
async def s3_a_stop_ends_a_pause(stage: Stage) -> None:
    child = stage.child("a", backoff=lambda state: 3600.0)
    async with stage.open(child, stage.child("b"), strategy="one_for_one") as top:
        stage.tell("a", "die")
        while top.child("a").info().restart_at is None:
            await trio.sleep(0.001)


# Ends


def of_type(restart: str, order: Order) -> None:
    async def tell(stage: Stage) -> None:
        child = stage.child("a", restart=restart)
        async with stage.open(child, stage.child("b"), strategy="one_for_one") as top:
            a = top.child("a")
            stage.tell("a", order)
            if restart == "permanent" or (restart == "transient" and order == "die"):
                await a.wait_incarnation(2)
            else:
                await a.wait()
            stage.words.append(top.render())

    SCENARIOS[f"a45_a54_{restart}_{order}"] = tell


for _restart in ("permanent", "transient", "temporary"):
    of_type(_restart, "die")
    of_type(_restart, "stop")


@scenario
async def a59_the_end_of_a_significant_one_ends_all(stage: Stage) -> None:
    main = stage.child("b", restart="transient", significant=True)
    children = (stage.child("a"), main, stage.child("c"))
    async with stage.open(*children, auto_shutdown="any_significant") as top:
        stage.tell("b", "stop")
        await top.wait()


@scenario
async def f_one_is_told_to_fail(stage: Stage) -> None:
    async with stage.open(stage.child("a"), strategy="one_for_one") as top:
        top.child("a").fail(Crash("from outside"))
        await up(top, a=2)


# Calls


@scenario
async def a23_child_adm(stage: Stage) -> None:
    async with stage.open(stage.child("a"), strategy="one_for_one") as top:
        await top.start_child(stage.child("b"))
        with pytest.raises(spry_py.ChildAlreadyStarted):
            await top.start_child(stage.child("b"))
        await top.terminate_child("a")
        with pytest.raises(spry_py.ChildAlreadyPresent):
            await top.start_child(stage.child("a"))
        await top.restart_child("a")
        await top.child("b").restart()
        await top.terminate_child("b")
        await top.delete_child("b")
        stage.words.append(top.render())


@scenario
async def a35_children_that_come_and_go(stage: Stage) -> None:
    pool = DynamicSupervisor(breaker=RateLimited(1, 3600))
    async with stage.open(Child("pool", pool)) as top:
        handle = top.system("pool")
        await handle.start_child(stage.child("x"))
        await handle.start_child(stage.child("y"))
        stage.tell("x", "die")
        await handle.child("x").wait_incarnation(2)
        await handle.terminate_child("y")
        stage.tell("x", "die")
        await up(top, pool=2)


def told(tell: Scenario, way: str) -> list[str]:
    """What happens in a scenario, and at last what comes out of it."""
    stage = Stage(way == "trio")

    async def main() -> None:
        try:
            with trio.fail_after(HANGS):
                await tell(stage)
        except Exception as error:
            stage.words.append(repr(error))

    run: Any = WAYS[way] if way != "trio" else trio.run
    run(main)
    return stage.words


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", SCENARIOS)
def test_it_is_told_as_it_is_of_trio(name: str, way: str) -> None:
    tell = SCENARIOS[name]
    in_trio = told(tell, "trio")
    assert len(in_trio) > 3
    assert told(tell, way) == in_trio
