"""`LiveRecord`: the record of a tree that lives, and waiting for what comes next in it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

import trio
import trio.testing
from trio.testing import MockClock

from spry_py import SystemHandle
from spry_py.events import (
    ChildAborted,
    ChildSettling,
    ChildStuck,
    ChildTerminated,
    Event,
    IncidentClosed,
)
from spry_py.lowlevel import check_count, check_seconds, summary_of

from .chaos import ChaosCrash
from .record import Record, check_kind, is_about

E = TypeVar("E", bound=Event)


class LiveRecord(Record):
    """All events of a tree from its first one on, as `started` gives it. None of them is lost."""

    def __init__(self) -> None:
        super().__init__()
        # written by `started`, when the tree is up
        self.handle: SystemHandle | None = None
        self._has_ended = False
        self._waiting = trio.lowlevel.ParkingLot()
        # those that were waited for, by number: they are no surprise
        self._expected: set[int] = set()

    # What the tree calls

    def offer(self, event: Event) -> None:
        """Write an event down."""
        if not self._events:
            self._since = event.at
        self._events.append(event)
        self._waiting.unpark_all()

    def wake(self) -> None:
        """Nothing more comes."""
        self._has_ended = True
        self._waiting.unpark_all()

    # Waiting

    async def wait_for(
        self, kind: type[E], path: str | None = None, *, count: int = 1, within: float = 10.0
    ) -> E:
        """Wait until there are ``count`` events of a kind, and return the last of these.

        About ``path`` (``"app/db"``), or about anything. All count from the beginning of the record
        on, those before the call, too, so that nothing can be missed: it returns at once if they
        are there. Never polls. On virtual time, whatever else happens in that moment has happened
        when it returns.

        Raises `AssertionError`, with the tree and the record drawn, when ``within`` seconds are
        over or the tree has ended; `TypeError` or `ValueError` for bad values. Cancelling it only
        stops the waiting. A fault that was waited for does not fail the block of `started`.
        """
        __tracebackhide__ = True
        check_kind("wait_for", kind)
        self._check_path(path)
        check_count("wait_for", "count", count, least=1)
        check_seconds("wait_for", "within", within)
        await trio.lowlevel.checkpoint()
        with trio.move_on_after(within) as time:
            await self._until_there(kind, path, count)
        if time.cancelled_caught or isinstance(trio.lowlevel.current_clock(), MockClock):
            # all that happens in this very moment: the last of it is still in time, and on virtual
            # time a test goes on with the same each time
            with trio.move_on_after(1):
                await trio.testing.wait_all_tasks_blocked()
        found = [event for event in self._events if is_about(event, kind, path)][:count]
        if len(found) < count:
            when = "before the tree ended" if self._has_ended else f"within {within:g} s"
            raise AssertionError(self.with_record(_missing(kind, path, len(found), count, when)))
        self._expected.update(event.seq for event in found)
        last = found[-1]
        assert isinstance(last, kind)
        return last

    async def _until_there(self, kind: type[Event], path: str | None, count: int) -> None:
        """Return when there are so many, or when the tree has ended in order."""
        was_over = self._has_ended
        seen = found = 0
        while found < count:
            if not await self._is_longer_than(seen):
                if self._has_failed and not was_over:
                    # it takes the block with it, and what it failed with is what has to come out
                    await trio.sleep_forever()
                return
            found += is_about(self._events[seen], kind, path)
            seen += 1

    async def expect_silence(self, seconds: float) -> None:
        """Let time pass, and assert that nothing happens in it: no event of any kind.

        What happens in the very moment when it is over does not count, and that an incident is
        closed is nothing new. Raises `AssertionError` at the first event, with the tree and the
        record drawn. Cancelling it only stops the waiting.
        """
        __tracebackhide__ = True
        check_seconds("expect_silence", "seconds", seconds)
        seen = len(self._events)
        until = trio.current_time() + seconds
        await trio.lowlevel.checkpoint()
        with trio.move_on_at(until):
            while await self._is_longer_than(seen) and self._events[seen].at < until:
                self._check_silent(self._events[seen], seconds)
                seen += 1
            await trio.sleep_until(until)

    def _check_silent(self, event: Event, seconds: float) -> None:
        __tracebackhide__ = True
        if type(event) is not IncidentClosed:
            line = self.line(event)
            raise AssertionError(self.with_record(f"not {seconds:g} s of silence, but {line}"))

    async def _is_longer_than(self, count: int) -> bool:
        """Wait until there are more events than that; fails if no more can come."""
        while len(self._events) <= count and not self._has_ended:
            await self._waiting.park()
        return len(self._events) > count

    @property
    def _has_failed(self) -> bool:
        report = self.handle.last_report if self.handle is not None else None
        return report is not None and report.failed

    def _check_path(self, path: object) -> None:
        if path is not None and not isinstance(path, str):
            raise TypeError(f"wait_for: path must be a str such as 'app/db', not {path!r}")
        if path is None or self.handle is None:
            return
        root = self.handle.path
        if path != root and not path.startswith(f"{root}/"):
            raise ValueError(
                f"wait_for: path must be a whole path of this tree, such as {f'{root}/{path}'!r}, "
                f"not {path!r}"
            )

    # What has gone wrong

    def with_record(self, what: str) -> str:
        """What is wrong, with the tree and the record drawn below it."""
        return "\n".join([what, *self.drawn_tree(), self.drawn()])

    def drawn_tree(self) -> list[str]:
        """The tree as it is now; nothing if it has never been up."""
        if self.handle is None:
            return []
        return ["the tree:", *(f"  {line}" for line in self.handle.render().splitlines())]

    def check_stops(self) -> None:
        """Raise `AssertionError` if a child was not stopped as it should be.

        It listens and has outlived its shutdown, it was reported as stuck, or it raised while it
        was being stopped; but not if the test has waited for just that.
        """
        __tracebackhide__ = True
        faults = [
            f"  {self.line(event)}: {what}"
            for event, what in self._faults()
            if event.seq not in self._expected
        ]
        if faults:
            raise AssertionError(
                self.with_record(
                    "\n".join(["children were not stopped as they should be:", *faults])
                )
            )

    def _faults(self) -> Iterator[tuple[Event, str]]:
        asked: set[str] = set()
        for event in self._events:
            if isinstance(event, ChildSettling):
                asked.add(event.path)
            elif isinstance(event, ChildAborted) and event.path in asked:
                yield event, "it listens, and has outlived its shutdown"
            elif isinstance(event, ChildStuck):
                yield event, "it goes on although it was cancelled"
            elif isinstance(event, ChildTerminated):
                asked.discard(event.path)
                report = event.report
                if report.burden != "none" and not isinstance(report.cause, ChaosCrash | None):
                    yield event, f"it raised while it was being stopped: {summary_of(report.cause)}"


def _missing(kind: type[Event], path: str | None, found: int, count: int, when: str) -> str:
    about = f" of {path!r}" if path is not None else ""
    came = f"came {found} of {count} times" if count > 1 else "never came"
    return f"{kind.__name__}{about} {came} {when}"
