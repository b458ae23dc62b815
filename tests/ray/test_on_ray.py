"""Children on a real cluster of Ray, and what becomes of them when parts of it are killed."""

from __future__ import annotations

import logging
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tenacity
import trio

import faraway
from faraway import Broken
from living import gone, is_running
from raying import Farm
from spry_py import (
    Child,
    ChildFailure,
    ChildHandle,
    Normal,
    RateLimited,
    Scope,
    SystemHandle,
    SystemSupervisor,
    TooManyRestarts,
    open_system,
)
from spry_py.ray import RayEngine, RayGateway, ray_gateway
from spry_py.remote import RemoteLost, remote
from stories import story_with_threads

pytestmark = pytest.mark.ray


def gateway(farm: Farm, **options: Any) -> Child[RayEngine]:
    start = ray_gateway(farm.address, namespace="tests", reconnect=10)
    # a busy machine may take longer than a minute for eleven processes at once
    start = replace(start, patience=100)
    again = tenacity.wait_fixed(1)
    return Child("gateway", start, start_timeout=70, shutdown=15, backoff=again, **options)


async def begun(app: SystemHandle, farm: Farm) -> RayEngine:
    engine = (await app.start_child(gateway(farm))).value
    assert isinstance(engine, RayEngine)
    return engine


# Not here: a network that is cut between machines that are all one. FakeEngine has that.


def pid_of(child: ChildHandle) -> int:
    value = child.value
    assert isinstance(value, int)
    return value


