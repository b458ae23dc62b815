"""Events as values: their kinds, and what all of them have."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

import spry_py
from spry_py import events
from spry_py.events import Event

KINDS: list[type[Event]] = [getattr(events, name) for name in events.__all__]


def test_these_are_all_kinds_of_events() -> None:
    names = """
        ChildAborted ChildDiscarded ChildSettling ChildSlow ChildStartFailed ChildStarted
        ChildStarting ChildStuck ChildTerminated Escalated Event EventsLost IncidentClosed
        IncidentOpened RestartRefused RestartScheduled SystemOrdered SystemStarted
        SystemStopped SystemTeardown
    """
    assert sorted(kind.__name__ for kind in KINDS) == sorted(names.split())


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_events_are_frozen_values(kind: type[Event]) -> None:
    names = [field.name for field in dataclasses.fields(kind) if not field.kw_only]
    values: list[Any] = list(range(len(names)))
    event = kind(*values)
    assert [event.seq, event.at, event.path] == values[:3]
    assert event == kind(*values)
    assert event != kind(*reversed(values))
    assert not hasattr(event, "__dict__")
    with pytest.raises(dataclasses.FrozenInstanceError):
        event.seq = 9  # type: ignore[misc]


def test_the_number_of_an_incident_is_not_compared() -> None:
    one, none = Event(1, 2.0, "top", incident=1), Event(1, 2.0, "top")
    assert (one.incident, none.incident, one == none, hash(one) == hash(none)) == (
        1,
        None,
        True,
        True,
    )


def test_the_wall_clock_is_told_and_not_compared() -> None:
    early, late = Event(1, 2.0, "top", time=100.0), Event(1, 2.0, "top", time=200.0)
    assert (early.time, late.time, early == late, hash(early) == hash(late)) == (
        100,
        200,
        True,
        True,
    )
    assert repr(early) == "Event(seq=1, at=2.0, path='top')"


def test_they_live_in_one_module_alone() -> None:
    assert {kind.__module__ for kind in KINDS} == {"spry_py.events"}
    assert all(issubclass(kind, Event) for kind in KINDS)
    assert set(events.__all__).isdisjoint(spry_py.__all__)
