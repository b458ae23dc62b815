"""Tracebacks as text. A child that crashes again and again crashes in the same place.

Finding the line and the columns of a frame is most of the price of a traceback, and comes out the
same each time: so the text of a place is kept, as long as there are not too many of them.
"""

from __future__ import annotations

import sys
import traceback
from types import CodeType, TracebackType
from typing import Final

_HEADER: Final = "Traceback (most recent call last):\n"
# Deeper than that it may be a recursion, whose lines `traceback` counts instead of repeating them.
_DEEPEST: Final = 16
_MOST_PLACES: Final = 512

# The code is kept with the text, since its number would be given to another one after its end.
_places: dict[tuple[int, int], tuple[CodeType, str]] = {}


def traceback_of(exception: BaseException, *, chain: bool = True) -> str:
    """The text that `traceback` makes of an exception, with its causes if ``chain`` says so."""
    frames: list[TracebackType] = []
    frame = exception.__traceback__
    while frame is not None and len(frames) <= _DEEPEST:
        frames.append(frame)
        frame = frame.tb_next
    if frame is not None or _is_special(exception, chain):
        return "".join(traceback.format_exception(exception, chain=chain))
    last = traceback.format_exception_only(exception)
    return "".join((_HEADER, *map(_text_of, frames), *last) if frames else last)


def _is_special(exception: BaseException, chain: bool) -> bool:
    linked = exception.__cause__ or exception.__context__
    is_group = isinstance(exception, BaseExceptionGroup)
    return is_group or (chain and linked is not None) or hasattr(sys, "tracebacklimit")


def _text_of(frame: TracebackType) -> str:
    code = frame.tb_frame.f_code
    place = id(code), frame.tb_lasti
    known = _places.get(place)
    if known is None:
        alone = TracebackType(None, frame.tb_frame, frame.tb_lasti, frame.tb_lineno)
        known = code, "".join(traceback.format_tb(alone))
        if len(_places) >= _MOST_PLACES:
            _places.clear()
        _places[place] = known
    return known[1]
