"""`chaos`: the same seed does the same again, and what goes wrong names it."""

from __future__ import annotations

import itertools
import re
from typing import Any

import pytest
import tenacity
import trio

from spry_py import (
    AlwaysRestart,
    Child,
    ChildInfo,
    DynamicSupervisor,
    NeverRestart,
    SystemHandle,
    SystemSupervisor,
    TooManyRestarts,
    open_system,
)
from spry_py.events import ChildTerminated, IncidentOpened
from spry_py.testing import ChaosFailure, ChildCrashed, ChildRestarted, Script, chaos, started
from stories import story

STEADY = ["start", "wait"]


def tree() -> list[Child[Any]]:
    inner = SystemSupervisor(
        [Child("c", Script(STEADY)), Child("d", Script([0.25, "start", "wait", 0.5]))],
        breaker=AlwaysRestart(),
    )
    return [
        Child("a", Script(STEADY), backoff=tenacity.wait_fixed(3)),
        Child("b", Script(["start", 1e6])),
        Child("inner", inner),
    ]


async def struck(seed: int | None, **options: Any) -> tuple[list[str], list[str]]:
    """What chaos did to the tree, and what happened in it."""
    async with started(tree(), name="app", breaker=AlwaysRestart()) as (handle, record):
        done = await chaos(handle, seed=seed, **options)
        assert {info.status for _, info in handle.snapshot().walk()} == {"running"}
    return done.lines(), record.lines()


@story
async def test_the_same_seed_does_the_same_again() -> None:
    first = await struck(7)
    assert await struck(7) == first
    assert await struck(8) != first
    assert len(first[0]) == 50


@story
async def test_it_crashes_and_restarts_each_worker_and_no_supervisor() -> None:
    done, lines = await struck(7)
    deeds = {tuple(line.split()[1:3]) for line in done}
    paths = ("app/a", "app/b", "app/inner/c", "app/inner/d")
    assert deeds == {(path, deed) for path in paths for deed in ("ChildCrashed", "ChildRestarted")}
    crashes = [line for line in done if "ChildCrashed" in line]
    assert len([line for line in lines if line.endswith("failed ChaosCrash")]) == len(crashes)


@story
async def test_the_pauses_are_as_long_as_they_are_said_to_be() -> None:
    async with started([Child("a", Script(STEADY))], breaker=AlwaysRestart()) as (handle, _):
        done = await chaos(handle, seed=1, every=(2, 3), rounds=20)
        assert 42 <= trio.current_time() <= 63
    times = [event.at for event in done.events]
    assert all(2 <= later - sooner <= 3 for sooner, later in itertools.pairwise(times))
    assert [event.seq for event in done.events] == [*range(1, 21)]
    assert {type(event) for event in done.events} == {ChildCrashed, ChildRestarted}


@story
async def test_it_hits_what_is_chosen() -> None:
    seen: list[ChildInfo] = []

    def choose(child: ChildInfo) -> bool:
        seen.append(child)
        return child.path == "app/inner"

    done, _ = await struck(3, choose=choose, rounds=10)
    assert {line.split()[1] for line in done} == {"app/inner"}
    assert {child.path for child in seen} >= {"app/a", "app/inner", "app/inner/c"}
    assert "app" not in {child.path for child in seen}


@story
async def test_it_keeps_below_the_handle() -> None:
    async with started(tree(), name="app", breaker=AlwaysRestart()) as (handle, _):
        done = await chaos(handle.system("inner"), seed=4, rounds=10)
    assert {line.split()[1] for line in done.lines()} == {"app/inner/c", "app/inner/d"}


@story
async def test_no_rounds_do_nothing() -> None:
    async with started(tree(), name="app") as (handle, record):
        up = record.lines()
        assert (await chaos(handle, rounds=0)).lines() == []
        assert record.lines() == up


@story
async def test_a_call_that_is_refused_is_a_deed_as_well() -> None:
    slow = SystemSupervisor([Child("c", Script(STEADY)), Child("d", Script(["start", "wait", 4]))])
    children = [Child("a", Script(STEADY)), Child("inner", slow)]
    async with started(children, name="app", breaker=AlwaysRestart()) as (handle, _):
        done = await chaos(handle, seed=1, choose=lambda child: child.key in "ac")
    refused = [line for line in done.lines() if "refused" in line]
    assert refused
    assert all(line.endswith("c ChildRestarted refused SupervisorStopped") for line in refused)


@story
async def test_crashes_that_meet_a_stop_are_no_fault_of_the_child() -> None:
    slow = Script(["start", lingering, "wait"])
    children = [Child("a", Script(STEADY)), Child("b", slow)]
    async with started(children, breaker=AlwaysRestart()) as (handle, record):
        await chaos(handle, seed=1, every=(0.1, 0.1))
    ends = [event.report for event in record.events if isinstance(event, ChildTerminated)]
    assert any(end.failed and end.burden != "none" for end in ends)


