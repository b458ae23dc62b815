"""`Grant`: the right to run, as the program that gives it keeps it. Pure: time is passed in.

The lease is counted on the other machine from when it *sent* the beat that is renewed. That is
before the beat arrives here, so this side, which counts from the arrival, is never too early,
however long letters are under way.
"""

from __future__ import annotations

import math
from typing import Final

from .messages import WISHES, Beat, Done, Message, Report, Wish, Word
from .order import Order

# By how much clocks on two machines may differ in speed, and a process may wake up late.
DRIFT: Final = 0.01


class Grant:
    """What one incarnation has been allowed, what it was asked for, and what was heard of it."""

    def __init__(self, order: Order) -> None:
        self._order = order
        # the one process that may run it; written by `hear`, once
        self.run: str = ""
        # written by `ask`
        self.wish: Wish = "run"
        # written by `hear`
        self.is_done: bool = False
        self._beat = 0
        self._heard = 0
        self._until = -math.inf
        self._stack = ""

    @property
    def until(self) -> float:
        """From when on nothing of it runs any more, ``-inf`` if nothing may have run at all."""
        return self._until

    def ask(self, wish: Wish) -> bool:
        """Wish for something; whether that is news. What was wished for is never taken back."""
        is_more = WISHES.index(wish) > WISHES.index(self.wish)
        if is_more:
            self.wish = wish
        return is_more

    def hear(self, report: Report, now: float) -> list[Message]:
        """Take a letter, and return what is new in it."""
        if not self.run and self.wish == "run":
            self.run = report.run
        if report.run != self.run:
            return []
        messages = self._news(report)
        if report.beat > self._beat and not self.is_done:
            messages.insert(0, self._renewed(report, now))
        return messages

    def _news(self, report: Report) -> list[Message]:
        if report.first > self._heard + 1:
            return []
        new: list[Message] = list(report.news[self._heard + 1 - report.first :])
        self._heard += len(new)
        self.is_done = self.is_done or any(isinstance(message, Done) for message in new)
        return new

    def _renewed(self, report: Report, now: float) -> Beat:
        if report.stack is not None:
            self._stack = report.stack
        if self.wish != "kill":
            self._beat = report.beat
            order = self._order
            self._until = now + order.lease * (1 + DRIFT) + order.grace
        return Beat(report.beat, self._stack, report.silent)

    def word(self) -> Word:
        """The letter that holds all of this."""
        return Word(self._order.id, self.run, self._beat, self._heard, self.wish)
