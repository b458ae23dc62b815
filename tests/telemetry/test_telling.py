"""Emitting decides nothing: whatever a listener raises, the tree does what it would have done.

Each point at which the tree of one story emits anything is made to raise in turn, under each
strategy, and what happened is compared with the undisturbed story.
"""

from __future__ import annotations

import gc
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any
from weakref import WeakKeyDictionary

import pytest
import trio

from spans import play
from spry_py import (
    AlwaysRestart,
    Child,
    ChildFailure,
    DynamicSupervisor,
    Ignore,
    Interrupted,
    NeverRestart,
    Scope,
    Strategy,
    SupervisorStopped,
    SystemSupervisor,
    TerminationReport,
    Unrecoverable,
    cancel_on_settle,
    current_context,
    open_system,
)
from spry_py._handles import supervisors
from spry_py._telemetry.listener import Teller
from spry_py.lowlevel import add_stack
from stories import Boom, Facts, Record
from trapped import Trap, trapped, unraisable

STRATEGIES: list[Strategy] = ["one_for_one", "rest_for_one", "one_for_all"]


class Cast:
    """The children of one story, each with a fate, and the record of what they did."""

    def __init__(self) -> None:
        self.record = Record()
        self._runs: dict[str, int] = {}

    def child(
        self, key: str, *fates: Callable[[], Awaitable[object]], **options: Any
    ) -> Child[Any]:
        """A child whose n-th run meets the n-th fate, and the later ones listen and stay."""

        async def live(*, task_status: trio.TaskStatus[str]) -> None:
            number = self._runs[key] = self._runs.get(key, 0) + 1
            fate = fates[number - 1] if number <= len(fates) else self.stay
            if fate in (refuse, leave_out):
                self.record(f"~{key}{number}")
                await fate()
            self.record(f"+{key}{number}")
            try:
                task_status.started(key)
                await fate()
            finally:
                self.record(f"-{key}{number}")

        return Child(key, live, **options)

    async def stay(self) -> None:
        with cancel_on_settle():
            await trio.sleep_forever()

    async def on_termination(self, report: TerminationReport) -> None:
        self.record(f"hook of {report.key}: {type(report.reason).__name__}")


def after(seconds: float, error: type[BaseException] | None = None) -> Callable[[], Any]:
    async def fate() -> None:
        await trio.sleep(seconds)
        if error is not None:
            raise error("of the story")

    return fate


async def refuse() -> None:
    raise Boom("no start")


async def leave_out() -> None:
    raise Ignore


async def swallow() -> None:
    """Stuck: it does not end for three seconds after it was cancelled."""
    add_stack(lambda: "  in a place of its own\n")
    try:
        await trio.sleep_forever()
    finally:
        with trio.CancelScope(shield=True):
            await trio.sleep(3)


async def linger() -> None:
    """Overdue: asked to settle, it goes on."""
    await current_context().settled()
    await trio.sleep_forever()


async def simple() -> None:
    """No task_status: started at its first checkpoint."""
    with cancel_on_settle():
        await trio.sleep_forever()


def company(cast: Cast, strategy: Strategy) -> SystemSupervisor:
    deep = [cast.child("x", leave_out), cast.child("y", after(2.5, Boom))]
    extra = cast.child("extra", refuse)

    async def system(scope: Scope) -> None:
        await scope.start(cast.child("a"))
        await scope.start(Child("simple", simple))
        await scope.start(
            cast.child("b", after(1, Boom), refuse, backoff=lambda _: 0.25, restart="transient")
        )
        try:
            await scope.start(extra)
        except ChildFailure:
            cast.record("no extra")
        await scope.start(Child("deep", SystemSupervisor(deep, breaker=NeverRestart())))
        await scope.start_together(
            cast.child("lost", after(0.5, Unrecoverable), on_unrecoverable="discard"),
            cast.child("spent", after(0.5), restart="temporary"),
        )
        await scope.start(cast.child("hooked", after(4), on_termination=cast.on_termination))
        await scope.start(cast.child("late", linger, linger, linger, linger, shutdown=1.0))
        await scope.start(cast.child("stuck", *[swallow] * 6))
        await scope.start(Child("pool", DynamicSupervisor()))

    return SystemSupervisor(system, name="root", strategy=strategy, breaker=AlwaysRestart)


async def visit(cast: Cast, strategy: Strategy) -> None:
    """A story in which everything happens that a tree emits anything about."""
    async with open_system(company(cast, strategy)) as root:
        with suppress(SupervisorStopped, Interrupted):  # of a tree that is interrupted
            await root.child("pool").value.start_child(cast.child("w", after(1, Boom)))
            await trio.sleep(6)
            await root.child("a").restart()
            await root.terminate_child("simple")
            await root.restart_child("simple")
            await root.replay()
            await trio.sleep(1)
            cast.record("leaving")


async def give_up(cast: Cast, strategy: Strategy) -> None:
    """The root fails in the end."""
    children = [cast.child("a"), cast.child("b", after(1, Boom))]
    tree = SystemSupervisor(children, name="root", strategy=strategy, breaker=NeverRestart)
    async with open_system(tree):
        await trio.sleep_forever()


