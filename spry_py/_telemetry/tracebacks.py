"""Tracebacks as text. A child that crashes again and again crashes in the same place.

Finding the line and the columns of a frame is most of the price of a traceback, and comes out the
same each time: so the text of a place is kept, as long as there are not too many of them.
"""

from __future__ import annotations

import sys
import traceback
from textwrap import indent
from types import CodeType, TracebackType
from typing import Any, Final, cast

from spry_py._spec.errors import (
    all_linked,
    cause_of,
    is_group,
    leaves_of,
    linked_to,
    place_of,
    words,
    writable,
)

from .attributes import full_name

_HEADER: Final = "Traceback (most recent call last):\n"
# Deeper than that it may be a recursion, whose lines `traceback` counts instead of repeating them.
_DEEPEST: Final = 16
_MOST_PLACES: Final = 512

# The code is kept with the text, since its number would be given to another one after its end.
_places: dict[tuple[int, int], tuple[CodeType, str]] = {}


def traceback_of(exception: BaseException, *, chain: bool = True) -> str:
    """The text that `traceback` makes of an exception, with its causes if ``chain``.

    It can be written anywhere: a single letter that UTF-8 cannot encode would cost a collector all
    spans that are sent with it.
    """
    return writable(_whole_text_of(exception, chain))


def _whole_text_of(exception: BaseException, chain: bool) -> str:
    if not chain and not issubclass(type(exception), BaseExceptionGroup | SyntaxError):
        # `traceback` would go through the whole chain all the same
        return _alone(exception)
    if not is_plain(exception):
        return _by_hand(exception, chain)
    if _is_special(exception, chain):
        return "".join(traceback.format_exception(exception, chain=chain))
    if not (issubclass(type(exception), _HINTED) or hasattr(exception, "__notes__")):
        return _alone(exception)
    frames = _frames_of(exception)
    last = traceback.format_exception_only(exception)
    return "".join((_HEADER, frames, *last) if frames else last)


# to whose words `traceback` adds something, such as what else may have been meant
_HINTED: Final = (SyntaxError, NameError, AttributeError, ImportError)


def _is_special(exception: BaseException, chain: bool) -> bool:
    return is_group(exception) or (chain and linked_to(exception) is not None)


def is_plain(exception: BaseException) -> bool:
    """Whether `traceback` can make a text of an exception.

    It asks for the truth of all that it is linked to, and reads attributes, which some do not bear.
    """
    return all(map(_is_plain_type, map(type, all_linked(exception))))


def _is_plain_type(kind: type) -> bool:
    for above in kind.__mro__:
        if above not in _KNOWN and not _ASKED.isdisjoint(above.__dict__):
            return False
    return True


_KNOWN: Final = (object, BaseException, Exception, BaseExceptionGroup, ExceptionGroup)
_ASKED: Final = frozenset(
    (
        *("__bool__", "__len__", "__getattribute__", "__getattr__", "__notes__", "exceptions"),
        *("__cause__", "__context__", "__suppress_context__", "__traceback__"),
    )
)


def _by_hand(exception: BaseException, chain: bool) -> str:
    """The text of any exception, of which nothing is asked but its words."""
    parts: list[str] = []
    seen: set[int] = set()
    item: BaseException | None = exception
    while item is not None and id(item) not in seen:
        seen.add(id(item))
        parts.append(_alone(item))
        cause = cause_of(item)
        item = linked_to(item) if chain else None
        if item is not None and id(item) not in seen:
            parts.append(_DURING if cause is None else _DIRECT)
    return "".join(reversed(parts))


_DIRECT: Final = "\nThe above exception was the direct cause of the following exception:\n\n"
_DURING: Final = "\nDuring handling of the above exception, another exception occurred:\n\n"


def _alone(exception: BaseException) -> str:
    frames = _frames_of(exception)
    message = words(str, exception)
    name = full_name(type(exception)).removeprefix("__main__.")
    text = f"{name}: {message}\n" if message else f"{name}\n"
    text += "".join(f"{words(str, note)}\n" for note in _notes_of(exception))
    if is_group(exception):
        text += "".join(indent(_alone(leaf), "  | ") for leaf in leaves_of(exception))
    return f"{_HEADER}{frames}{text}" if frames else text


def _notes_of(exception: BaseException) -> list[object]:
    try:
        notes: Any = getattr(exception, "__notes__", None)
    except Exception:
        return []
    return cast("list[object]", notes) if isinstance(notes, list) else []


def _frames_of(exception: BaseException) -> str:
    frames: list[TracebackType] = []
    frame = first = place_of(exception)
    while frame is not None and len(frames) <= _DEEPEST:
        frames.append(frame)
        frame = frame.tb_next
    # `hasattr` of a module takes half as long as all the rest, if it has no such attribute
    if frame is not None or "tracebacklimit" in vars(sys):
        return "".join(traceback.format_tb(first))
    return "".join(map(_text_of, frames))


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
