"""Refusals of bad values, where they are written: which field, which value, what is allowed."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Awaitable, Collection
from contextlib import AbstractAsyncContextManager
from types import UnionType
from typing import Any, ClassVar, NoReturn, TypeVar, cast

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


def check_type(
    owner: str, field: str, value: object, kind: type[Any] | UnionType, allowed: str
) -> None:
    """Accept an instance of ``kind``; ``allowed`` is that in words."""
    if not isinstance(value, kind):
        raise TypeError(f"{owner}: {field} must be {allowed}, not {value!r}")


def check_callable(owner: str, field: str, value: object, allowed: str) -> None:
    """Accept ``None`` or something that can be called."""
    if value is not None and not callable(value):
        raise TypeError(f"{owner}: {field} must be {allowed}, not {value!r}")


def check_async_function(
    owner: str, field: str, value: Any, *, plain: bool = False, other: str = ""
) -> None:
    """Accept an async function or what looks like one; refuse the usual slips by name.

    With ``plain`` any function that may hand back a coroutine, as ``nursery.start_soon`` does.
    ``other`` has in words what else the caller accepts.
    """
    if inspect.iscoroutine(value):
        value.close()
        raise TypeError(
            f"{owner}: {field} must be an async function, not the coroutine object {value!r}; "
            "write the function and its arguments apart, without calling it"
        )
    if not callable(value):
        raise TypeError(f"{owner}: {field} must be an async function{other}, not {value!r}")
    if any(map(_is_generator, (value, value.__call__))):
        raise TypeError(
            f"{owner}: {field} must be an async function, but {value!r} is a generator: it has a "
            "yield in it; await what it does, and return the value"
        )
    if inspect.isclass(value) and not hasattr(value, "__await__"):
        raise TypeError(
            f"{owner}: {field} must be an async function, not the class {value!r}; write "
            f"{value.__name__}(...) if an instance is meant"
        )
    if _says_none(value) or not (plain or _may_hand_back(value)):
        raise TypeError(f"{owner}: {field} must be an async function, but {value!r} is a sync one")


def check_exception(owner: str, exception: object) -> None:
    """Accept an instance of an exception that makes a child count as failed."""
    if not isinstance(exception, Exception):
        raise TypeError(f"{owner}() takes an exception (an instance), not {exception!r}")


def check_answer(owner: str, answer: object) -> bool:
    """The truth of what a user's function returned.

    Raises `TypeError` for an awaitable and for a ``str``, which are nearly always true by mistake.
    """
    if inspect.isawaitable(answer):
        if inspect.iscoroutine(answer):
            answer.close()
        raise TypeError(f"{owner} must return a bool, not {answer!r}; it may not be async")
    if isinstance(answer, str):
        raise TypeError(f"{owner} must return a bool, not {answer!r}")
    return bool(answer)


def _is_generator(function: Any) -> bool:
    return inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)


def _may_hand_back(function: Any) -> bool:
    """Whether it may return a coroutine: it wraps another function, or its annotation names one."""
    if not inspect.isfunction(function) or inspect.iscoroutinefunction(function):
        return True
    annotation = str(function.__annotations__.get("return", ""))
    is_named = any(word in annotation for word in ("Awaitable", "Coroutine"))
    return is_named or hasattr(function, "__wrapped__")


def _says_none(function: Any) -> bool:
    """Whether its annotation leaves no doubt: a plain function may hand back a coroutine else."""
    while isinstance(function, functools.partial):
        function = function.func
    if not (inspect.isfunction(function) or inspect.ismethod(function)):
        return False
    if inspect.iscoroutinefunction(function) or hasattr(function, "__wrapped__"):
        return False
    return function.__annotations__.get("return", ...) in (None, "None", type(None))


def check_awaitable(what: str, function: object, result: Any) -> Any:
    """Accept what can be awaited, of a function that was let through above."""
    if not isinstance(result, Awaitable):
        raise TypeError(f"{what} must be async, but {function!r} returned {result!r}")
    return cast("Awaitable[object]", result)


def check_no_class(owner: str, field: str, value: object, instead: str) -> None:
    """Refuse a class where an instance belongs: the call would make one, and mean nothing.

    ``{}`` in ``instead`` stands for its name.
    """
    if inspect.isclass(value):
        name = value.__name__
        raise TypeError(
            f"{owner}: {field} must not be the class {name}; write {instead.format(name)}"
        )


def check_breaker(owner: str, breaker: object) -> None:
    """Accept a breaker factory; ``RateLimited`` without its parentheses makes no breaker."""
    if not callable(breaker):
        raise TypeError(
            f"{owner}: breaker must be a breaker factory such as RateLimited(), not {breaker!r}"
        )
    if not any(hasattr(breaker, name) for name in ("may_restart", "__getattr__")):
        check_no_class(owner, "breaker", breaker, "{}(...), a factory that makes breakers")
