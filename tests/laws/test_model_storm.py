"""Many callers at once, at random moments, some of them giving up: held against the laws."""

from __future__ import annotations

import math
from collections.abc import Awaitable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Literal, NoReturn

import pytest
import trio
import trio.testing
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from actors import LISTENS, STAYS, Actor, no_start
from callers import Desk, listed
from pools import open_pool
from spry_py import (
    AlwaysRestart,
    Child,
    ChildNotFound,
    DynamicSupervisor,
    RateLimited,
    RestartType,
    Scope,
    Strategy,
    SystemHandle,
    SystemSupervisor,
    open_system,
)
from spry_py.testing import Step
from stories import Boom, Record, story
from workers import RESTARTS, STRATEGIES

KEYS = ("a", "b", "c", "d")
MOMENTS = st.sampled_from([0.0, 0.5, 1.0, 1.25, 2.0, 3.0, 3.5, 5.0, 7.0])
SECONDS = st.sampled_from([0.0, 0.0, 1.0, 2.0])
# the last of them is how all later ones go
RUNS = range(1, 5)


@dataclass(frozen=True)
class Role:
    """What one key is like; times in seconds."""

    start_takes: float
    cleanup: float
    listens: bool
    fails: tuple[int, ...]
    restart: RestartType
    backoff: float

    @property
    def runs(self) -> list[list[Step]]:
        begins = [self.start_takes] if self.start_takes else []
        serves = LISTENS if self.listens else STAYS
        return [[*begins, *([no_start] if number in self.fails else serves)] for number in RUNS]


@dataclass(frozen=True)
class Deed:
    """Something that somebody does at some moment, perhaps losing patience (in seconds)."""

    do: str
    key: str
    at: float
    patience: float
    conflict: Literal["raise", "replace", "queue", "ignore"]


