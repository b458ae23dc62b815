"""`Tenancy`: the right to run, as the machine that has it keeps it. Pure: time is passed in."""

from __future__ import annotations

import logging
import math
from collections import deque
from typing import Final

from .messages import WISHES, Log, News, Report, Wish, Word
from .order import Order

# how much news is in one letter, and how many log records wait at most
AT_ONCE: Final = 256
MOST_LOGS: Final = 4096
BEATS_PER_LEASE: Final = 3
# how soon news is sent again for which no word has come
AGAIN: Final = 1.0
MOST_DOUBLINGS: Final = 10


def again_after(lease: float) -> float:
    """After how many seconds a letter is sent again."""
    return min(AGAIN, lease / 6)


class Tenancy:
    """One incarnation: until when it may run, what it is asked for, and what is not heard yet."""

    def __init__(self, order: Order, run: str, node: str, now: float) -> None:
        self._order = order
        self._run = run
        self._node = node
        # written by `hear`
        self.until: float = -math.inf
        self.wish: Wish = "run"
        # that it is another's, or is not wanted any more
        self.is_refused: bool = False
        self._beat = 0
        self._sent: deque[tuple[int, float]] = deque()
        self._first = 1
        self._news: deque[News] = deque()
        self._logs = self._dropped = 0
        # the stack that was sent last, and with which beat
        self._stack: tuple[int, str] = (0, "")
        self._heard_beat = 0
        # letters since the last word
        self._unheard = 0
        # when the next letter is due, and the last one left
        self.due: float = now
        self._sent_at = now

    @property
    def is_granted(self) -> bool:
        """Whether it has had the right to run."""
        return self.until > -math.inf

    @property
    def has_news(self) -> bool:
        """Whether something has not been heard yet."""
        return bool(self._news)

    def add(self, message: News, now: float) -> None:
        """Something is to be reported. Of log records, the newest wait no longer if too many do."""
        if isinstance(message, Log):
            if self._logs >= MOST_LOGS:
                self._dropped += 1
                return
            self._logs += 1
        if self._dropped and self._logs < MOST_LOGS:
            text = f"{self._dropped} log records dropped, since they could not be sent in time"
            self._news.append(Log(logging.WARNING, text, "", "", self._node))
            self._dropped = 0
            self._logs += 1
        self._news.append(message)
        self.due = min(self.due, now)

    def report(self, now: float, stack: str = "", *, silent: bool = False) -> Report:
        """The letter that is due."""
        self._beat += 1
        self._sent_at = now
        self._sent.append((self._beat, now))
        while self._sent[0][1] < now - self._order.lease:
            self._sent.popleft()
        if stack != self._stack[1]:
            self._stack = (self._beat, stack)
        unheard = stack if self._heard_beat < self._stack[0] else None
        lease = self._order.lease
        # soon again, but ever later, unless a word comes
        self.due = now + min(again_after(lease) * 2**self._unheard, lease / BEATS_PER_LEASE)
        self._unheard = min(self._unheard + 1, MOST_DOUBLINGS)
        news = tuple(self._news)[:AT_ONCE]
        return Report(self._order.id, self._run, self._beat, self._first, news, unheard, silent)

    def hear(self, word: Word, now: float) -> None:
        """Take a letter."""
        if word.run != self._run:
            self.is_refused = self.is_refused or bool(word.run) or word.wish == "kill"
            return
        self.wish = WISHES[max(WISHES.index(self.wish), WISHES.index(word.wish))]
        self._heard_beat = max(self._heard_beat, word.beat)
        while self._first <= word.heard and self._news:
            self._first += 1
            self._logs -= isinstance(self._news.popleft(), Log)
        while self._sent and self._sent[0][0] <= word.beat:
            beat, at = self._sent.popleft()
            if beat == word.beat:
                self.until = max(self.until, at + self._order.lease)
        self._unheard = 0
        if not self._news and self.is_granted:
            self.due = self._sent_at + self._order.lease / BEATS_PER_LEASE
