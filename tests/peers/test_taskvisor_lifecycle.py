"""taskvisor's scenarios of life cycle and timeout, by number, as whole records of events.

Once, restartable and always read as temporary, transient and permanent; an interval as `periodic`;
a budget of retries as a breaker of the child that never forgets; fatal as `Unrecoverable`.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import tenacity
import trio

from listeners import Heard, listened
from spry_py import (
    Child,
    ChildAlreadyStarted,
    NeverRestart,
    RateLimited,
    ReusedKey,
    RunTimeout,
    SystemHandle,
    Unrecoverable,
    open_system,
)
from spry_py.periodic import periodic
from stories import story
from workers import calm


class Exit(Exception):
    """A failure with an exit code."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(code, message)
        self.code = code


class Fatal(Exit, Unrecoverable):
    """The same, and not to be tried again."""


class Runs:
    """A body: its n-th run, a second long, ends as the n-th of these says."""

    def __init__(self, *ends: object) -> None:
        self.ends = ends
        self.count = 0

    async def __call__(self) -> object:
        self.count += 1
        end = self.ends[min(self.count, len(self.ends)) - 1]
        await trio.sleep(1)
        if isinstance(end, Exception):
            raise end
        return end


async def hang() -> None:
    await trio.sleep_forever()


@asynccontextmanager
async def batch(**options: Any) -> AsyncIterator[tuple[SystemHandle, Heard]]:
    """A tree without children, and a listener."""
    async with listened([], strategy="one_for_one", **options) as (tree, heard):
        heard.take()
        yield tree, heard


async def record(*children: Child[Any]) -> tuple[list[str], list[str]]:
    """All that happens until the children have ended for good, and who is known then."""
    async with batch() as (tree, heard):
        handles = [await tree.start_child(child) for child in children]
        for handle in handles:
            await handle.wait()
        await calm()
        known = [f"{info.key} {info.status}" for info in tree.which_children()]
        return heard.take(), known


def budget(retries: int) -> dict[str, Any]:
    return {"breaker": RateLimited(retries, math.inf), "on_unrecoverable": "discard"}


@story
async def test_l1_once_and_well() -> None:
    facts, known = await record(Child("a", Runs("done"), restart="temporary"))
    assert facts == [
        "0 ChildStarting top/a #1",
        "0 ChildStarted top/a #1",
        "1 ChildTerminated top/a #1 Normal none",
    ]
    assert known == []


@story
async def test_l2_once_and_failed() -> None:
    facts, known = await record(Child("a", Runs(Exit(1, "no luck")), restart="temporary"))
    assert facts == [
        "0 ChildStarting top/a #1",
        "0 ChildStarted top/a #1",
        "1 ChildTerminated top/a #1 Exit(1, 'no luck') none",
    ]
    assert known == []


@story
async def test_l3_restartable_failing_twice_and_then_well() -> None:
    runs = Runs(Exit(1, "first"), Exit(1, "second"), "done")
    wait = tenacity.wait_fixed(0.001)
    facts, known = await record(Child("a", runs, restart="transient", backoff=wait))
    assert facts == [
        "0 ChildStarting top/a #1",
        "0 ChildStarted top/a #1",
        "1 ChildTerminated top/a #1 Exit(1, 'first') none",
        "1 RestartScheduled top/a in 0.001 attempt 1",
        "1.001 ChildStarting top/a #2",
        "1.001 ChildStarted top/a #2",
        "2.001 ChildTerminated top/a #2 Exit(1, 'second') none",
        "2.001 RestartScheduled top/a in 0.001 attempt 1",
        "2.002 ChildStarting top/a #3",
        "2.002 ChildStarted top/a #3",
        "3.002 ChildTerminated top/a #3 Normal none",
    ]
    assert known == ["a done"]


FATAL = [
    "0 ChildStarting top/a #1",
    "0 ChildStarted top/a #1",
    "1 ChildTerminated top/a #1 Fatal(7, 'fatal') none",
    "1 ChildDiscarded top/a",
]


@story
async def test_l4_restartable_and_fatal() -> None:
    child = Child("a", Runs(Fatal(7, "fatal")), restart="transient", **budget(9))
    assert await record(child) == (FATAL, ["a done"])


@story
async def test_l5_always_and_fatal() -> None:
    child = Child("a", Runs(Fatal(7, "fatal")), restart="permanent", **budget(9))
    assert await record(child) == (FATAL, ["a done"])


@pytest.mark.parametrize("retries", [1, 3])
@story
async def test_l6_a_budget_of_retries(retries: int) -> None:
    runs = Runs(Exit(42, "again"))
    facts, known = await record(Child("a", runs, restart="transient", **budget(retries)))
    expected = ["0 ChildStarting top/a #1", "0 ChildStarted top/a #1"]
    for n in range(1, retries + 1):
        expected += [
            f"{n} ChildTerminated top/a #{n} Exit(42, 'again') none",
            f"{n} RestartScheduled top/a in 0 attempt 1",
            f"{n} ChildStarting top/a #{n + 1}",
            f"{n} ChildStarted top/a #{n + 1}",
        ]
    expected += [
        f"{retries + 1} ChildTerminated top/a #{retries + 1} Exit(42, 'again') none",
        f"{retries + 1} RestartRefused top/a",
        f"{retries + 1} ChildDiscarded top/a",
    ]
    assert (facts, known, runs.count) == (expected, ["a done"], retries + 1)


