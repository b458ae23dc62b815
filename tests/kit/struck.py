"""Ctrl-C at a chosen instant: programs struck at each step that the library takes for them."""

from __future__ import annotations

import gc
import logging
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, TypeAlias

import trio
from trio._core._ki import ki_protection_enabled
from trio.testing import MockClock

import spry_py

LIBRARY = str(Path(spry_py.__file__).parent)
Program: TypeAlias = Callable[[], Awaitable[None]]
# where a frame of the library stands
Place: TypeAlias = tuple[CodeType, int]


class Hung(Exception):
    """The program has not ended."""


class Striker:
    """A tracer that sends SIGINT at the first moment which is at none of the places ``known``.

    Where Ctrl-C may land each opcode is a moment; where trio holds it back, each line.
    """

    def __init__(self, known: set[Place], program: Program, *, strikes: bool = True) -> None:
        self.known = known
        self.struck = ""
        self._strikes = strikes
        self._user: str = program.__code__.co_filename

    def __call__(self, frame: FrameType, event: str, argument: object) -> Any:
        if not frame.f_code.co_filename.startswith(LIBRARY) or not self._is_callers(frame):
            return None
        frame.f_trace_opcodes = not ki_protection_enabled(frame)
        return self._step

    def _is_callers(self, frame: FrameType) -> bool:
        """Whether the program, or a child of it, has called this in its own task."""
        at: FrameType | None = frame
        while at is not None and at.f_code.co_name != "unrolled_run":
            if at.f_code.co_filename == self._user:
                return True
            at = at.f_back
        return False

    def _step(self, frame: FrameType, event: str, argument: object) -> Any:
        if event in ("opcode", "line"):
            place = frame.f_code, frame.f_lasti
            is_new = place not in self.known
            self.known.add(place)
            # Once: a frame of this run that is thrown away in a later one still calls this. Nor in
            # the task of a child, for which a caller's task may have made the first step.
            if is_new and self._strikes and not self.struck and self._is_callers(frame):
                self.struck = f"{frame.f_code.co_qualname}, line {frame.f_lineno}"
                sys.settrace(None)
                signal.raise_signal(signal.SIGINT)
        return self._step


@contextmanager
def ends_within(seconds: float) -> Iterator[None]:
    """Break off even a run of trio that waits for ever."""

    def break_off(*_: object) -> None:
        raise Hung

    before = signal.signal(signal.SIGALRM, break_off)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def places_in(program: Program) -> set[Place]:
    """All the places that it comes to when nothing strikes it."""
    striker = Striker(set(), program, strikes=False)
    assert _run(program, striker) is None
    return striker.known


def strike_everywhere(program: Program, known: AbstractSet[Place] = frozenset()) -> list[str]:
    """Run it again and again, each time struck elsewhere; return where it ended in another way."""
    places = set(known)
    wrong: list[str] = []
    while True:
        striker = Striker(places, program)
        ended = _run(program, striker)
        if not striker.struck:
            assert ended is None, f"not struck at all, it ended with {ended!r}"
            gc.collect()  # what was thrown away half-way is this test's, and no later one's
            return wrong
        if type(ended) is not KeyboardInterrupt:
            wrong.append(f"{striker.struck}: {ended!r}")


def _run(program: Program, striker: Striker) -> BaseException | None:
    tracer = sys.gettrace()
    logging.disable()  # hundreds of runs, each with its story
    try:
        with ends_within(30):
            # Python 3.12 tells of opcodes only if some frame has asked for them by now
            sys._getframe().f_trace_opcodes = True
            sys.settrace(striker)
            trio.run(program, clock=MockClock(autojump_threshold=0))
    except BaseException as exception:
        return exception
    finally:
        sys.settrace(tracer)
        logging.disable(logging.NOTSET)
    return None
