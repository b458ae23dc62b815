"""Spans and log records of random trees: whatever happens, each end is told exactly once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import trio
from hypothesis import event, given, settings
from hypothesis import strategies as st

from spans import Recorder, id_of, play, recording
from spry_py import Child, RateLimited, SpryError, SystemSupervisor, current_context, open_system
from traced import forever

AGES = st.sampled_from([0.0, 0.5, 1.0, 1.0, 2.0, 5.0])
NEVER = 1e4
Plan = tuple[str, float]


def fated(plans: list[Plan]) -> Callable[..., Awaitable[None]]:
    """A child that goes through its plans, one per incarnation, and then stays."""
    ahead = list(plans)

    async def live(*, task_status: trio.TaskStatus[None]) -> None:
        what, age = ahead.pop(0) if ahead else ("stays", NEVER)
        if what == "slow":
            await trio.sleep(age)
        if what == "no start":
            raise OSError("no start")
        task_status.started()
        if what == "late":
            await current_context().settled()
        await trio.sleep(age)
        if what == "crash":
            raise ValueError("boom")

    return live


PLANS = st.lists(
    st.tuples(st.sampled_from(["crash", "ends", "slow", "no start", "late"]), AGES),
    max_size=3,
)


@st.composite
def trees(draw: st.DrawFn, depth: int = 2) -> SystemSupervisor:
    children: list[Child[Any]] = []
    for number in range(draw(st.integers(1, 3))):
        nested = depth > 0 and draw(st.booleans())
        start: Any = draw(trees(depth - 1)) if nested else fated(draw(PLANS))
        options: dict[str, Any] = {
            "restart": draw(st.sampled_from(["permanent", "transient", "temporary"])),
            "shutdown": draw(st.sampled_from([0.0, 1.0, 3.0])),
            "backoff": draw(st.sampled_from([None, lambda _: 0.5])),
        }
        children.append(Child(f"c{number}", start, **options))
    strategy: Any = draw(st.sampled_from(["one_for_one", "rest_for_one", "one_for_all"]))
    breaker = RateLimited(draw(st.integers(0, 3)), 10.0)
    return SystemSupervisor(children, strategy=strategy, breaker=breaker, name="root")


async def left(tree: SystemSupervisor, until: float) -> None:
    async with open_system(tree):
        await trio.sleep(until)


async def cancelled(tree: SystemSupervisor, until: float) -> None:
    with trio.move_on_after(until):
        await forever(tree)


async def aborted(tree: SystemSupervisor, until: float) -> None:
    async with open_system(tree) as handle:
        await trio.sleep(until)
        handle.abort()
        await handle.wait()


WAYS = st.sampled_from([left, cancelled, aborted])


@settings(max_examples=200, deadline=None)
@given(trees(), WAYS, AGES)
def test_every_start_that_did_not_fail_has_its_end_told_once(
    tree: SystemSupervisor, way: Any, until: float
) -> None:
    with recording() as spans:
        try:
            play(lambda: way(tree, until), seconds=1e5)
        except SpryError:
            event("the tree failed")
    starts = [span for span in spans.named("spry.child.start") if span.status.is_unset]
    assert ends_of(spans) == Counter(id_of(span) for span in starts)


def ends_of(spans: Recorder) -> Counter[int]:
    """How often the end of each start was told."""
    told = [*spans.named("spry.term"), *spans.named("spry.wait_for_termination")]
    return Counter(link.context.span_id for span in told for link in span.links)
