"""Whether the code of a function names `started`: then its start waits for that call."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import TypeAlias

# something that may be called, and the class on which it looks up what it calls on itself
_Named: TypeAlias = tuple[object, type | None]


def names(function: object, args: tuple[object, ...], goal: Callable[..., object]) -> bool:
    """Whether ``function``, or one that it is given or names itself, names ``goal``.

    Seen are functions, also nested ones, what they find as a global, in a closure, in a module or
    on the object that they are methods of, within the packages of ``function`` and ``args``. What
    is hidden behind other objects is not seen.
    """
    seen: set[_Named] = set()
    given = list(_unfolded((function, *args)))
    homes = {_package_of(one) for one in given}
    pending: list[_Named] = [_bound(one) for one in given]
    while pending:
        one, owner = pending.pop()
        if one is goal:
            return True
        if isinstance(one, FunctionType) and (one, owner) not in seen:
            seen.add((one, owner))
            if _package_of(one) in homes:
                pending.extend(_named_in(one, owner))
    return False


def _unfolded(given: tuple[object, ...]) -> Iterator[object]:
    for one in given:
        if isinstance(one, partial):
            yield from _unfolded((one.func, *one.args))
        else:
            yield one


def _package_of(one: object) -> str:
    home = getattr(one, "__module__", None) or type(one).__module__
    return str(home).partition(".")[0]


def _bound(one: object) -> _Named:
    """The function behind a method, or behind an object that is called as one."""
    if isinstance(one, MethodType):
        return one.__func__, type(one.__self__)
    if isinstance(one, FunctionType | type):
        return one, None
    return getattr(type(one), "__call__", None), type(one)  # noqa: B004 - it is looked into


def _named_in(function: FunctionType, owner: type | None) -> Iterator[_Named]:
    for code in _codes_of(function.__code__):
        found = [function.__globals__.get(name) for name in code.co_names]
        modules = [one for one in found if isinstance(one, ModuleType)]
        for name in code.co_names:
            found.extend(vars(module).get(name) for module in modules)
            yield getattr(owner, name, None), owner
        yield from map(_bound, found)
    yield from map(_bound, (getattr(function, "__wrapped__", None), *_cells_of(function)))


def _codes_of(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes_of(constant)


def _cells_of(function: FunctionType) -> Iterator[object]:
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # it is not filled yet
            continue
