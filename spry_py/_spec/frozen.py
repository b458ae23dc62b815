"""Frozen objects: how their slots are written, and whether two of them are the same."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final


def setter(owner: type, slot: str) -> Callable[[Any, Any], None]:
    """A function ``(instance, value)`` that sets a slot whatever ``__setattr__`` says.

    As safe as ``object.__setattr__`` and several times as fast, for objects made on hot paths.
    """
    write: Callable[[Any, Any], None] = owner.__dict__[slot].__set__
    return write


def are_same(one: tuple[object, ...], other: tuple[object, ...]) -> bool:
    """Whether two rows of anybody's values are equal, as far as these can tell.

    Values whose ``==`` raises, or answers with something that is neither true nor false, such as an
    array, are not, and neither are lists that hold them. Two `functools.partial` are equal if their
    functions and arguments are.
    """
    return len(one) == len(other) and all(map(_is_same, one, other))


def _is_same(one: object, other: object) -> bool:
    if one is other:
        return True
    try:
        if type(one) is type(other) and type(one) in _PARTS:
            parts = _PARTS[type(one)]
            return are_same(parts(one), parts(other))
        answer: object = one == other
        # what stands for a question itself, as in a query, is true by having no truth of its own
        return answer is True or (hasattr(type(answer), "__bool__") and bool(answer))
    except Exception:
        return False


def _parts_of_partial(function: partial[Any]) -> tuple[object, ...]:
    names = sorted(function.keywords)
    named = [function.keywords[name] for name in names]
    return function.func, len(function.args), *function.args, *names, *named


_PARTS: Final[dict[type, Callable[[Any], tuple[object, ...]]]] = {
    partial: _parts_of_partial,
    list: tuple,
    tuple: tuple,
}
