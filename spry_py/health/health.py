"""What a tree is like, in a word for those outside that start, stop and call the program."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias

from spry_py import ChildInfo, ChildNotFound, DynamicSupervisor, SystemHandle
from spry_py.lowlevel import (
    check_answer,
    check_callable,
    check_seconds,
    check_type,
    clock_of,
    summary_of,
    token_of,
)

from .turns import Look

_FINE: Final = ("running", "done", "ignored", "waiting", "stopped")
_LOOKED_INTO: Final = ("running", "starting")
# a subsystem, to be looked into
_Below: TypeAlias = tuple[SystemHandle, ChildInfo]
_ENDING: Final = ("stopping", "stopped", "done")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What holds, and its reasons: a line for each thing that is wrong, none where nothing is."""

    ok: bool
    reasons: tuple[str, ...] = ()


class Health:
    """How a running tree is: whether it is alive, has started, is ready, and can take more.

    All four are asked at any moment and from any thread, and wait for nothing. Asking costs ten or
    twenty milliseconds for each thousand children that count; a child of a `DynamicSupervisor`
    costs nothing, unless ``counts`` is given. In between, two short calls for each turn of the
    event loop.

    ``counts`` returns of a `ChildInfo` whether the program is of no use without that child; by
    default all children count but temporary ones and those of a `DynamicSupervisor`, with all
    below them. ``steady``: so many seconds a child must have been running after a restart to be
    fine again; one that fails every 0.1 s is running whenever it is looked at. ``grace``: for so
    many seconds a ready tree stays ready whatever is wrong. Both are seconds on trio's clock.
    ``loop``: within so many seconds of real time the event loop must have turned.

    ``root`` is a root or any other supervisor. Raises `TypeError` or `ValueError` for bad values.
    After the probes of Kubernetes.
    """

    def __init__(
        self,
        root: SystemHandle,
        *,
        counts: Callable[[ChildInfo], bool] | None = None,
        steady: float = 1.0,
        grace: float = 0.0,
        loop: float = 10.0,
    ) -> None:
        check_type("Health", "root", root, SystemHandle, "the handle of a supervisor")
        check_callable("Health", "counts", counts, "a function of a ChildInfo, or None")
        check_seconds("Health", "steady", steady)
        check_seconds("Health", "grace", grace)
        check_seconds("Health", "loop", loop, zero=False)
        self.root = root
        self._counts = counts
        self._steady = steady
        self._grace = grace
        self._loop = loop
        self._clock = clock_of(root)
        self._look = Look(token_of(root))
        # since when something has been wrong, at every look; and whether once nothing was
        self._wrong_since = math.inf
        self._was_ready = False
        self._leaves = False

    def live(self) -> Verdict:
        """Whether the event loop has turned within ``loop`` seconds, and nothing else.

        Restarting children is the tree's own work: a program whose database is down is not helped
        by a restart, and where everything that uses it is restarted, one fault becomes many.
        """
        if self._look.is_over:
            return Verdict(False, ("the event loop has ended",))
        blocked = self._look.blocked
        if blocked > self._loop:
            return Verdict(False, (f"the event loop has not turned for {blocked:.3g} s",))
        return Verdict(True)

    def started(self) -> Verdict:
        """Whether the whole tree has come up; from then on that stays so."""
        info = self.root.info()
        report = info.last_report
        if info.started_at is not None or (report is not None and report.started_at is not None):
            return Verdict(True)
        return Verdict(False, (f"{info.path} is {info.status}",))

    def ready(self) -> Verdict:
        """Whether the tree does what it is there for.

        It does if it is not stopping and each child that counts is running, done, ignored, waiting
        for its turn, or terminated by hand; and, once it has been restarted, ``steady`` seconds
        old. A tree that was ready stays so until something has been wrong for ``grace`` seconds,
        but for a stop, which counts at once. What ``counts`` raises comes out.
        """
        info, now = self.root.info(), self._clock.current_time()
        if self._leaves or info.status in _ENDING:
            return Verdict(
                False, (f"{info.path} is {_ENDING[0] if self._leaves else info.status}",)
            )
        wrong = list(self._wrong(info, now))
        if not wrong:
            self._was_ready, self._wrong_since = True, math.inf
            return Verdict(True)
        onset = min(since for since, _ in wrong)
        self._wrong_since = min(self._wrong_since, onset)
        # what was up before anything went wrong was ready then, although no one looked
        was_ready = self._was_ready or (info.started_at is not None and info.started_at < onset)
        if was_ready and now - self._wrong_since < self._grace:
            return Verdict(True, tuple(reason for _, reason in wrong))
        return Verdict(False, tuple(reason for _, reason in wrong))

    def degraded(self) -> Verdict:
        """Whether nothing has been lost, and there is room for more: not ``ok`` if it is degraded.

        It is degraded if a breaker has used its budget up to one restart or none; if a child has
        been discarded; or if one has been terminated by hand. Of those that count.
        """
        reasons: list[str] = []
        info = self.root.info()
        for child in (info, *self._counted(info)):
            reasons.extend(_degraded(child))
        return Verdict(not reasons, tuple(reasons))

    def summary(self) -> str:
        """How many children are alive, in words: all of each supervisor that counts."""
        walked = self._walk(self.root.info())
        active = sum(handle.count_children().active for handle, _ in walked)
        return "1 child is running" if active == 1 else f"{active} children are running"

    def leave(self) -> None:
        """From now on it is not ready: it is about to stop, and goes on serving for a while.

        For a program that lets its callers go elsewhere first. ``run(..., drain=...)`` does this.
        """
        self._leaves = True

    # Looking

    def _wrong(self, info: ChildInfo, now: float) -> Iterator[tuple[float, str]]:
        """What is wrong, each with its reason and the moment since which it has been."""
        for child in (info, *self._counted(info)):
            since = child.last_report.ended_at if child.last_report is not None else now
            is_fine = child.status in _FINE if child is not info else child.status == "running"
            if not is_fine:
                yield since, f"{child.path} is {child.status}"
            elif child.status == "running" and _was_restarted(child):
                age = now - (child.started_at if child.started_at is not None else now)
                if age < self._steady:
                    yield since, f"{child.path} was restarted {age:.3g} s ago"

    def _counted(self, info: ChildInfo) -> Iterator[ChildInfo]:
        """The children that count, in start order, those of a subsystem behind it."""
        for _, children in self._walk(info):
            yield from filter(self._does_count, children)

    def _walk(self, info: ChildInfo) -> Iterator[tuple[SystemHandle, list[ChildInfo]]]:
        """The supervisors that are up, each with its children; those that never count left out."""
        pending: list[_Below] = [(self.root, info)] if info.status in _LOOKED_INTO else []
        while pending:
            handle, own = pending.pop()
            if self._counts is None and isinstance(own.child.start, DynamicSupervisor):
                yield handle, []
                continue
            children = handle.which_children()
            if self._counts is None:
                children = [child for child in children if child.restart != "temporary"]
            yield handle, children
            below = (child for child in reversed(children) if child.status in _LOOKED_INTO)
            for child in below:
                pending.extend(_inside(handle, child))

    def _does_count(self, child: ChildInfo) -> bool:
        counts = self._counts
        return counts is None or check_answer("Health: counts", counts(child))


