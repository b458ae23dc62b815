"""Sums: points of counters, kept as plain integers until the meter provider collects.

A point costs the SDK seventy times what it costs to add it up here. To readers nothing changes:
the counters are what they were, and hold all there is by the time that they are read.
"""

from __future__ import annotations

from collections.abc import Iterable
from threading import Lock
from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from opentelemetry.metrics import Counter, Meter, Observation, UpDownCounter

    from .attributes import Attributes

Labels: TypeAlias = tuple[tuple[str, str], ...]

# Of a counter; the SDK itself keeps no more apart. Keys that come and go may be more in time.
MOST: Final = 2_000


class Sums:
    """What some counters of a meter have yet to count."""

    def __init__(self, meter: Meter) -> None:
        self._sums: list[Sum] = []
        # observes nothing, and so is never exported: it is how the API lets us know of a reader
        meter.create_observable_counter("spry.collections", [self._collected])

    def of(self, counter: Counter | UpDownCounter) -> Sum:
        """Stands in front of that counter."""
        made = Sum(counter)
        self._sums.append(made)
        return made

    def _collected(self, _: object) -> Iterable[Observation]:
        """A reader is about to collect, in any thread."""
        for each in self._sums:
            each.hand_over()
        return ()


class Sum:
    """What one counter has yet to count. Any thread may add, and hand over."""

    __slots__ = ("_counter", "_lock", "_waiting")

    def __init__(self, counter: Counter | UpDownCounter) -> None:
        self._counter = counter
        self._lock = Lock()
        # of each series that the counter knows, even if nothing waits
        self._waiting: dict[Labels, int] = {}

    def add(self, amount: int, labels: Attributes) -> None:
        key = tuple(labels.items())
        with self._lock:
            waiting = self._waiting.get(key)
            if waiting is not None:
                self._waiting[key] = waiting + amount
                return
        # the first one at once, since from then on the counter takes the time of a series
        self._make_room_for(key)
        self._counter.add(amount, labels)

    def _make_room_for(self, key: Labels) -> None:
        waiting: dict[Labels, int] = {}
        with self._lock:
            if len(self._waiting) >= MOST:
                waiting, self._waiting = self._waiting, waiting
            self._waiting.setdefault(key, 0)
        self._tell(waiting)

    def hand_over(self) -> None:
        with self._lock:
            waiting, self._waiting = self._waiting, dict.fromkeys(self._waiting, 0)
        self._tell(waiting)

    def _tell(self, waiting: dict[Labels, int]) -> None:
        for key, amount in waiting.items():
            if amount:
                self._counter.add(amount, dict(key))
