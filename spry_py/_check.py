"""Refusals of bad values, where they are written: which field, which value, what is allowed."""

from __future__ import annotations

import inspect
import math
from collections.abc import Collection
from contextlib import AbstractAsyncContextManager
from typing import Any, ClassVar, NoReturn, TypeVar

T_co = TypeVar("T_co", covariant=True)


class Block(AbstractAsyncContextManager[T_co]):
    """What is good for ``async with`` alone: the usual slips are refused with what to write."""

    call: ClassVar[str]
    target: ClassVar[str]

    def _refuse(self, slip: str) -> NoReturn:
        raise TypeError(
            f"{slip} {self.call}(...): it is a block; write "
            f"`async with {self.call}(...) as {self.target}:`"
        )

    def __await__(self) -> NoReturn:
        self._refuse("await")

    def __aiter__(self) -> NoReturn:
        self._refuse("async for ... in")

    def __iter__(self) -> NoReturn:
        self._refuse("for ... in")

    def __enter__(self) -> NoReturn:
        self._refuse("with")

    def __exit__(self, *_: object) -> None:
        """There for `__enter__` to be asked."""


def check_seconds(owner: str, field: str, value: object, *, zero: bool = True) -> None:
    """Accept a number of seconds, ``inf`` included."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{owner}: {field} must be a number of seconds, not {value!r}")
    if math.isnan(value) or value < 0 or (value == 0 and not zero):
        least = "0 or more" if zero else "more than 0"
        raise ValueError(
            f"{owner}: {field} must be {least} seconds (inf is allowed), not {value!r}"
        )


def check_count(
    owner: str, field: str, value: object, *, infinite: bool = False, least: int = 0
) -> None:
    """Accept an integer from ``least`` on; ``inf`` too where ``infinite``."""
    allowed = f"an int, {least} or more" + (", or inf" if infinite else "")
    if infinite and isinstance(value, float) and value == math.inf:
        return
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{owner}: {field} must be {allowed}, not {value!r}")
    if value < least:
        raise ValueError(f"{owner}: {field} must be {allowed}, not {value!r}")


def check_choice(owner: str, field: str, value: object, choices: Collection[str]) -> None:
    """Accept one of a few words."""
    if not isinstance(value, str) or value not in choices:
        error = ValueError if isinstance(value, str) else TypeError
        allowed = ", ".join(repr(choice) for choice in choices)
        raise error(f"{owner}: {field} must be one of {allowed}, not {value!r}")


def check_key(owner: str, field: str, value: object) -> None:
    """Accept what can be a part of a path."""
    if type(value) is str and value and "/" not in value:
        return
    if not isinstance(value, str):
        raise TypeError(f"{owner}: {field} must be a str, not {value!r}")
    if not value or "/" in value:
        raise ValueError(f"{owner}: {field} must be non-empty and without '/', not {value!r}")


def check_callable(owner: str, field: str, value: object, allowed: str) -> None:
    """Accept ``None`` or something that can be called."""
    if value is not None and not callable(value):
        raise TypeError(f"{owner}: {field} must be {allowed}, not {value!r}")


def check_async_function(owner: str, field: str, value: Any) -> None:
    """Accept an async function or what looks like one; refuse the usual slips by name."""
    if inspect.iscoroutine(value):
        value.close()
        raise TypeError(
            f"{owner}: {field} must be an async function, not the coroutine object {value!r}; "
            "write the function and its arguments apart, without calling it"
        )
    if not callable(value):
        raise TypeError(f"{owner}: {field} must be an async function, not {value!r}")
    plain = inspect.isfunction(value) or inspect.ismethod(value)
    if plain and not inspect.iscoroutinefunction(value) and not _may_return_awaitable(value):
        raise TypeError(f"{owner}: {field} must be an async function, but {value!r} is a sync one")


def check_answer(owner: str, answer: object) -> bool:
    """The truth of an answer; a coroutine or a ``str`` would mean yes whatever it says."""
    if inspect.isawaitable(answer):
        if inspect.iscoroutine(answer):
            answer.close()
        raise TypeError(f"{owner} must return a bool, not {answer!r}; it may not be async")
    if isinstance(answer, str):
        raise TypeError(f"{owner} must return a bool, not {answer!r}")
    return bool(answer)


def _may_return_awaitable(function: Any) -> bool:
    """A plain function may hand back a coroutine (a wrapper, say); a generator never does.

    Only a function that says so, by wrapping another or by its annotation, is let through.
    """
    if inspect.isasyncgenfunction(function) or inspect.isgeneratorfunction(function):
        return False
    if hasattr(function, "__wrapped__") or inspect.ismethod(function):
        return True
    annotation = str(function.__annotations__.get("return", ""))
    return any(word in annotation for word in ("Awaitable", "Coroutine"))
