"""Metrics of trees that nobody thought of: they agree with each other, the events and the spans."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from itertools import accumulate
from typing import NamedTuple

import pytest
import trio
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from fated import CALM, FATES, SECONDS, Fate, Life, leaves
from metered import (
    COUNT,
    DELAY,
    ESCALATIONS,
    LIFETIME,
    RESTARTS,
    SHUTDOWN,
    START,
    STARTUP,
    TEARDOWN,
    TERMINATIONS,
    Tally,
    tallied,
)
from spans import Recorder, play, recording
from spry_py import (
    Child,
    RateLimited,
    SpryError,
    Strategy,
    SystemSupervisor,
    TerminationReport,
    open_system,
)
from spry_py.events import (
    ChildAborted,
    ChildSettling,
    ChildStarted,
    ChildStartFailed,
    ChildStarting,
    ChildTerminated,
    Escalated,
    Event,
    RestartScheduled,
)
from workers import STRATEGIES

Told = list[tuple[str, float]]
"""The values of one instrument, each with the path of the system, in any order."""


class Signals(NamedTuple):
    """One life, as each signal tells it."""

    events: list[Event]
    tally: Tally
    spans: Recorder

    @property
    def reports(self) -> list[TerminationReport]:
        return [event.report for event in self.events if isinstance(event, ChildTerminated)]

    def values(self, name: str) -> Told:
        """Events do not say which children were declared, so paths are those of systems."""
        points = self.tally.points
        return sorted((system_of(at), value) for which, at, value in points if which == name)

    def spans_of(self, name: str) -> Counter[str]:
        found = self.spans.named(name)
        return Counter(str((span.attributes or {})["spry.system.path"]) for span in found)


def system_of(label: str) -> str:
    return above(label.split(maxsplit=1)[0])


def above(path: str) -> str:
    return path.rpartition("/")[0]


def signals_of(fate: Fate) -> Signals:
    life = Life()
    with recording() as spans, tallied() as tally:
        play(lambda: life.live(fate), seconds=1e5)
    note("\n".join(map(repr, [*life.events, *tally.points])))
    return Signals(life.events, tally, spans)


# The laws


def children_go_up_and_come_down(told: Signals) -> None:
    for steps in told.tally.values(COUNT).values():
        assert set(steps) == {1, -1}
        assert min(accumulate(steps)) == 0
        assert sum(steps) == 0


def every_end_of_a_started_child_is_counted_once(told: Signals) -> None:
    lives = sorted((above(r.path), r.lifetime) for r in told.reports if r.lifetime is not None)
    assert told.values(LIFETIME) == lives
    ends = told.tally.numbers(TERMINATIONS)
    assert Counter(label.split()[0] for label in ends.elements()) == told.tally.numbers(LIFETIME)
    assert len(lives) == sum(steps.count(-1) for steps in told.tally.values(COUNT).values())


def starts_take_from_begun_to_started_or_failed(told: Signals) -> None:
    begun: dict[str, float] = {}
    durations: Told = []
    for event in told.events:
        if isinstance(event, ChildStarting):
            begun[event.path] = event.at
        elif isinstance(event, ChildStarted | ChildStartFailed):
            durations.append((above(event.path), event.at - begun[event.path]))
    assert told.values(START) == sorted(durations)


def stops_take_from_asked_to_ended(told: Signals) -> None:
    asked: dict[str, float] = {}
    durations: Told = []
    for event in told.events:
        if isinstance(event, ChildSettling | ChildAborted):
            asked.setdefault(event.path, event.at)
        elif isinstance(event, ChildTerminated) and event.path in asked:
            durations.append((above(event.path), event.at - asked.pop(event.path)))
    assert told.values(SHUTDOWN) == sorted(durations)
    assert Counter(path for path, _ in durations) == told.spans_of("spry.wait_for_termination")


def runs_of_systems_and_teardowns_are_as_many_as_spans(told: Signals) -> None:
    assert told.tally.numbers(STARTUP) == told.spans_of("spry.startup")
    assert told.tally.numbers(TEARDOWN) == told.spans_of("spry.teardown")


def delays_are_those_of_the_restarts_that_were_allowed(told: Signals) -> None:
    scheduled = [event for event in told.events if isinstance(event, RestartScheduled)]
    assert told.values(DELAY) == sorted((above(event.path), event.delay) for event in scheduled)


def a_supervisor_gives_up_once(told: Signals) -> None:
    given_up: set[str] = set()
    for event in told.events:
        if isinstance(event, Escalated):
            assert event.path not in given_up
            given_up.add(event.path)
        elif isinstance(event, ChildStarting):
            given_up.discard(event.path)
    escalated = Counter(event.path for event in told.events if isinstance(event, Escalated))
    assert told.tally.numbers(ESCALATIONS) == escalated


LAWS: list[Callable[[Signals], None]] = [
    children_go_up_and_come_down,
    every_end_of_a_started_child_is_counted_once,
    starts_take_from_begun_to_started_or_failed,
    stops_take_from_asked_to_ended,
    runs_of_systems_and_teardowns_are_as_many_as_spans,
    delays_are_those_of_the_restarts_that_were_allowed,
    a_supervisor_gives_up_once,
]

EXAMPLES = max(200, settings().max_examples)


@pytest.mark.slow
@settings(max_examples=EXAMPLES, suppress_health_check=[HealthCheck.too_slow])
@given(FATES)
def test_all_signals_tell_the_same_story(fate: Fate) -> None:
    told = signals_of(fate)
    for law in LAWS:
        law(told)


@settings(max_examples=EXAMPLES // 2, suppress_health_check=[HealthCheck.too_slow])
@given(CALM)
def test_where_nobody_calls_every_later_incarnation_is_a_restart(fate: Fate) -> None:
    told = signals_of(fate)
    later = [e for e in told.events if isinstance(e, ChildStarting) and e.incarnation > 1]
    restarted = Counter(path for path, _ in told.values(RESTARTS))
    assert restarted == Counter(above(event.path) for event in later)


FAMILIES = st.lists(leaves(), min_size=1, max_size=4)


@settings(max_examples=EXAMPLES // 2, suppress_health_check=[HealthCheck.too_slow])
@given(FAMILIES, st.sampled_from(STRATEGIES), SECONDS)
def test_restarts_are_those_that_the_children_themselves_tell(
    made: list[Child[object]], strategy: Strategy, until: float
) -> None:
    family = [child.replace(key=f"c{number}") for number, child in enumerate(made)]
    told, listed = restarts_in(family, strategy, until)
    assert told == listed


def restarts_in(
    family: Iterable[Child[object]], strategy: Strategy, until: float
) -> tuple[Counter[str], Counter[str]]:
    """What the metrics say, and what the handle says, of a system when its time is over."""
    listed: Counter[str] = Counter()
    breaker = RateLimited(100, 10.0)

    async def lives() -> None:
        tree = SystemSupervisor(list(family), name="top", strategy=strategy, breaker=breaker)
        async with open_system(tree) as handle:
            await trio.sleep(until)
            await trio.testing.wait_all_tasks_blocked()
            found = {info.path: info.restarts for info in handle.which_children()}
            listed.update({path: number for path, number in found.items() if number})

    with tallied() as tally:
        try:
            play(lives)
        except SpryError:
            return Counter(), Counter()
    return tally.numbers(RESTARTS), listed
