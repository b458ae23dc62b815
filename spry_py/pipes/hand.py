"""The item in hand: what is known of it, and what becomes of it. Decides, and does nothing."""

from __future__ import annotations

import math
import time
from collections import deque
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from spry_py import Context

from .letters import DeadLetter

OnCrash: TypeAlias = Literal["redeliver", "forward"]
"""What to do with the item in hand of a worker that has ended in the middle of it."""

System: TypeAlias = tuple[str, int]
"""Path and incarnation of the supervisor of a worker."""

Outcome: TypeAlias = Literal["done", "failed", "interrupted", "forwarded", "dead"]

ON_CRASH: Final = ("redeliver", "forward")


@dataclass(frozen=True, slots=True)
class Rules:
    """What a stage has declared about the items that its workers do not get through."""

    stage: str
    on_crash: OnCrash = "redeliver"
    max_deliveries: float = math.inf
    # whether the item itself is nothing that could be passed on
    transforms: bool = False


class InHand:
    """One item, from when it is taken from upstream until everything is passed on."""

    __slots__ = (
        "context",
        "deliveries",
        "ended_at",
        "exception",
        "first_try",
        "given_at",
        "is_given",
        "is_leaving",
        "is_made_up_for",
        "item",
        "letter",
        "system",
        "values",
    )

    def __init__(self, item: Any) -> None:
        self.item: Any = item
        self.deliveries: int = 0
        # whether the next one takes the place of one that was cut short by a stop
        self.is_made_up_for: bool = False
        # whether it was given to the worker of `context`, which may still be at it
        self.is_given: bool = False
        # whether all is decided; what is left is to pass on the letter, then the values
        self.is_leaving: bool = False
        self.letter: DeadLetter | None = None
        # what is passed on instead of the item itself
        self.values: deque[Any] | None = None
        # of the present or last delivery: its worker, when (ns since the epoch), how it ended
        self.context: Context | None = None
        self.system: System | None = None
        self.given_at: int = 0
        self.ended_at: int | None = None
        self.exception: BaseException | None = None
        # the context of the span of the first delivery, if it was not the only one
        self.first_try: Any = None

    def give(self, context: Context | None, system: System | None) -> Any:
        """It is delivered, once more perhaps; what an earlier worker made of it is forgotten."""
        assert not self.is_leaving, "an item would be both delivered and passed on"
        if not self.is_made_up_for:
            self.deliveries += 1
        self.is_made_up_for = False
        self.is_given = True
        self.values = None
        self.context = context
        self.system = system
        self.given_at = time.time_ns()
        self.ended_at = self.exception = None
        return self.item

    def note(self, exception: BaseException | None) -> None:
        """The worker that had it in hand has failed."""
        self.ended_at = time.time_ns()
        self.exception = exception

    @property
    def was_stopped(self) -> bool:
        """Whether its worker was asked to end: then the item is not to blame."""
        return self.context is not None and self.context.is_settling

    def leave(self) -> Literal["done"]:
        """Its worker is done with it."""
        if self.values is None:
            self.values = deque((self.item,))
        self.is_leaving = True
        return "done"

    def decide(self, rules: Rules) -> Outcome:
        """Its worker has ended in the middle of it: how did that delivery end, and what now?"""
        if rules.on_crash == "forward":
            if self.values is None and rules.transforms:
                return self.die(rules)
            self.leave()
            return "forwarded"
        if self.was_stopped:
            self.is_made_up_for = True
            return "interrupted"
        if self.deliveries >= rules.max_deliveries:
            return self.die(rules)
        return "failed"

    def abandon(self, rules: Rules) -> Outcome:
        """No worker comes any more; what its last delivery was, and what can leave, leaves."""
        outcome = self.decide(rules)
        return outcome if self.is_leaving else self.die(rules)

    def letters(self, rules: Rules, passes_on: bool) -> list[DeadLetter]:
        """What is left of an item that is leaving, when no worker can pass it on."""
        assert self.is_leaving
        assert self.values is not None
        if self.letter is not None:
            return [self.letter]
        path = self.context.path if self.context is not None else None
        left = self.values if passes_on else ()
        return [DeadLetter(value, rules.stage, path, self.deliveries, None) for value in left]

    def die(self, rules: Rules) -> Literal["dead"]:
        """Give it up: nothing is passed on but a dead letter."""
        path = self.context.path if self.context is not None else None
        self.letter = DeadLetter(self.item, rules.stage, path, self.deliveries, self.exception)
        self.values = deque()
        self.is_leaving = True
        return "dead"
