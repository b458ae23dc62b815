"""Exceptions as somebody somewhere has written them: each is odd in one way of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

MAKERS: dict[str, Callable[[], Exception]] = {}


def _odd(kind: type[Exception]) -> type[Exception]:
    MAKERS[kind.__name__] = kind
    return kind


@_odd
@dataclass(frozen=True)
class Frozen(Exception):
    """Refuses each attribute, those that Python itself has for it included."""

    thread: str = "t"


@_odd
@dataclass
class Unhashable(Exception):
    """Has no hash, since it is compared by its fields."""

    thread: str = "t"


@_odd
class Wordless(Exception):
    """Has a `str` that fails."""

    def __str__(self) -> str:
        raise LookupError("no words")


@_odd
class Faceless(Exception):
    """Has a `repr` that fails, and no `str` of its own."""

    def __repr__(self) -> str:
        raise LookupError("no face")


@_odd
class Numeric(Exception):
    """Gives a number where words are asked for."""

    def __str__(self) -> str:
        number: Any = 7
        return number  # type: ignore[no-any-return]

    __repr__ = __str__


@_odd
class Falsy(Exception):
    """Is false."""

    def __bool__(self) -> bool:
        return False


@_odd
class Empty(Exception):
    """Is false, having no length."""

    def __len__(self) -> int:
        return 0


@_odd
class Undecided(Exception):
    """Is neither true nor false."""

    def __bool__(self) -> bool:
        raise LookupError("ask somebody else")


@_odd
class Incomparable(Exception):
    """May not be compared with anything."""

    def __eq__(self, other: object) -> bool:
        raise LookupError("incomparable")

    __hash__ = Exception.__hash__


@_odd
class Linked(Exception):
    """Has ideas of its own about where it comes from."""

    @property
    def __cause__(self) -> Any:  # type: ignore[override]
        raise LookupError("no cause")

    @property
    def __context__(self) -> Any:  # type: ignore[override]
        raise LookupError("no context")

    @property
    def __traceback__(self) -> Any:  # type: ignore[override]
        raise LookupError("no traceback")

    def with_traceback(self, tb: Any) -> Any:
        raise LookupError("no traceback")


@_odd
class Nameless(Exception):
    """Says nothing sensible about where it is defined."""

    __module__ = 7  # type: ignore[assignment]


@_odd
class Careful(Exception):
    """Cannot be made without a value, and so it cannot be copied."""

    def __new__(cls, *args: Any) -> Any:
        return super().__new__(cls, "careful")

    def __init__(self, *args: Any) -> None:
        assert not args, "made once more"


def _grouped() -> Exception:
    return ExceptionGroup("odd ones", [maker() for maker in MAKERS.values()])


def _chained() -> Exception:
    top: Exception = Wordless()
    for _ in range(3000):
        above = Exception("above")
        above.__cause__ = top
        top = above
    return top


ALL: dict[str, Callable[[], Exception]] = {**MAKERS, "Grouped": _grouped, "Chained": _chained}


def root_of(error: BaseException) -> BaseException:
    """The last of those it was raised from."""
    while (cause := BaseException.__dict__["__cause__"].__get__(error)) is not None:
        error = cause
    return error


def name_of(error: BaseException) -> str:
    """The name of its class."""
    return type(error).__name__