async def lingering() -> None:
    try:
        await trio.sleep_forever()
    finally:
        with trio.CancelScope(shield=True):
            await trio.sleep(0.5)


# What goes wrong


@story
async def test_a_tree_that_fails_is_a_failure_with_the_seed() -> None:
    with pytest.raises(ChaosFailure) as failure:
        async with started(tree(), name="app") as (handle, _):
            await chaos(handle, seed=7)
    assert isinstance(failure.value.__cause__, TooManyRestarts)
    first, second, third, *_ = str(failure.value).splitlines()
    assert re.fullmatch(
        r"chaos\(seed=7\), round \d+ of 50: 'app' has failed: TooManyRestarts: too many .*", first
    )
    assert second == "what it did:"
    assert re.fullmatch(r"  0\.\d\d app/\S+ Child(Crashed|Restarted)", third)


@story
async def test_without_a_seed_it_takes_another_each_time_and_says_which() -> None:
    seeds = set()
    for _ in range(3):
        with pytest.raises(ChaosFailure) as failure:
            async with started([Child("a", Script(STEADY))], breaker=NeverRestart()) as (handle, _):
                await chaos(handle)
        seeds.add(str(failure.value).partition(",")[0])
    assert len(seeds) > 1
    assert all(re.fullmatch(r"chaos\(seed=\d+\)", seed) for seed in seeds)


@story
async def test_other_blocks_get_both_failures() -> None:
    with pytest.raises(ExceptionGroup) as failure:
        async with open_system(tree(), name="app") as handle:
            await chaos(handle, seed=7)
    kinds = [type(error) for error in failure.value.exceptions]
    assert kinds == [ChaosFailure, TooManyRestarts]


@story
async def test_a_tree_that_is_stopped_meanwhile_is_a_failure() -> None:
    async def stop(handle: SystemHandle) -> None:
        await trio.sleep(2)
        await handle.stop()

    async with (
        started(tree(), name="app", breaker=AlwaysRestart()) as (handle, _),
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(stop, handle)
        with pytest.raises(ChaosFailure, match=r"chaos\(seed=7\), .*: 'app' is stopped\n"):
            await chaos(handle, seed=7)


@story
async def test_a_child_that_does_not_come_back_from_a_restart_is_a_failure() -> None:
    hangs = Script(STEADY, ["wait", "start"])
    async with started([Child("a", hangs)], name="app", strategy="one_for_one") as (handle, _):
        with pytest.raises(ChaosFailure, match="'app/a' is not up again 600 s after its restart"):
            await chaos(handle, seed=4)


@story
async def test_so_is_one_that_is_still_down_after_the_end() -> None:
    hangs = Script(STEADY, ["wait", "start"])
    async with started([Child("a", hangs)], name="app", strategy="one_for_one") as (handle, _):
        with pytest.raises(ChaosFailure, match="600 s after the end not up again: 'app/a'"):
            await chaos(handle, seed=7, rounds=1)


@story
async def test_so_is_a_tree_in_which_nothing_may_be_hit() -> None:
    async with started(tree(), name="app") as (handle, record):
        with pytest.raises(ChaosFailure, match="no child that may be hit was running for 600 s"):
            await chaos(handle, seed=7, choose=lambda child: child.key == "z")
        assert record.lines(IncidentOpened) == []
    async with started(DynamicSupervisor(name="pool")) as (pool, _):
        with pytest.raises(ChaosFailure, match="no child that may be hit"):
            await chaos(pool, seed=7)


@story
async def test_cancelled_it_leaves_the_tree_as_it_is() -> None:
    async with started(tree(), name="app", breaker=AlwaysRestart()) as (handle, record):
        with trio.move_on_after(5) as time:
            await chaos(handle, seed=7)
        assert time.cancelled_caught
        await trio.sleep(30)
        await record.expect_silence(20)


@story
async def test_bad_values_are_refused() -> None:
    async with started(tree(), name="app") as (handle, record):
        with pytest.raises(ValueError, match="rounds must be an int, 0 or more"):
            await chaos(handle, rounds=-1)
        with pytest.raises(TypeError, match="choose must be a function of a ChildInfo"):
            await chaos(handle, choose="app/a")  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="every must be two numbers of seconds"):
            await chaos(handle, every=1)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="every must be 0 or more seconds"):
            await chaos(handle, every=(-1, 1))
        with pytest.raises(ValueError, match="every must be the shorter time and the longer"):
            await chaos(handle, every=(2, 1))
        await record.expect_silence(1)
