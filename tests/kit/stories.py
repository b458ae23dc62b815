"""What the stories of this suite share: virtual time, a record of facts, and breakers.

A story is a test on virtual time: it arranges a tree, lets time pass, and compares everything
that happened with what should have happened. All times are seconds on trio's clock.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import ParamSpec

import trio
from trio.testing import MockClock

P = ParamSpec("P")
Facts = list[tuple[float, str]]
# no test takes that long, on a machine however busy
HANGS = 120.0


class Boom(Exception):
    """What breaks in these stories."""


class NeverShown(Exception):
    """Stands for an interrupt that would have ended the whole test run."""


def _inside_trio(
    test: Callable[P, Awaitable[None]], limit: float, clock: Callable[[], MockClock | None]
) -> Callable[P, None]:
    @functools.wraps(test)
    def tell(*args: P.args, **kwargs: P.kwargs) -> None:
        async def main() -> None:
            before = trio.lowlevel.current_statistics().tasks_living
            with trio.fail_after(limit):
                await test(*args, **kwargs)
            after = trio.lowlevel.current_statistics().tasks_living
            assert after == before, "something was left running"

        try:
            trio.run(main, clock=clock())
        except KeyboardInterrupt as interrupt:
            raise NeverShown("the story let a KeyboardInterrupt out") from interrupt

    return tell


def story(test: Callable[P, Awaitable[None]]) -> Callable[P, None]:
    """Run an async test on virtual time; it must end, and leave no task behind."""
    return _inside_trio(test, 100_000.0, lambda: MockClock(autojump_threshold=0))


def story_with_threads(test: Callable[P, Awaitable[None]]) -> Callable[P, None]:
    """Run an async test on real time, since virtual time would run away from a thread."""
    return _inside_trio(test, HANGS, lambda: None)


class Record:
    """The facts of one story, each with its time."""

    def __init__(self) -> None:
        self.facts: Facts = []

    def __call__(self, fact: str) -> None:
        self.facts.append((trio.current_time(), fact))

    @property
    def order(self) -> str:
        """The facts alone, in their order, separated by blanks."""
        return " ".join(fact for _, fact in self.facts)

    def take(self) -> Facts:
        """Hand over the facts so far, and forget them."""
        taken, self.facts = self.facts, []
        return taken

    def take_order(self) -> str:
        """Hand over the order of the facts so far, and forget them."""
        return " ".join(fact for _, fact in self.take())


class Ledger:
    """A breaker factory that records whom it was asked for, as `?key`."""

    def __init__(self, record: Record, allows: int = 1000) -> None:
        self.record = record
        self.allows = allows
        self.made = 0

    def __call__(self) -> Page:
        self.made += 1
        return Page(self)


class Page:
    """The live breaker of a ledger: it allows so many restarts, then none."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._left = ledger.allows

    def may_restart(self, key: str, now: float) -> bool:
        assert now == trio.current_time()
        self._left -= 1
        self._ledger.record(f"?{key}" if self._left >= 0 else f"?{key}:no")
        return self._left >= 0


def told_by(error: BaseException) -> Iterator[BaseException]:
    """The error and everything it carries: leaves of groups, causes, contexts."""
    seen: set[int] = set()
    todo = [error]
    while todo:
        one = todo.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        todo.extend(link for link in (one.__cause__, one.__context__) if link is not None)
        if isinstance(one, BaseExceptionGroup):
            todo.extend(one.exceptions)


class _Listener(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.heard: list[tuple[float, str, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        everything = " ".join(f"{name}={value}" for name, value in vars(record).items())
        text = f"{record.getMessage()} {everything}"
        self.heard.append((trio.current_time(), record.name, text))


@contextmanager
def warnings_of(path: str) -> Iterator[list[tuple[float, str, str]]]:
    """What is logged as a warning or worse about a path: time, logger, text."""
    logger = logging.getLogger(f"spry_py.{path.replace('/', '.')}")
    listener = _Listener()
    logger.addHandler(listener)
    try:
        yield listener.heard
    finally:
        logger.removeHandler(listener)
