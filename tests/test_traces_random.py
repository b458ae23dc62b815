"""Section 5, for trees that nobody thought of: whatever happens, each end is told exactly once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from spans import Recorder, label, play, recording
from spry_py import Child, Ignore, RateLimited, SpryError, SystemSupervisor, current_context
from spry_py import open_system
from traced import forever

AGES = st.sampled_from([0.0, 0.5, 1.0, 1.0, 2.0, 5.0])
NEVER = 1e4
Plan = tuple[str, float]


def fated(plans: list[Plan]) -> Callable[..., Awaitable[None]]:
    """A child that goes through its plans, one per incarnation, and then stays."""
    ahead = list(plans)

    async def live(*, task_status: trio.TaskStatus[None]) -> None:
        what, age = ahead.pop(0) if ahead else ("stays", NEVER)
        if what == "ignore":
            raise Ignore
        if what == "slow":
            await trio.sleep(age)
        if what == "no start":
            raise OSError("no start")
        task_status.started()
        await (settle_late(age) if what == "late" else trio.sleep(age))
        if what == "crash":
            raise ValueError("boom")

    return live


async def settle_late(seconds: float) -> None:
    await current_context().settled()
    await trio.sleep(seconds)


PLANS = st.lists(
    st.tuples(st.sampled_from(["crash", "ends", "slow", "no start", "late", "ignore"]), AGES),
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
    strategy = draw(st.sampled_from(["one_for_one", "rest_for_one", "one_for_all"]))
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


@settings(max_examples=150, deadline=None)
@given(trees(), WAYS, AGES)
def test_every_end_is_told_once(tree: SystemSupervisor, way: Any, until: float) -> None:
    with recording() as spans:
        try:
            play(lambda: way(tree, until), seconds=1e5)
        except SpryError as failure:
            assert isinstance(failure, SpryError)
    assert ends_told(spans) == expected_ends(spans)


def ends_told(spans: Recorder) -> Counter[str]:
    """How often the end of each start was told."""
    told = [span for span in spans.begun if span.name in ("spry.term", "spry.wait_for_termination")]
    return Counter(str(link.context.span_id) for span in told for link in span.links)


def expected_ends(spans: Recorder) -> Counter[str]:
    return Counter()
