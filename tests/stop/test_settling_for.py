"""What a child is stopped for: its own code can tell an ordered stop from the end of a peer."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from spry_py import (
    AlwaysRestart,
    Child,
    Context,
    DynamicSupervisor,
    NeverRestart,
    Scope,
    SpryError,
    SystemHandle,
    SystemSupervisor,
    current_context,
    open_system,
)
from stories import Boom, Record, story


class Asked:
    """Children that write down what they are stopped for, when they hear of it or are cancelled."""

    def __init__(self) -> None:
        self.record = Record()

    def child(self, key: str, **options: Any) -> Child[Any]:
        return Child(key, self.listens, **options)

    async def listens(self) -> None:
        context = current_context()
        assert context.settling_for is None
        await context.settled()
        self.record(f"{context.path} {context.settling_for}")

    async def cancelled(self) -> None:
        context = current_context()
        try:
            await trio.sleep_forever()
        finally:
            self.record(f"{context.path} aborted, {context.settling_for}")


def nested(asked: Asked, **options: Any) -> Child[Any]:
    inner = SystemSupervisor([asked.child("x"), Child("y", asked.cancelled)])
    return Child("sub", inner, **options)


async def stop(handle: SystemHandle) -> None:
    await handle.stop()


@story
async def test_an_ordered_stop_is_a_stop_down_to_the_leaves() -> None:
    asked = Asked()
    async with open_system([asked.child("a"), nested(asked)], name="top"):
        pass
    assert asked.record.order.split() == (
        ["top/sub/y", "aborted,", "stop", "top/sub/x", "stop", "top/a", "stop"]
    )


async def cancel_outside(asked: Asked) -> None:
    with trio.CancelScope() as scope:
        async with open_system([asked.child("a"), Child("b", asked.cancelled)], name="top"):
            scope.cancel()
            await trio.sleep_forever()


@story
async def test_a_cancellation_from_outside_is_a_stop() -> None:
    asked = Asked()
    await cancel_outside(asked)
    assert asked.record.order == "top/b aborted, stop top/a stop"


@story
async def test_an_escalation_is_a_stop_for_those_that_are_left() -> None:
    asked = Asked()

    async def dies() -> None:
        await trio.sleep(1)
        raise Boom

    with pytest.raises(SpryError):
        async with open_system(
            [asked.child("a"), Child("b", dies)], name="top", breaker=NeverRestart()
        ):
            await trio.sleep_forever()
    assert asked.record.facts == [(1.0, "top/a stop")]


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        ("one_for_all", "top/sub/y aborted, restart top/sub/x restart top/a restart"),
        ("rest_for_one", "top/sub/y aborted, restart top/sub/x restart"),
        ("one_for_one", ""),
    ],
)
@story
async def test_who_goes_along_with_a_sibling_is_restarted(strategy: Any, expected: str) -> None:
    asked = Asked()
    dying = [True]

    async def dies() -> None:
        if dying.pop() if dying else False:
            await trio.sleep(1)
            raise Boom
        await trio.sleep_forever()

    children = [asked.child("a"), Child("b", dies), nested(asked)]
    async with open_system(children, name="top", strategy=strategy):
        await trio.sleep(2)
        assert asked.record.order == expected


@story
async def test_a_call_is_a_call_for_the_child_it_names_and_a_restart_for_the_others() -> None:
    asked = Asked()
    children = [asked.child("a"), asked.child("b"), nested(asked)]
    async with open_system(children, name="top", strategy="rest_for_one") as handle:
        await handle.terminate_child("sub")
        assert asked.record.take_order() == "top/sub/y aborted, call top/sub/x call"
        await handle.restart_child("sub")
        await handle.child("b").restart()
        expected = "top/b call top/sub/y aborted, restart top/sub/x restart"
        assert sorted(asked.record.take_order().split()) == sorted(expected.split())


@story
async def test_a_start_that_its_caller_takes_back_is_ended_by_the_call() -> None:
    asked = Asked()

    async def slow(*, task_status: trio.TaskStatus[None]) -> None:
        await asked.cancelled()

    async with open_system(DynamicSupervisor(name="pool")) as pool:
        with trio.move_on_after(1):
            await pool.start_child(Child("slow", slow))
        assert asked.record.take_order() == "pool/slow aborted, call"
        await pool.start_child(asked.child("a"))
        await pool.start_child(asked.child("a"), "replace")
        assert asked.record.take_order() == "pool/a call"
    assert asked.record.take_order() == "pool/a stop"


@story
async def test_what_the_system_declares_no_more_or_otherwise_is_replayed() -> None:
    asked = Asked()
    second = [False]

    async def system(scope: Scope) -> None:
        if not second[0]:
            await scope.start(asked.child("gone"))
        await scope.start(asked.child("changed", shutdown=7.0 if second[0] else 5.0))
        await scope.start(asked.child("same"))

    async with open_system(system, name="top", strategy="one_for_one") as handle:
        second[0] = True
        await handle.replay()
        assert sorted(asked.record.take()) == [
            (0.0, "top/changed replay"),
            (0.0, "top/gone replay"),
        ]


async def fails(context: Context) -> None:
    context.fail(Boom())


@pytest.mark.parametrize("how", ["run_timeout", "heartbeat", "fail"])
@story
async def test_a_limit_is_a_limit(how: str) -> None:
    asked = Asked()

    async def limited() -> None:
        context = current_context()
        if how == "heartbeat":
            context.heartbeat()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(asked.cancelled)
            await trio.sleep(1)
            if how == "fail":
                context.fail(Boom())

    options: dict[str, Any] = {"fail": {}}.get(how, {how: 2.0})
    child = Child("a", limited, restart="temporary", **options)
    async with open_system([child], name="top"):
        await trio.sleep(3)
        assert asked.record.order == "top/a aborted, limit"


@story
async def test_the_limit_of_a_supervisor_is_one_for_all_below_it() -> None:
    asked = Asked()
    sub = nested(asked, run_timeout=2.0)
    async with open_system([sub], name="top", breaker=AlwaysRestart()):
        await trio.sleep(3)
    told = [fact for time, fact in asked.record.facts if time == 2.0]
    assert sorted(told) == ["top/sub/y aborted, limit"]


@story
async def test_a_stop_after_a_limit_is_still_the_limit() -> None:
    asked = Asked()

    async def stubborn() -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(5)
            asked.record(str(current_context().settling_for))

    async with open_system([Child("a", stubborn, run_timeout=1.0)], name="top"):
        await trio.sleep(2)
    assert asked.record.facts == [(6.0, "limit")]


@story
async def test_a_tree_opened_in_a_child_is_told_what_the_child_is_told() -> None:
    asked = Asked()

    async def host(*, task_status: trio.TaskStatus[None]) -> None:
        async with open_system([asked.child("x")], name="inner"):
            task_status.started()
            await trio.sleep_forever()

    async with open_system([Child("host", host)], name="top") as handle:
        await handle.terminate_child("host")
        assert asked.record.take_order() == "inner/x call"
        await handle.restart_child("host")
    assert asked.record.take_order() == "inner/x stop"


@story
async def test_a_child_that_waits_for_the_stop_itself_is_told_so() -> None:
    asked = Asked()

    async def stops() -> None:
        await trio.sleep(1)
        try:
            await root[0].stop()
        finally:
            asked.record(f"stops {current_context().settling_for}")

    root: list[SystemHandle] = []
    async with open_system([asked.child("a"), Child("b", stops)], name="top") as handle:
        root.append(handle)
        await handle.wait()
    assert asked.record.order == "stops stop top/a stop"


@story
async def test_one_whose_time_was_over_before_it_was_asked_ends_for_that() -> None:
    record = Record()

    async def clings() -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                for _ in range(2):
                    record(str(current_context().settling_for))
                    await trio.sleep(2)

    async with open_system([Child("a", clings, run_timeout=1)]):
        await trio.sleep(2)
    assert record.facts == [(1, "limit"), (3, "limit")]
