"""Random sequences of calls and ends, against what the model in plain Python says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from callers import answer
from models import Alone, Cast, Group, Model, Op, Pool, seen
from pools import open_pool
from spry_py import AlwaysRestart, Scope, Strategy, SystemHandle, open_system
from stories import story
from workers import RESTARTS

KEYS = ("a", "b", "c", "d", "e")
CALLS = ("start", "terminate", "restart", "delete", "again")
ENDS = ("stop", "die")

keys = st.sampled_from(KEYS)
restarts = st.sampled_from(RESTARTS)
calls = st.builds(
    Op,
    do=st.sampled_from((*CALLS, "start", "restart")),
    key=keys,
    restart=restarts,
    backoff=st.sampled_from([0.0, 0.0, 2.0, 3.0]),
    conflict=st.sampled_from(["raise", "replace", "ignore"]),
)
ends = st.builds(Op, do=st.sampled_from(ENDS), key=keys)
words = st.builds(
    Op, do=st.just("plan"), key=keys, word=st.sampled_from(["ok", "fail", "fail", "ignore"])
)
# No two waits that begin at different moments end at the same one.
pauses = st.builds(Op, do=st.just("sleep"), seconds=st.sampled_from([0.37, 1.13, 2.71]))
steps = st.lists(calls | calls | ends | ends | words | pauses, max_size=60)

thorough = settings(
    max_examples=max(200, settings().max_examples),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


class Bench:
    """A real supervisor and its model, side by side."""

    def __init__(self, handle: Any, model: Model, cast: Cast) -> None:
        self.handle = handle
        self.model = model
        self.cast = cast

    async def play(self, ops: Sequence[Op]) -> None:
        """Let both take every step, and hold one against the other after each."""
        self.compare()
        for op in ops:
            note(f"{op}")
            await self.take(op)
            await trio.testing.wait_all_tasks_blocked()
            self.compare()

    def is_plain(self, op: Op) -> bool:
        """Whether a restart by handle begins at once, and goes well at once."""
        kid = self.model.kids.get(op.key)
        if kid is None:
            return True
        planned = self.model.starts.words.get(op.key)
        return not planned and not kid.backoff and kid.restart != "temporary"

    async def take(self, op: Op) -> None:
        if op.do == "again" and not self.is_plain(op):
            return
        if op.do == "start" and isinstance(self.model, Group) and op.key in self.model.gone:
            # Whose key it is when a replay declares it again is a story of its own.
            return
        if op.do == "sleep":
            self.model.pass_time(op.seconds)
            await trio.sleep(op.seconds)
        elif op.do == "plan":
            self.model.starts.plan(op)
            self.cast.starts.plan(op)
        elif op.do in ENDS:
            self.model.end(op)
            self.cast.order(op.key, op.do)
        else:
            assert await answer(self.call(op)) == self.model.call(op)

    def call(self, op: Op) -> Any:
        if op.do == "start":
            if isinstance(self.model, Pool):
                return self.handle.start_child(self.cast.child(op), on_conflict=op.conflict)
            return self.handle.start_child(self.cast.child(op))
        if op.do == "terminate":
            return self.handle.terminate_child(op.key)
        if op.do == "restart":
            return self.handle.restart_child(op.key)
        if op.do == "again":
            return self.restart(op.key)
        return self.handle.delete_child(op.key)

    async def restart(self, key: str) -> None:
        await self.handle.child(key).restart()

    def compare(self) -> None:
        assert self.cast.starts.facts == self.model.starts.facts
        assert seen(self.handle) == self.model.listing()
        counted = self.handle.count_children()
        assert (counted.specs, counted.active) == self.model.counts()


@thorough
@given(steps)
def test_one_for_one(ops: list[Op]) -> None:
    @story
    async def tell() -> None:
        model, cast = Alone(), Cast()
        async with open_system([], strategy="one_for_one", breaker=AlwaysRestart) as handle:
            await Bench(handle, model, cast).play(ops)
        model.stop()
        assert cast.starts.facts == model.starts.facts

    tell()


@thorough
@given(steps, st.integers(1, 5))
def test_dynamic(ops: list[Op], max_children: int) -> None:
    @story
    async def tell() -> None:
        model, cast = Pool(max_children), Cast()
        async with open_pool(max_children=max_children) as handle:
            await Bench(handle, model, cast).play(ops)
        model.stop()
        assert sorted(cast.starts.facts) == sorted(model.starts.facts)

    tell()


declared = st.lists(
    st.builds(Op, do=st.just("start"), key=keys, restart=restarts),
    unique_by=lambda op: op.key,
    max_size=4,
)
instant = st.lists(
    st.builds(Op, do=st.sampled_from((*CALLS, "start")), key=keys, restart=restarts)
    | ends
    | ends
    | words,
    max_size=60,
)


@pytest.mark.parametrize("takes_all", [False, True], ids=["rest_for_one", "one_for_all"])
@thorough
@given(declared=declared, ops=instant)
def test_groups(takes_all: bool, declared: list[Op], ops: list[Op]) -> None:
    @story
    async def tell() -> None:
        model, cast = Group(declared, takes_all=takes_all), Cast()

        async def system(scope: Scope) -> None:
            for op in declared:
                await scope.start(cast.child(op))

        strategy: Strategy = "one_for_all" if takes_all else "rest_for_one"
        async with open_system(system, strategy=strategy, breaker=AlwaysRestart) as handle:
            assert isinstance(handle, SystemHandle)
            await Bench(handle, model, cast).play(ops)
        model.stop()
        assert cast.starts.facts == model.starts.facts

    tell()
