"""Writing the slots of frozen objects, where they are made."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def setter(owner: type, slot: str) -> Callable[[Any, Any], None]:
    """A function ``(instance, value)`` that sets a slot whatever ``__setattr__`` says.

    As safe as ``object.__setattr__`` and several times as fast, for objects made on hot paths.
    """
    write: Callable[[Any, Any], None] = owner.__dict__[slot].__set__
    return write
