"""`chaos`: children crash and are restarted at random, and the same again for the same seed."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import trio

from spry_py import (
    ChildInfo,
    ChildNotFound,
    Snapshot,
    SpryError,
    Status,
    SupervisorStopped,
    SystemHandle,
)
from spry_py.events import Event
from spry_py.lowlevel import check_callable, check_count, check_seconds, summary_of

from .blows import ChildCrashed, ChildRestarted
from .crashes import child_at
from .record import Record

# On virtual time it costs nothing; on real time no start takes longer.
MOST_SECONDS: Final = 600.0
_OWNER: Final = "chaos"


class ChaosCrash(Exception):
    """What `chaos` lets children fail with."""


class ChaosFailure(AssertionError):
    """The tree did not survive `chaos`, or did not come back from it."""


def is_worker(child: ChildInfo) -> bool:
    """Whether it is no supervisor."""
    return child.kind != "supervisor"


async def chaos(
    handle: SystemHandle,
    *,
    seed: int | None = None,
    every: tuple[float, float] = (0.1, 1.0),
    choose: Callable[[ChildInfo], bool] = is_worker,
    rounds: int = 50,
) -> Record:
    """Let children below ``handle`` crash and be restarted, at random, for so many rounds.

    Each round waits for a random time between the two seconds of ``every``, takes one of the
    running children for which ``choose(child)`` is true (all but supervisors, unless given), and
    lets it fail with a `ChaosCrash` or restarts it by `ChildHandle.restart`. A round in which none
    is running is put off by such a time. At the end it waits until all is up again.
    Returns what it did, as a record with a line for each deed.

    The same ``seed`` does the same again to a tree that behaves the same, as on virtual time;
    without one, another is taken each time. Raises `ChaosFailure`, an `AssertionError` with the
    seed and the record, if the tree ends meanwhile, or if 600 seconds do not bring back what was
    restarted, what is down at the end, or a child that may be hit. If the tree has failed, that
    failure is its cause, in whose place it comes out of `started`.
    `TypeError` and `ValueError` for bad values. Cancelling it leaves the tree as it is.
    """
    check_count(_OWNER, "rounds", rounds)
    check_callable(_OWNER, "choose", choose, "a function of a ChildInfo that returns a bool")
    _check_every(every)
    if seed is None:
        seed = random.SystemRandom().randrange(1_000_000)
    return await _Chaos(handle, seed, every, choose, rounds).run()


def _check_every(every: object) -> None:
    pair: Any = every
    if not isinstance(every, tuple | list) or len(pair) != 2:
        raise TypeError(f"{_OWNER}: every must be two numbers of seconds, not {every!r}")
    for seconds in pair:
        check_seconds(_OWNER, "every", seconds)
    if pair[0] > pair[1]:
        raise ValueError(f"{_OWNER}: every must be the shorter time and the longer, not {every!r}")


class _Chaos:
    """One call of `chaos`."""

    def __init__(
        self,
        handle: SystemHandle,
        seed: int,
        every: tuple[float, float],
        choose: Callable[[ChildInfo], bool],
        rounds: int,
    ) -> None:
        self._handle = handle
        self._seed = seed
        self._every = every
        self._choose = choose
        self._rounds = rounds
        self._round = 0
        self._random = random.Random(seed)
        self._since = trio.current_time()
        self._deeds: list[Event] = []

    async def run(self) -> Record:
        try:
            for number in range(1, self._rounds + 1):
                self._round = number
                await self._strike(await self._next_victim())
            await self._until_calm()
        except trio.Cancelled:
            failure = self._failure()
            if failure is None:
                raise
            raise self._failed(
                f"{self._handle.path!r} has failed: {summary_of(failure)}"
            ) from failure
        return Record(self._deeds, self._since)

    # One round

    async def _next_victim(self) -> str:
        with trio.move_on_after(MOST_SECONDS):
            while True:
                await self._pause()
                running = self._nodes("running")
                if victims := [node.path for node in running if self._choose(node)]:
                    return self._random.choice(victims)
        raise self._failed(f"no child that may be hit was running for {MOST_SECONDS:g} s")

    async def _pause(self) -> None:
        await trio.sleep(self._random.uniform(*self._every))

    async def _strike(self, path: str) -> None:
        if self._random.random() < 0.5:
            self._crash(path)
        else:
            await self._restart(path)

    def _nodes(self, *statuses: Status) -> list[Snapshot]:
        """All below the handle that are in one of these."""
        if self._handle.status in ("done", "stopped"):
            raise self._failed(f"{self._handle.path!r} is {self._handle.status}")
        below = list(self._handle.snapshot().walk())[1:]
        return [node for _, node in below if node.status in statuses]

    def _crash(self, path: str) -> None:
        self._deeds.append(ChildCrashed(self._round, trio.current_time(), path, time=time.time()))
        where = f"round {self._round} of chaos(seed={self._seed})"
        child_at(self._handle, path).fail(ChaosCrash(where))

    async def _restart(self, path: str) -> None:
        now, wall, refused = trio.current_time(), time.time(), ""
        with trio.move_on_after(MOST_SECONDS) as patience:
            try:
                await child_at(self._handle, path).restart()
            except SpryError as error:
                refused = type(error).__name__
        self._deeds.append(ChildRestarted(self._round, now, path, refused, time=wall))
        if patience.cancelled_caught:
            raise self._failed(f"{path!r} is not up again {MOST_SECONDS:g} s after its restart")

    # The end

    async def _until_calm(self) -> None:
        """Wait until all that has gone down is up again, or down for good."""
        down: list[Snapshot] = []
        with trio.move_on_after(MOST_SECONDS):
            while True:
                # what is up has a moment to go down again, and an incident to be closed
                await self._pause()
                down = self._nodes("starting", "stopping", "restarting")
                if not down:
                    return
                with suppress(SupervisorStopped, ChildNotFound):
                    await child_at(self._handle, down[0].path).wait_started()
        paths = ", ".join(repr(node.path) for node in down)
        raise self._failed(f"{MOST_SECONDS:g} s after the end not up again: {paths}")

    def _failure(self) -> BaseException | None:
        """What the tree has failed with, if it has: then its end is what cancels us."""
        report = self._handle.last_report
        if report is None or not report.failed or self._handle.status != "stopped":
            return None
        return report.exception

    def _failed(self, what: str) -> ChaosFailure:
        where = f"chaos(seed={self._seed}), round {self._round} of {self._rounds}"
        done = Record(self._deeds, self._since).last_lines()
        lines = [f"{where}: {what}", "what it did:", *(f"  {line}" for line in done)]
        return ChaosFailure("\n".join(lines))