def _inside(handle: SystemHandle, child: ChildInfo) -> Iterator[_Below]:
    if child.kind != "supervisor":
        return
    try:
        yield handle.system(child.key), child
    except ChildNotFound:
        # asked from another thread: it has gone since
        return


def _was_restarted(child: ChildInfo) -> bool:
    """By its supervisor or by hand; a first start that was tried several times is no restart."""
    return child.restarts > 0 or child.by_hand > 0


def _degraded(child: ChildInfo) -> Iterator[str]:
    budget = child.budget
    # a breaker that never had more than one restart to give has lost nothing yet
    if budget is not None and budget.left <= 1 and budget.left < budget.of:
        within = f" within {budget.within:g} s" if budget.within < math.inf else ""
        yield f"{child.path}: {budget.left:g} of {budget.of:g} restarts{within} left"
    if child.status == "stopped":
        yield f"{child.path} was terminated by hand"
    if child.status == "done" and _was_discarded(child):
        report = child.last_report
        why = report.exception if report is not None else None
        yield f"{child.path} was discarded" + (f": {summary_of(why)}" if why is not None else "")


def _was_discarded(child: ChildInfo) -> bool:
    """It is done, but not since it had done its work: a permanent one never has."""
    report = child.last_report
    return child.restart == "permanent" or (report is not None and report.failed)
