"""Where a thread stands: the stack of another thread, as text."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from itertools import dropwhile, takewhile
from types import FrameType

from spry_py.lowlevel import is_own


def stack_of_thread(ident: int | None, is_above: Callable[[FrameType], bool]) -> str:
    """The lines of a traceback, the innermost frame last; nothing if there is no such thread.

    They begin below the innermost frame that ``is_above``, and below what is this package's own.
    """
    frames = sys._current_frames()  # pyright: ignore[reportPrivateUsage] - public, for debuggers
    innermost = frames.get(ident) if ident is not None else None
    called = takewhile(lambda pair: not is_above(pair[0]), traceback.walk_stack(innermost))
    outermost_first = reversed(list(called) if innermost is not None else [])
    theirs = dropwhile(lambda pair: is_own(pair[0].f_code), outermost_first)
    return "".join(traceback.StackSummary.extract(theirs).format())
