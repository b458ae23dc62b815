"""No item is lost, and none passed on twice, wherever a worker or a whole pipeline is struck.

Every step of every worker is a place where a strike can find it: each of them is tried, one by one
and, chosen by Hypothesis, many in one life.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Literal, get_args

import pytest
import trio
from hypothesis import example, given
from hypothesis import strategies as st
from trio.testing import MockClock

from pipelines import Line, Striker, Taker, counting, strike_each_step
from spry_py import ChildHandle, NeverRestart, SpryError, SystemHandle, open_system
from spry_py.pipes import Pipe, Worker, pipeline

# thousands of failures
pytestmark = pytest.mark.usefixtures("nothing_is_logged")

Act = Callable[[SystemHandle], Awaitable[bool]]
How = Literal["fail", "restart worker", "restart pipeline", "stop and go", "escalate"]
HOWS: tuple[How, ...] = get_args(How)


def on_virtual_time(main: Callable[[], Awaitable[None]]) -> None:
    async def limited() -> None:
        with trio.fail_after(10_000):
            await main()

    trio.run(limited, clock=MockClock(autojump_threshold=0))


async def restart_worker(handle: SystemHandle) -> bool:
    await _restarted(handle.find("pipeline/middle"))
    return False


async def restart_pipeline(handle: SystemHandle) -> bool:
    return await _restarted(handle.child("pipeline"))


async def stop_and_go(handle: SystemHandle) -> bool:
    child = handle.child("pipeline")
    if child.status != "running":
        return False
    await child.terminate()
    await handle.restart_child("pipeline")
    return ended_by_itself(child)


async def _restarted(child: ChildHandle) -> bool:
    """Whether it had come to its end already, so that it has begun anew."""
    if child.status != "running":
        return False
    with suppress(SpryError):  # its supervisor has ended
        await child.restart()
    return ended_by_itself(child)


def ended_by_itself(child: ChildHandle) -> bool:
    report = child.last_report
    return child.status == "running" and report is not None and report.burden == "none"


ACTS: dict[How, Act | None] = {
    "fail": None,
    "escalate": None,
    "restart worker": restart_worker,
    "restart pipeline": restart_pipeline,
    "stop and go": stop_and_go,
}


def check(line: Line, on_crash: str, maps: bool, workers: int = 1) -> None:
    """What must hold, however often and wherever workers have been struck."""
    everything = list(range(1, line.last + 1)) * (1 + line.begun_anew)
    in_order: Callable[[list[int]], list[int]] = list if workers == 1 else sorted
    everything = in_order(everything)
    dead = [letter.item for letter in line.take_dead()]
    if on_crash == "redeliver":
        assert (dead, in_order(line.middle.done), in_order(line.end.done)) == (
            [],
            everything,
            everything,
        )
    else:
        assert in_order(line.middle.begun) == everything
        assert sorted(line.end.begun + dead) == sorted(everything)
        assert maps or not dead


@pytest.mark.parametrize("capacity", [0, 2])
@pytest.mark.parametrize("maps", [True, False])
@pytest.mark.parametrize("on_crash", ["redeliver", "forward"])
@pytest.mark.parametrize("how", HOWS)
def test_struck_at_every_single_step(how: How, on_crash: str, maps: bool, capacity: int) -> None:
    options: Any = {"on_crash": on_crash, "maps": maps, "capacity": capacity}
    if how == "escalate":
        options["breaker"] = NeverRestart()

    def struck_at(number: int) -> Striker:
        line = Line(3, **options)
        striker = Striker(line.paths, [number])
        on_virtual_time(functools.partial(line.run, striker, ACTS[how]))
        check(line, on_crash, maps)
        return striker

    strike_each_step(struck_at)


@given(
    how=st.sampled_from(HOWS),
    on_crash=st.sampled_from(["redeliver", "forward"]),
    maps=st.booleans(),
    capacity=st.integers(0, 2),
    workers=st.integers(1, 2),
    strikes=st.sets(st.integers(1, 150), max_size=12),
)
@example(how="escalate", on_crash="redeliver", maps=False, capacity=0, workers=2, strikes={1, 39})
@example(how="escalate", on_crash="forward", maps=False, capacity=0, workers=2, strikes={1, 37})
def test_struck_again_and_again(
    how: How, on_crash: str, maps: bool, capacity: int, workers: int, strikes: set[int]
) -> None:
    if how == "restart worker" and workers > 1:
        how = "fail"
    options: Any = {"on_crash": on_crash, "maps": maps, "capacity": capacity, "workers": workers}
    if how == "escalate":
        options["breaker"] = NeverRestart()
    line = Line(5, **options)
    on_virtual_time(functools.partial(line.run, Striker(line.paths, strikes), ACTS[how]))
    check(line, on_crash, maps, workers)


@pytest.mark.parametrize("capacity", [0, 2])
def test_an_ordered_stop_works_off_all_that_the_source_has_put(capacity: int) -> None:
    number = struck = 1
    put: list[int] = []

    async def source(pipe: Pipe[Any, int]) -> None:
        try:
            await counting(4)(pipe)
        finally:
            put.append(pipe.passed_on)

    while struck:
        middle, end = Taker(), Taker(2)
        striker = Striker({f"pipeline/{key}" for key in ("source", "middle", "end")}, [number])

        async def main(middle: Taker = middle, end: Taker = end, on: Striker = striker) -> None:
            struck = trio.Event()
            on.on_strike = lambda task: struck.set()
            trio.lowlevel.add_instrument(on)
            stages = [
                Worker("middle", middle.work, capacity=capacity),
                Worker("end", end.work, capacity=capacity),
            ]
            async with open_system(pipeline(Worker("source", source), *stages)) as handle:
                with trio.move_on_after(1):
                    await struck.wait()
                await handle.stop()
            trio.lowlevel.remove_instrument(on)

        on_virtual_time(main)
        assert middle.done == end.done == list(range(1, put.pop() + 1))
        assert end.begun == end.done
        struck = striker.struck
        number += 1
    assert number > 15, "there are more steps than that"


def test_s11_cancelled_at_any_await_an_item_is_either_held_or_passed_on() -> None:
    number, was_cancelled = 0, True
    while was_cancelled:
        was_cancelled = passed_on_though_cancelled_at(number)
        number += 1
    assert number > 9, "each of three items is received, worked on and sent"


def passed_on_though_cancelled_at(number: int) -> bool:
    """A pipe without any tree: its worker is cancelled once, and another one takes over."""
    taker = Taker()
    arrived: list[int] = []
    was_cancelled = False

    async def main() -> None:
        nonlocal was_cancelled
        feed, upstream = trio.open_memory_channel[int](3)
        downstream, drain = trio.open_memory_channel[int](0)
        pipe = Pipe("one", upstream, downstream)
        with feed:
            for item in (1, 2, 3):
                feed.send_nowait(item)

        async def arrive() -> None:
            arrived.extend([item async for item in drain])

        async with trio.open_nursery() as nursery:
            nursery.start_soon(arrive)
            scope = trio.CancelScope()
            cancel = Steps(scope, number)
            trio.lowlevel.add_instrument(cancel)
            with scope:
                await taker.work(pipe)
            trio.lowlevel.remove_instrument(cancel)
            was_cancelled = scope.cancelled_caught
            await taker.work(pipe)
            await pipe.finish()

    on_virtual_time(main)
    assert arrived == taker.done == [1, 2, 3]
    assert len(taker.begun) <= 4
    return was_cancelled


class Steps(trio.abc.Instrument):
    """Cancels a scope before so many steps of the task that made this."""

    def __init__(self, scope: trio.CancelScope, left: int) -> None:
        self.task = trio.lowlevel.current_task()
        self.scope = scope
        self.left = left

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        if task is self.task:
            if self.left == 0:
                self.scope.cancel()
            self.left -= 1
