"""The signals of a program that is one tree."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Self

import trio

from spry_py._kernel.shutdown import stuck_below
from spry_py._kernel.tree import Tree

from .dump import print_trees

if TYPE_CHECKING:
    from types import FrameType

    from spry_py.telemetry import Exporting

    from .service import Service

# not there on Windows
_HANGUP: Final = getattr(signal, "SIGHUP", None)
_SHOW: Final = getattr(signal, "SIGUSR1", None)
_ENDING: Final = tuple(filter(None, (signal.SIGINT, signal.SIGTERM, _HANGUP)))


class Signals:
    """The signals that end a program, while a tree runs: stop, then abort, then leave.

    SIGHUP stops as the others do, but is never counted as a second one: a closing terminal sends it
    twice; of a service that can be reloaded it is the wish for that. The first SIGTERM lets a
    service drain, and what comes meanwhile counts as the first. What was ignored before stays
    ignored (``nohup``, ``&``), but for SIGTERM and a wish to reload.

    SIGUSR1 shows where everything stands, unless the program has a use for it.
    """

    def __init__(self, before_exit: Callable[[], object] = lambda: None) -> None:
        # written by `run_tree`: the tree while it runs, what has to get out before the program, and
        # who else is to know
        self.tree: Tree | None = None
        self.exporting: Exporting | None = None
        self.service: Service | None = None
        # how many signals have come, and the number of the last
        self.count = 0
        self.last = 0
        # the first one has come, and the tree goes on for a while
        self._drains = False
        self._before_exit = before_exit
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        try:
            for number in _ENDING:
                if self._is_wanted(number) or signal.getsignal(number) != signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._take)
            if _SHOW is not None and not _is_in_use(_SHOW):
                self._before[_SHOW] = signal.signal(_SHOW, _show)
        except ValueError:
            pass  # not the main thread: signals are the business of others
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    def stop(self) -> None:
        """Stop the tree in order, unless it has ended by now."""
        self._drains = False
        if self.tree is not None:
            self.tree.incarnation.stop()
            if self.service is not None:
                self.service.stops()

    def _is_wanted(self, number: int) -> bool:
        return number == signal.SIGTERM or (number == _HANGUP and self._reloads)

    @property
    def _reloads(self) -> bool:
        return self.service is not None and self.service.reload

    def _take(self, number: int, frame: FrameType | None) -> None:
        if number == _HANGUP and self._reloads:
            self._ask_reload()
            return
        has_drained, self._drains = self._drains, False
        if has_drained:
            self.count = 0
        if self.count and number == _HANGUP:
            return
        self.count += 1
        self.last = number
        if self.count > 2:
            self._leave(frame)  # pragma: no cover - see there
        elif self.tree is None:
            pass  # it is not there yet, or no more
        elif self.count == 1:
            is_first = number == signal.SIGTERM and not has_drained
            self._drains = is_first and self._may_drain(self.tree)
            self.tree.token.run_sync_soon(self._drain if self._drains else self.stop)
        else:
            self.tree.token.run_sync_soon(self.tree.incarnation.abort)

    def _ask_reload(self) -> None:
        if self.tree is not None and self.service is not None:
            self.tree.token.run_sync_soon(self.service.ask_reload)

    # Draining

    def _may_drain(self, tree: Tree) -> bool:
        """Whether anybody could be served meanwhile."""
        is_draining = self.service is not None and self.service.drain > 0
        root = tree.root
        return is_draining and root is not None and root.status == "running"

    def _drain(self) -> None:
        if self._drains and self.tree is not None and self.service is not None:
            until = trio.current_time() + self.service.drain
            self.service.leaves(until)
            self.tree.alarm.at(until, self._drained)

    def _drained(self) -> None:
        if self._drains:
            self.stop()

    def _leave(self, frame: FrameType | None) -> None:  # pragma: no cover - nothing is measured
        with suppress(Exception):  # there may be no reader any more
            if self.tree is not None:
                _print_stuck(self.tree)
            print("the program stands at", file=sys.stderr)
            traceback.print_stack(frame, file=sys.stderr)
        if self.count == 3:  # at the next one not even for that
            self._before_exit()
            if self.exporting is not None:
                self.exporting.shutdown()
        os._exit(128 + self.last)


def _print_stuck(tree: Tree) -> None:  # pragma: no cover - nothing is measured, as it leaves
    for path, stack in stuck_below(tree.incarnation):
        print(f"{path} does not end; it sits at\n{stack}", file=sys.stderr)
    sys.stderr.flush()


def _is_in_use(number: int) -> bool:
    """Whether the program has a handler; one of `faulthandler` is seen by Linux alone."""
    if signal.getsignal(number) != signal.SIG_DFL:
        return True
    with suppress(OSError, ValueError), open("/proc/self/status", encoding="ascii") as status:
        caught = next(line for line in status if line.startswith("SigCgt:"))
        return bool(int(caught.split()[1], 16) >> (number - 1) & 1)
    return False


def _show(number: int, frame: FrameType | None) -> None:
    with suppress(Exception):  # it is only to be looked at
        print_trees(frame)