async def never_begin(cast: Cast, strategy: Strategy) -> None:
    """The root fails in its boot."""
    children = [cast.child("a"), cast.child("b", refuse)]
    async with open_system(children, name="root", strategy=strategy):
        await trio.sleep_forever()


Story = Callable[[Cast, Strategy], Awaitable[None]]
STORIES: list[Story] = [visit, give_up, never_begin]
each_story = pytest.mark.parametrize("told", STORIES, ids=lambda told: told.__name__)
each_strategy = pytest.mark.parametrize("strategy", STRATEGIES)


def played(told: Story, trap: Trap, strategy: Strategy) -> tuple[Facts, str]:
    """What happened, and what came out of the tree at last."""
    cast, outcome = Cast(), "an orderly end"
    with trapped(trap):
        try:
            play(lambda: told(cast, strategy), 100.0)
        except BaseException as error:  # whatever it is, it is compared
            outcome = f"{error!r} of {error.__cause__!r}"
    return cast.record.facts, outcome


@each_strategy
def test_the_story_emits_everything(strategy: Strategy) -> None:
    # or the tests below would prove little
    trap = Trap()
    facts, outcome = played(visit, trap, strategy)
    assert ("leaving" in [fact for _, fact in facts], outcome) == (True, "an orderly end")
    names = {name.split(" root")[0] for name in trap.points}
    spans = ["startup", "child.start", "term", "try_restart", "teardown", "wait_for_termination"]
    assert names >= {f"{edge} spry.{span}" for edge in ("start", "end") for span in spans}
    assert names >= {f"sample spry.{span}" for span in spans}
    assert len([name for name in names if name.startswith("measure")]) == 10
    messages = "\n".join(trap.points)
    parts = [
        "started",
        "failed to start",
        "left out",
        "failed: Boom",
        "will be restarted in 0.25 s",
    ]
    parts += ["is not recoverable", "gives up", "did not finish within", "a place of its own"]
    assert [part for part in parts if part not in messages] == []


@pytest.mark.slow
@each_strategy
@each_story
def test_each_point_that_raises_changes_nothing(told: Story, strategy: Strategy) -> None:
    trap = Trap()
    undisturbed = played(told, trap, strategy)
    changed = {}
    for name in dict.fromkeys(trap.points):
        injected = Trap(lambda: Boom("of a listener"), name.__eq__)
        with unraisable() as heard:
            disturbed = played(told, injected, strategy)
        assert [args.exc_value for args in heard] == injected.raised[:1] != []
        if disturbed != undisturbed:
            changed[name] = disturbed
    assert changed == {}


@each_strategy
@each_story
@pytest.mark.parametrize("error", [Boom, SystemExit, GeneratorExit])
def test_all_points_that_raise_change_nothing_and_each_listener_is_reported_once(
    told: Story, strategy: Strategy, error: type[BaseException]
) -> None:
    undisturbed = played(told, Trap(), strategy)
    trap = Trap(lambda: error("of a listener"), lambda name: True)
    with unraisable() as heard:
        assert played(told, trap, strategy) == undisturbed
    kinds = [type(args.object).__name__ for args in heard]
    assert (kinds.count("Filter"), kinds.count("Picky")) == (1, 1)
    assert set(kinds) == {"Filter", "Picky", "Instrument"}
    assert len({id(args.object) for args in heard}) == len(heard)
    assert len(heard) < len(trap.raised)


@each_strategy
@each_story
def test_a_keyboard_interrupt_out_of_a_listener_ends_the_tree_in_order(
    told: Story, strategy: Strategy
) -> None:
    trap = Trap()
    played(told, trap, strategy)
    for name in dict.fromkeys(trap.points):
        injected = Trap(KeyboardInterrupt, name.__eq__)
        with unraisable() as heard:
            facts, outcome = played(told, injected, strategy)
        assert (name, outcome, heard) == (name, "KeyboardInterrupt() of None", [])
        begun = [fact[1:] for _, fact in facts if fact[0] == "+"]
        ended = [fact[1:] for _, fact in facts if fact[0] == "-"]
        assert (name, sorted(begun)) == (name, sorted(ended))


@each_strategy
@each_story
@pytest.mark.parametrize("raises", [False, True])
def test_nothing_is_kept_of_what_is_over(
    told: Story, strategy: Strategy, raises: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    tellers: list[Teller] = []

    class Noted(Teller):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            tellers.append(self)

    monkeypatch.setattr(supervisors, "Teller", Noted)
    with unraisable():
        played(told, Trap(lambda: Boom("of a listener"), lambda name: raises), strategy)
    parts = [part for one in tellers for part in (one, one.spans, one.metrics)]
    kept = [getattr(part, name) for part in parts for name in getattr(type(part), "__slots__", ())]
    tables = [table for table in kept if isinstance(table, dict | set | WeakKeyDictionary)]
    # they lead to their trees
    del kept, parts
    tellers.clear()
    gc.collect()
    assert len(tables) > 10
    assert [table for table in tables if table] == []
