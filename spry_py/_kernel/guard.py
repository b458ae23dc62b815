"""The one guard around everything that emits: what a listener raises decides nothing.

A listener is whatever the application has put in the way of a fact: a log handler or filter, a span
processor, a sampler, a metric reader, a propagator, a function that returns where a child stands.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable
from types import FrameType, MethodType
from typing import Any, Final, NoReturn, TypeVar, TypeVarTuple

from trio.lowlevel import enable_ki_protection

from spry_py._spec.errors import leaves_of, place_of

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

MOST_REPORTED: Final = 100
# Between us and a listener: their frames are not the ones that raised.
_CARRIERS: Final = frozenset(("logging", "opentelemetry", "spry_py"))


class Guard:
    """Calls what emits, and keeps to itself what that raises.

    The first error of each listener goes to `sys.unraisablehook`, so that it does not vanish; of
    100 listeners at most. Only a `KeyboardInterrupt` goes on, to ``interrupted``: Ctrl-C cannot get
    in here, but a listener may have let its own handler of SIGINT in.
    """

    __slots__ = ("_interrupted", "_left")

    def __init__(self, interrupted: Callable[[BaseException], object]) -> None:
        self._interrupted = interrupted
        # how many listeners may still be reported
        self._left = MOST_REPORTED

    @enable_ki_protection
    def __call__(self, emit: Callable[[*Ts], T], *args: *Ts) -> T | None:
        """Return ``emit(*args)``, or ``None`` if it raises, whatever it raises."""
        try:
            return emit(*args)
        except BaseException as error:
            self._drop(error, emit)
            return None

    def _drop(self, error: BaseException, emit: object) -> None:
        if any(isinstance(leaf, KeyboardInterrupt) for leaf in leaves_of(error)):
            self._interrupted(error)
            return
        try:
            self._report(error, emit)
        except KeyboardInterrupt as interrupt:
            self._interrupted(interrupt)
        except BaseException:  # the hook has failed itself: nothing is left to report that to
            pass

    def _report(self, error: BaseException, emit: object) -> None:
        """Hand it to the interpreter's hook, which may raise as well."""
        if self._left == 0:
            return
        listener = _listener_of(error, emit)
        if _is_new(listener):
            self._left -= 1
            text = "spry_py goes on without what was raised by"
            facts = type(error), error, place_of(error), text, listener
            sys.unraisablehook(_Arguments(facts))


def _go_on(interrupt: BaseException) -> NoReturn:
    raise interrupt


# For what is emitted outside the books of a tree: a KeyboardInterrupt is that of the calling child,
# and through it the tree's.
guarded: Final = Guard(_go_on)


# The one type that the interpreter's own hook takes; it has no public name.
_kinds: list[type[Any]] = tuple.__subclasses__()  # pyright: ignore[reportUnknownVariableType]
_Arguments: Final[Callable[[tuple[object, ...]], Any]] = next(
    kind for kind in _kinds if kind.__name__ == "UnraisableHookArgs"
)


def _listener_of(error: BaseException, emit: object) -> object:
    """Whose code raised it: the first that is not of those who carry records and spans."""
    found = emit.__self__ if isinstance(emit, MethodType) else emit
    traceback = place_of(error)
    while traceback is not None:
        frame, traceback = traceback.tb_frame, traceback.tb_next
        package = str(frame.f_globals.get("__name__")).partition(".")[0]
        if package not in _CARRIERS:
            return _self_of(frame, frame.f_code)
        if package != "spry_py":
            found = _self_of(frame, found)
    return found


def _self_of(frame: FrameType, default: object) -> object:
    """The object whose method the frame runs."""
    is_method = frame.f_code.co_varnames[:1] == ("self",)
    return frame.f_locals.get("self", default) if is_method else default


# By identity, since a listener may compare as it likes, and never kept alive.
_reported: Final[dict[int, weakref.ref[object]]] = {}


def _is_new(listener: object) -> bool:
    """Whether no error of this listener has been reported yet, by any tree."""
    number = id(listener)
    if number in _reported:
        return False
    try:
        _reported[number] = weakref.ref(listener, lambda _: _reported.pop(number, None))
    except TypeError:  # it cannot be watched: one report for all of its type
        return _is_new(type(listener))
    return True