@pytest.mark.parametrize("interval", [0, 0.005])
@story
async def test_l7_l8_always_with_and_without_an_interval(interval: float) -> None:
    runs = Runs("fine")
    async with batch(breaker=NeverRestart) as (tree, heard):
        await tree.start_child(Child("a", periodic(runs, every=interval)))
        await trio.sleep(5.5 + 5 * interval)
        await tree.terminate_child("a")
        await calm()
        assert heard.take() == [
            "0 ChildStarting top/a #1",
            "0 ChildStarted top/a #1",
            f"{5.5 + 5 * interval:g} ChildSettling top/a #1",
            f"{6 + 5 * interval:g} ChildTerminated top/a #1 Normal settling",
        ]
    assert runs.count == 6


@story
async def test_l9_runs_that_end_well_eat_nothing_of_the_budget() -> None:
    runs = Runs("fine", Exit(1, "once"), "fine")
    async with batch() as (tree, heard):
        await tree.start_child(Child("a", periodic(runs, every=1), **budget(1)))
        await trio.sleep(10.5)
        assert heard.take() == [
            "0 ChildStarting top/a #1",
            "0 ChildStarted top/a #1",
            "3 ChildTerminated top/a #1 Exit(1, 'once') none",
            "3 RestartScheduled top/a in 0 attempt 1",
            "3 ChildStarting top/a #2",
            "3 ChildStarted top/a #2",
        ]
        assert (runs.count, tree.child("a").status) == (6, "running")


@story
async def test_l10_a_batch_of_three() -> None:
    children = [Child(key, Runs(key), restart="temporary") for key in "abc"]
    async with listened(children, auto_shutdown="when_empty") as (tree, heard):
        report = await tree.wait()
    assert (report.failed, report.ended_at) == (False, 1)
    facts = heard.take()
    assert sorted(facts[:3]) == [
        "1 ChildTerminated top/a #1 Normal none",
        "1 ChildTerminated top/b #1 Normal none",
        "1 ChildTerminated top/c #1 Normal none",
    ]
    assert facts[3:] == ["1 SystemTeardown top", "1 SystemStopped top"]


@story
async def test_l11_a_batch_with_a_duplicate() -> None:
    runs = Runs("never")
    twice = [Child("a", runs), Child("b", runs), Child("a", runs)]
    with pytest.raises(ReusedKey, match="'a'"):
        async with open_system(twice):
            raise AssertionError("it cannot be up")
    assert runs.count == 0
    async with batch() as (tree, heard):
        await tree.start_child(Child("a", hang))
        with pytest.raises(ChildAlreadyStarted, match="top/a"):
            await tree.start_child(Child("a", runs))
        await tree.start_child(Child("b", hang))
        await calm()
        assert heard.take() == [
            "0 ChildStarting top/a #1",
            "0 ChildStarted top/a #1",
            "0 ChildStarting top/b #1",
            "0 ChildStarted top/b #1",
        ]
    assert runs.count == 0


TIMED_OUT = "RunTimeout(\"child 'top/a' ran longer than 0.05 s\")"


@story
async def test_t1_a_timeout_for_each_attempt() -> None:
    child = Child("a", hang, restart="transient", run_timeout=0.05, **budget(1))
    facts, known = await record(child)
    assert facts == [
        "0 ChildStarting top/a #1",
        "0 ChildStarted top/a #1",
        f"0.05 ChildTerminated top/a #1 {TIMED_OUT} none",
        "0.05 RestartScheduled top/a in 0 attempt 1",
        "0.05 ChildStarting top/a #2",
        "0.05 ChildStarted top/a #2",
        f"0.1 ChildTerminated top/a #2 {TIMED_OUT} none",
        "0.1 RestartRefused top/a",
        "0.1 ChildDiscarded top/a",
    ]
    assert known == ["a done"]


@story
async def test_t2_the_first_attempt_hangs_and_the_second_is_well() -> None:
    seconds = [math.inf, 0.01]

    async def body() -> None:
        await trio.sleep(seconds.pop(0))

    facts, known = await record(
        Child("a", body, restart="transient", run_timeout=0.05, **budget(1))
    )
    assert facts == [
        "0 ChildStarting top/a #1",
        "0 ChildStarted top/a #1",
        f"0.05 ChildTerminated top/a #1 {TIMED_OUT} none",
        "0.05 RestartScheduled top/a in 0 attempt 1",
        "0.05 ChildStarting top/a #2",
        "0.05 ChildStarted top/a #2",
        "0.06 ChildTerminated top/a #2 Normal none",
    ]
    assert known == ["a done"]


@story
async def test_t3_no_timeout_is_said_as_inf_and_not_as_zero() -> None:
    with pytest.raises(ValueError, match="run_timeout must be more than 0 seconds"):
        Child("a", hang, run_timeout=0)
    slow = Child("a", sleep, 10_000.0, restart="temporary", run_timeout=math.inf)
    facts, _ = await record(slow)
    assert facts == [
        "0 ChildStarting top/a #1",
        "0 ChildStarted top/a #1",
        "10000 ChildTerminated top/a #1 Normal none",
    ]


async def sleep(seconds: float) -> None:
    await trio.sleep(seconds)


@pytest.mark.parametrize("error", [TimeoutError("mine"), RunTimeout("mine")])
@story
async def test_t4_a_timeout_of_the_body_itself_is_a_failure_like_any(error: Exception) -> None:
    child = Child("a", Runs(error), restart="temporary", run_timeout=5)
    async with batch() as (tree, heard):
        report = await (await tree.start_child(child)).wait()
        await calm()
        assert report.exception is error
        assert heard.take() == [
            "0 ChildStarting top/a #1",
            "0 ChildStarted top/a #1",
            f"1 ChildTerminated top/a #1 {error!r} none",
        ]