ROLES = st.builds(
    Role,
    start_takes=SECONDS,
    cleanup=SECONDS,
    listens=st.booleans(),
    fails=st.sampled_from([(), (), (2,), (1, 3)]),
    restart=st.sampled_from(RESTARTS),
    backoff=SECONDS,
)
DEEDS = st.builds(
    Deed,
    do=st.sampled_from(
        ["start", "start", "terminate", "restart", "delete", "again", "end", "die", "stop"]
    ),
    key=st.sampled_from(KEYS),
    at=MOMENTS,
    patience=st.sampled_from([math.inf, math.inf, 0.0, 0.5, 1.0, 2.0]),
    conflict=st.sampled_from(["raise", "replace", "queue", "ignore"]),
)
BLOWS = st.builds(
    Deed,
    do=st.sampled_from(["leave", "abort"]),
    key=st.just("a"),
    at=MOMENTS,
    patience=st.sampled_from([math.inf, 0.5]),
    conflict=st.just("raise"),
)
LATE = 1000.0
"""A moment (in seconds) at which everything has come to rest."""
ENDS = MOMENTS | st.just(LATE)
storms = settings(
    max_examples=max(300, settings().max_examples),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


class Struck(Actor):
    """An order that comes while it is starting strikes it in the step in which it has started."""

    # the run that it is for, and the order
    due: tuple[int, Step] | None = None

    def order(self, step: Step) -> None:
        """Let it end; nothing happens if it does not run."""
        try:
            self.go_on(step)
        except RuntimeError:
            self.due = (self.runs, step) if self.is_running else None

    async def pause(self, *, listens: bool) -> Step | None:
        if self.due is not None and self.due[0] == self.runs:
            return self.due[1]
        return await super().pause(listens=listens)


def dies() -> NoReturn:
    raise Boom("as ordered")


class Storm:
    """A supervisor, its actors, and everything that is done to them."""

    def __init__(self, roles: dict[str, Role], deeds: list[Deed]) -> None:
        self.record = Record()
        self.roles = roles
        self.deeds = deeds
        self.faults: list[str] = []
        self.limit = math.inf
        self.actors = {
            key: Struck(self.record, key, *role.runs, cleanup=role.cleanup)
            for key, role in roles.items()
        }

    def child(self, key: str) -> Any:
        role = self.roles[key]
        backoff = (lambda _: role.backoff) if role.backoff else None
        return self.actors[key].child(restart=role.restart, backoff=backoff, shutdown=3)

    async def over(
        self, opened: AbstractAsyncContextManager[Any], end: float, below: str = ""
    ) -> None:
        """Open a tree, let the storm rage over it or the child of that key, and stop it."""
        with trio.fail_after(5000):
            async with trio.open_nursery() as nursery:
                desk = Desk(self.record, nursery)
                async with opened as tree:
                    handle = tree.child(below).value if below else tree
                    for number, deed in enumerate(self.deeds):
                        nursery.start_soon(self.do, handle, desk, deed, f"#{number}")
                    await trio.sleep(end)
                    if end == LATE:
                        self.expect_rest(handle)
        self.expect_quiet()

    async def do(self, handle: Any, desk: Desk, deed: Deed, name: str) -> None:
        await trio.sleep_until(deed.at)
        actor = self.actors[deed.key]
        if deed.do in ("die", "stop"):
            actor.order(dies if deed.do == "die" else lambda: None)
        elif deed.do == "abort":
            handle.abort()
        else:
            scope = desk.call(name, self.call, handle, deed)
            scope.deadline = trio.current_time() + deed.patience
        await trio.testing.wait_all_tasks_blocked()
        self.look(handle)

    def call(self, handle: Any, deed: Deed) -> Awaitable[object]:
        if deed.do == "start":
            return self.start(handle, deed)
        if deed.do == "terminate":
            return handle.terminate_child(deed.key)  # type: ignore[no-any-return]
        if deed.do == "restart":
            return handle.restart_child(deed.key)  # type: ignore[no-any-return]
        if deed.do == "delete":
            return handle.delete_child(deed.key)  # type: ignore[no-any-return]
        if deed.do == "leave":
            return handle.stop()  # type: ignore[no-any-return]
        return self.by_handle(handle, deed)

    async def start(self, handle: Any, deed: Deed) -> None:
        await handle.start_child(self.child(deed.key))

    async def by_handle(self, handle: SystemHandle, deed: Deed) -> None:
        try:
            child = handle.child(deed.key)
        except ChildNotFound:
            return
        await (child.restart() if deed.do == "again" else child.terminate())

    def look(self, handle: Any) -> None:
        """At no moment more run than may, and those listed as running do run."""
        if sum(actor.is_running for actor in self.actors.values()) > self.limit:
            self.faults.append(f"{trio.current_time()}: too many run: {listed(handle)}")
        for info in handle.which_children():
            if info.status == "running" and not self.actors[info.key].is_running:
                self.faults.append(f"{trio.current_time()}: {info.key} does not run")
            if info.status in ("stopped", "done") and self.actors[info.key].is_running:
                self.faults.append(f"{trio.current_time()}: {info.key} is alive")

    def expect_rest(self, handle: Any) -> None:
        """Nothing is under way any more; who waits for a turn does so for a reason."""
        self.look(handle)
        statuses = [info.status for info in handle.which_children()]
        running = statuses.count("running")
        assert set(statuses) <= {"running", "done", "stopped", "ignored", "waiting"}
        assert running == sum(actor.is_running for actor in self.actors.values())
        assert "waiting" not in statuses or running == self.limit

    def expect_quiet(self) -> None:
        """All has ended, and every call has been answered once."""
        assert self.faults == []
        assert "overlap" not in self.record.order
        assert not any(actor.is_running for actor in self.actors.values())
        answered = [fact.partition(":")[0] for _, fact in self.record.facts if "#" in fact]
        asked = [
            f"#{number}"
            for number, deed in enumerate(self.deeds)
            if deed.do not in ("die", "stop", "abort")
        ]
        assert sorted(answered) == sorted(asked)


class PoolStorm(Storm):
    """The same with everything that only a dynamic supervisor can do."""

    async def start(self, handle: Any, deed: Deed) -> None:
        await handle.start_child(self.child(deed.key), on_conflict=deed.conflict)


roles_of_all = st.fixed_dictionaries(dict.fromkeys(KEYS, ROLES))


@pytest.mark.slow
@storms
@given(
    roles=roles_of_all,
    deeds=st.lists(DEEDS, max_size=30),
    strategy=st.sampled_from(STRATEGIES),
    declared=st.lists(st.sampled_from(KEYS), unique=True, max_size=3),
    end=ENDS,
)
def test_a_storm_of_calls_on_a_system(
    roles: dict[str, Role], deeds: list[Deed], strategy: Strategy, declared: list[str], end: float
) -> None:
    @story
    async def tell() -> None:
        storm = Storm(roles, deeds)

        async def system(scope: Scope) -> None:
            for key in declared:
                if 1 not in roles[key].fails:
                    await scope.start(storm.child(key))

        await storm.over(open_system(system, strategy=strategy, breaker=AlwaysRestart), end)

    tell()


@pytest.mark.slow
@storms
@given(
    roles=roles_of_all,
    deeds=st.lists(DEEDS, max_size=30),
    max_running=st.sampled_from([1, 2, math.inf]),
    max_children=st.sampled_from([2, 3, math.inf]),
    end=ENDS,
)
def test_a_storm_of_calls_on_a_dynamic_supervisor(
    roles: dict[str, Role],
    deeds: list[Deed],
    max_running: float,
    max_children: float,
    end: float,
) -> None:
    @story
    async def tell() -> None:
        storm = PoolStorm(roles, deeds)
        storm.limit = max_running
        await storm.over(open_pool(max_running=max_running, max_children=max_children), end)

    tell()


@pytest.mark.slow
@storms
@given(
    roles=roles_of_all,
    deeds=st.lists(DEEDS | DEEDS | DEEDS | BLOWS, max_size=30),
    strategy=st.sampled_from([*STRATEGIES, None]),
    backoff=SECONDS,
    end=ENDS,
)
def test_a_storm_of_calls_on_a_supervisor_that_is_restarted_itself(
    roles: dict[str, Role],
    deeds: list[Deed],
    strategy: Strategy | None,
    backoff: float,
    end: float,
) -> None:
    """It gives up soon, is stopped and aborted by its handle, and comes back each time."""

    @story
    async def tell() -> None:
        storm = PoolStorm(roles, deeds) if strategy is None else Storm(roles, deeds)

        async def system(scope: Scope) -> None:
            if 1 not in roles["a"].fails:
                await scope.start(storm.child("a"))

        breaker = RateLimited(1, 2.0)
        below: Any = DynamicSupervisor(breaker=breaker)
        if strategy is not None:
            below = SystemSupervisor(system, strategy=strategy, breaker=breaker)
        child = Child("sub", below, backoff=(lambda _: backoff) if backoff else None)
        opened = open_system([child], strategy="one_for_one", breaker=AlwaysRestart)
        await storm.over(opened, end, "sub")

    tell()