@story_with_threads
async def test_children_start_end_restart_and_stop_as_they_do_here(
    farm: Farm, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with open_system([], name="app", strategy="one_for_one") as app:
        engine = await begun(app, farm)
        shared = await app.start_child(Child("shared", remote(engine, faraway.say_pid)))
        other = await app.start_child(Child("other", remote(engine, faraway.say_pid)))
        own = remote(engine, faraway.say_pid, host="own")
        child = Child("own", own, backoff=tenacity.wait_fixed(0.5))
        alone = await app.start_child(child)
        assert pid_of(shared) == pid_of(other) != pid_of(alone)
        assert len(farm.actors()) == 2

        broken = Child("broken", remote(engine, faraway.break_after, 0.1), restart="temporary")
        error = (await (await app.start_child(broken)).wait()).exception
        assert type(error) is Broken
        assert error.args == ("it broke", 0.1)
        with pytest.raises(ChildFailure) as failure:
            await app.start_child(Child("never", remote(engine, faraway.break_at_start)))
        assert type(failure.value.__cause__) is Broken

        before = pid_of(alone)
        os.kill(before, signal.SIGKILL)
        assert await alone.wait_incarnation(2) != before
        assert alone.last_report is not None
        assert "app/own will be restarted in 0.5 s" in caplog.text
        again_at = alone.info().started_at
        assert again_at is not None
        assert again_at - alone.last_report.ended_at >= 0.5
        assert type(alone.last_report.exception) is RemoteLost
        assert "its process (pid" in str(alone.last_report.exception)

        await alone.terminate()
        assert alone.last_report.reason == Normal("settled")
        await app.terminate_child("shared")
        deaf = await app.start_child(
            Child("deaf", remote(engine, faraway.slow_to_settle, "deaf", host="own"), shutdown=0.5)
        )
        with trio.fail_after(10):
            await deaf.terminate()
        assert deaf.last_report is not None
        assert deaf.last_report.burden == "aborted"
    assert farm.actors_are_gone()


@story_with_threads
async def test_what_cannot_answer_is_aborted_at_the_latest_when_its_lease_is_over(
    farm: Farm, tmp_path: Path
) -> None:
    flag = tmp_path / "flag"
    async with open_system([], name="app", strategy="one_for_one") as app:
        engine = await begun(app, farm)
        stopped = remote(engine, faraway.say_pid, host="own", lease=5.0)
        held = remote(engine, faraway.hold_the_interpreter, str(flag), host="own", lease=5.0)
        children = [Child("stopped", stopped, shutdown=0.1), Child("held", held, shutdown=0.1)]
        handles = [await app.start_child(child) for child in children]
        pids = [pid_of(handle) for handle in handles]
        os.kill(pids[0], signal.SIGSTOP)
        flag.touch()
        while flag.exists():
            await trio.sleep(0.01)
        for handle in handles:
            await handle.terminate()
            assert handle.last_report is not None
            assert handle.last_report.burden == "aborted"
        # it could not notice that it was killed, or that its lease is over
        if is_running(pids[0]):
            os.kill(pids[0], signal.SIGCONT)
        await gone(*pids)
    assert farm.actors_are_gone()


@story_with_threads
async def test_failures_escalate(farm: Farm) -> None:
    async def fragile(scope: Scope) -> None:
        engine = await scope.start(gateway(farm))
        await scope.start(Child("far", remote(engine, faraway.break_after, 0.1)))

    supervisor = SystemSupervisor(fragile, strategy="rest_for_one", breaker=RateLimited(1, 60))
    with pytest.raises(TooManyRestarts) as given_up:
        async with open_system(supervisor):
            await trio.sleep_forever()
    assert type(given_up.value.root_cause) is Broken
    assert farm.actors_are_gone()


@story_with_threads
async def test_a_hundred_shared_children_and_ten_of_their_own(farm: Farm) -> None:
    async with open_system([], name="app", strategy="one_for_one") as app:
        engine = await begun(app, farm)
        begin = remote(engine, faraway.say_pid)
        async with trio.open_nursery() as nursery:
            for number in range(100):
                nursery.start_soon(app.start_child, Child(f"shared {number}", begin))
            alone = remote(engine, faraway.say_pid, host="own")
            for number in range(10):
                nursery.start_soon(app.start_child, Child(f"own {number}", alone))
        pids = {it.key: it.value for it in app.which_children() if it.kind == "remote"}
        assert len(pids) == 110
        assert len(set(pids.values())) == 11
        assert len(farm.actors()) == 11
    assert farm.actors_are_gone()


@story_with_threads
async def test_a_child_that_fits_nowhere_is_lost_in_words(farm: Farm) -> None:
    start = RayGateway(farm.address, "tests", reconnect=10, patience=3)
    async with open_system([], name="app", strategy="one_for_one") as app:
        engine = (await app.start_child(Child("gateway", start, shutdown=15))).value
        for host in ("own", "shared"):
            begin = remote(engine, faraway.say_pid, host=host, resources={"num_gpus": 8})
            with pytest.raises(ChildFailure) as failure:
                await app.start_child(Child("far", begin, restart="temporary"))
            assert "no machine of the cluster has num_gpus=8" in str(failure.value.__cause__)
            assert "the most that one of 1 has is num_gpus=0" in str(failure.value.__cause__)
    assert farm.actors_are_gone()


async def farmyard(scope: Scope, farm: Farm, resources: dict[str, float]) -> None:
    engine = await scope.start(gateway(farm))
    begin = remote(engine, faraway.say_pid, host="own", lease=4.0, resources=resources)
    await scope.start(Child("far", begin, backoff=tenacity.wait_fixed(0.5)))


def watched(farm: Farm, resources: dict[str, float]) -> SystemSupervisor:
    async def app(scope: Scope) -> None:
        await farmyard(scope, farm, resources)

    return SystemSupervisor(app, strategy="rest_for_one", breaker=RateLimited(30, 60))


@story_with_threads
async def test_a_machine_that_is_lost_loses_its_children_to_another(farm: Farm) -> None:
    node = farm.add_node(field=1)
    async with open_system(watched(farm, {"field": 0.5})) as app:
        far = app.child("far")
        before = pid_of(far)
        farm.kill_node(node)
        farm.add_node(field=1)
        after = await far.wait_incarnation(2)
        assert after != before
        assert far.last_report is not None
        assert type(far.last_report.exception) is RemoteLost
        # it has left by itself when its lease was over, if not before
        assert not is_running(before)
    assert farm.actors_are_gone()


@story_with_threads
async def test_a_gateway_that_is_killed_brings_back_its_farm(farm: Farm) -> None:
    async with open_system(watched(farm, {})) as app:
        far, before = app.child("far"), pid_of(app.child("far"))
        line = next(it for it in app.child("gateway").stack().splitlines() if "(pid " in it)
        os.kill(int(line.partition("(pid ")[2].partition(")")[0]), signal.SIGKILL)
        assert await far.wait_incarnation(2) != before
    assert farm.actors_are_gone()


# the last one: what it kills takes all other nodes along
@story_with_threads
async def test_a_head_that_is_killed_and_comes_back_is_found_again(farm: Farm) -> None:
    async with open_system(watched(farm, {})) as app:
        far, before = app.child("far"), pid_of(app.child("far"))
        farm.kill_head()
        farm.begin()
        assert await far.wait_incarnation(2) != before
    assert farm.actors_are_gone()
