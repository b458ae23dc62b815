"""The engine of a gateway over all incarnations of that one, without a cluster, on virtual time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
import trio

import faraway
import spry_py.ray
from spry_py import Child, ChildFailure, SystemHandle, open_system
from spry_py.ray import RayEngine, RayGateway
from spry_py.remote import Order, RemoteLost, Report, Word, remote
from spry_py.testing.fake_engine import FakeProcess
from stories import story

LEASE = 10.0


class Gateway:
    """Stands for the process of a gateway, with one machine."""

    def __init__(self) -> None:
        self._put, self._out = trio.open_memory_channel[list[Report]](1000)
        self._machine = FakeProcess(self, "node", "")  # type: ignore[arg-type]

    async def send(self, letters: Sequence[object]) -> None:
        await trio.lowlevel.checkpoint()
        for letter in letters:
            if isinstance(letter, Order | Word):
                self._machine.take(letter)

    def __aiter__(self) -> AsyncIterator[list[Report]]:
        return self._out.__aiter__()

    def report(self, node: str, report: Report) -> None:
        self._put.send_nowait([report])

    def over(self, process: FakeProcess, orders: Sequence[str], *, is_noticed: bool) -> None:
        """No one is there to hear of it."""

    async def end(self) -> None:
        self._machine.die()
        await self._machine.ended.wait()


@pytest.fixture(autouse=True)
def no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    def process(*args: object, channel: bool) -> Any:
        return begin

    async def begin(*, task_status: trio.TaskStatus[Gateway]) -> None:
        # connecting takes a while
        await trio.sleep(2)
        gateway = Gateway()
        task_status.started(gateway)
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await gateway.end()

    faraway.begin()
    monkeypatch.setattr(spry_py.ray, "process", process)


def gateway() -> Child[RayEngine]:
    return Child("gateway", RayGateway("10.0.0.1:6379", "tests"))


async def far_under(app: SystemHandle) -> RayEngine:
    """A child that is given the engine once and for all."""
    engine = app.child("gateway").value
    assert isinstance(engine, RayEngine)
    await app.start_child(Child("far", remote(engine, faraway.serve, "far", lease=LEASE)))
    return engine


@story
async def test_a_child_with_the_engine_of_a_lost_gateway_starts_again_with_the_next_one() -> None:
    async with open_system([gateway()], name="app", strategy="one_for_one") as app:
        engine = await far_under(app)
        app.child("gateway").fail(OSError("the head is gone"))
        await app.child("far").wait_incarnation(2)
        report = app.child("far").last_report
        assert report is not None
        assert type(report.exception) is RemoteLost
        assert "its gateway has ended" in str(report.exception)
        assert app.child("gateway").value is engine


@story
async def test_so_does_one_that_was_added_where_all_are_restarted_together() -> None:
    async with open_system([gateway()], name="app", strategy="one_for_all") as app:
        await far_under(app)
        await trio.sleep(60)
        app.child("gateway").fail(OSError("the head is gone"))
        await app.child("far").wait_incarnation(2)
        assert app.child("gateway").incarnation == 2
    assert [what for _, what in faraway.RECORD] == ["+far", "-far", "+far", "-far"]


@story
async def test_a_gateway_that_does_not_come_back_is_waited_for_a_minute() -> None:
    async with open_system([gateway()], name="app", strategy="one_for_one") as app:
        engine = await far_under(app)
        await app.terminate_child("far")
        await app.terminate_child("gateway")
        began = trio.current_time()
        with pytest.raises(ChildFailure) as failure:
            await app.start_child(Child("late", remote(engine, faraway.serve, "late")))
        assert trio.current_time() == began + 60
        assert str(failure.value.__cause__) == (
            "'app/late' cannot start: the gateway of Ray at 10.0.0.1:6379 has been down for 60 s"
        )
        async with trio.open_nursery() as nursery:
            again = Child("again", remote(engine, faraway.serve, "again"))
            nursery.start_soon(app.start_child, again)
            await trio.sleep(30)
            await app.restart_child("gateway")
        assert app.child("again").status == "running"


@story
async def test_a_gateway_that_is_forgotten_is_not_waited_for() -> None:
    async with open_system([gateway()], name="app", strategy="one_for_one") as app:
        engine = await far_under(app)
        await app.terminate_child("far")
        await app.terminate_child("gateway")
        await app.delete_child("gateway")
        began = trio.current_time()
        with pytest.raises(ChildFailure) as failure:
            await app.start_child(Child("late", remote(engine, faraway.serve, "late")))
        assert trio.current_time() == began
        assert str(failure.value.__cause__) == (
            "'app/late' cannot start: the gateway of Ray at 10.0.0.1:6379 has ended for good; "
            "give it the engine of another one"
        )
