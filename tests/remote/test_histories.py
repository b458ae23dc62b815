"""Whatever the network does: one end for each start, and no overlap with a side left alone."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

import faraway
from spry_py import AlwaysRestart, Child, SystemHandle, open_system
from spry_py.events import ChildStartFailed, ChildTerminated
from spry_py.lowlevel import open_subscribed
from spry_py.remote import Host, remote
from spry_py.testing import FakeEngine
from stories import story

LEASE = 6.0
LONG = 90.0
KEYS = ("a", "b", "c")
DEEDS = ("crash", "vanish", "cut", "cut", "mend", "restart", "terminate")

times = st.floats(0, LONG, allow_nan=False)
networks = st.fixed_dictionaries(
    {
        "latency": st.tuples(st.floats(0, 1), st.floats(1, 6)),
        "loss": st.floats(0, 0.4),
        "duplicates": st.floats(0, 0.5),
        "partition": st.lists(
            st.tuples(times, st.floats(0, 40)).map(lambda it: (it[0], sum(it))), max_size=3
        ),
        "seed": st.integers(0, 2**32),
    }
)
deeds = st.lists(st.tuples(times, st.sampled_from(DEEDS)), max_size=6)


class History:
    """What the supervisor reports of the starts and ends of its children."""

    def __init__(self) -> None:
        self.ends: dict[str, list[int]] = {key: [] for key in KEYS}

    def offer(self, event: Any) -> None:
        if isinstance(event, ChildTerminated | ChildStartFailed) and event.path.count("/") == 1:
            self.ends[event.path[-1]].append(event.report.incarnation)

    def wake(self) -> None:
        """Nothing more comes."""


async def do(deed: str, engine: FakeEngine, app: SystemHandle, key: str) -> None:
    first, *others = engine.nodes
    if deed in ("crash", "vanish"):
        if others:
            engine.crash(first, is_noticed=deed == "crash")
    elif deed == "cut":
        # with what runs there, which goes on, while others can be started elsewhere
        engine.cut(first)
    elif deed == "mend":
        engine.mend()
    elif deed == "restart" and app.child(key).status == "running":
        with trio.move_on_after(1):
            await app.child(key).restart()
    elif deed == "terminate" and app.child(key).status == "running":
        with trio.move_on_after(1):
            await app.child(key).terminate()


async def live(network: dict[str, Any], host: Host, plan: list[tuple[float, str]]) -> History:
    faraway.begin()
    history = History()
    engine = FakeEngine(**network, nodes=4)
    children = [
        Child(
            key,
            remote(engine, faraway.watched, key, host=host, lease=LEASE),
            shutdown=3,
            # the network may be bad from the beginning
            start_attempts=1000,
            backoff=lambda state: 1.0,
        )
        for key in KEYS
    ]

    async def shop(scope: Any) -> None:
        for child in children:
            await scope.start(child)

    async with engine:
        with trio.move_on_after(3 * LONG):
            async with open_subscribed(
                shop, history, name="shop", strategy="one_for_one", breaker=AlwaysRestart
            ) as app:
                began = trio.current_time()
                for number, (at, deed) in enumerate(sorted(plan)):
                    await trio.sleep_until(began + at)
                    await do(deed, engine, app, KEYS[number % len(KEYS)])
                await trio.sleep_until(began + LONG)
    return history


def check(network: dict[str, Any], host: Host, plan: list[tuple[float, str]]) -> None:
    history = trio.run(live, network, host, plan, clock=MockClock(autojump_threshold=0))
    assert faraway.OVERLAPS == []
    for key in KEYS:
        ends = history.ends[key]
        assert ends == list(range(1, len(ends) + 1)), f"{key}: one end for each incarnation"
        # an incarnation that never had a lease has begun nothing
        begun = [what for _, what in faraway.RECORD if what == f"+{key}"]
        assert len(begun) <= len(ends)
    assert sum(faraway.AT_WORK.values()) == 0


hosts = st.sampled_from(["own", "shared"])
test_one_end_for_each_start_and_no_overlap = settings(max_examples=8)(
    given(networks, hosts, deeds)(check)
)
test_that_in_many_histories = pytest.mark.slow(
    settings(max_examples=80)(given(networks, hosts, deeds)(check))
)


@settings(max_examples=10)
@given(networks)
def test_children_settle_in_reverse_order_across_machines(network: dict[str, Any]) -> None:
    async def main() -> None:
        faraway.begin()
        network["partition"] = []
        async with FakeEngine(**network, nodes=3) as engine:
            starts = [remote(engine, faraway.watched, key, lease=600) for key in KEYS]
            children = [
                Child(key, start, shutdown=1000) for key, start in zip(KEYS, starts, strict=True)
            ]
            async with open_system(children):
                await trio.sleep(100)
        order = [what for _, what in faraway.RECORD]
        assert order == ["+a", "+b", "+c", "-c", "-b", "-a"]

    trio.run(main, clock=MockClock(autojump_threshold=0))


@story
async def test_the_same_seed_is_the_same_history() -> None:
    async def once(seed: int) -> list[tuple[float, str]]:
        faraway.begin()
        start = trio.current_time()
        async with FakeEngine(latency=(0.1, 5), loss=0.3, duplicates=0.3, seed=seed) as engine:
            start_of_a = remote(engine, faraway.watched, "a")
            async with open_system([Child("a", start_of_a)]):
                await trio.sleep(50)
        return [(round(at - start, 6), what) for at, what in faraway.RECORD]

    first = await once(7)
    assert first == await once(7)
    assert first != await once(8)
