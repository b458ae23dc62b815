"""What can go wrong, in words that a reader understands without the source."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields
from types import TracebackType
from typing import Any

from .frozen import setter

# What Python itself keeps of an exception. Its class may refuse attributes, or have its own idea of
# these; the fields below are there all the same, and writing them cannot fail.
_FIELDS = BaseException.__dict__
cause_of: Callable[[BaseException], BaseException | None] = _FIELDS["__cause__"].__get__
_context_of: Callable[[BaseException], BaseException | None] = _FIELDS["__context__"].__get__
place_of: Callable[[BaseException], TracebackType | None] = _FIELDS["__traceback__"].__get__
_members_of: Callable[[BaseException], tuple[BaseException, ...]] = BaseExceptionGroup.__dict__[
    "exceptions"
].__get__
set_place = setter(BaseException, "__traceback__")
_set_context = setter(BaseException, "__context__")


def root_cause_of(exception: BaseException | None) -> BaseException | None:
    """The last ``__cause__`` of a chain of exceptions (the exception itself if it has none)."""
    seen: set[int] = set()
    while exception is not None and id(exception) not in seen:
        cause = cause_of(exception)
        if cause is None:
            break
        seen.add(id(exception))
        exception = cause
    return exception


def out_of_group(group: BaseException) -> BaseException:
    """What stood alone in a group; Ctrl-C also if it came more than once."""
    leaves = leaves_of(group)
    if len(leaves) == 1 or all(isinstance(leaf, KeyboardInterrupt) for leaf in leaves):
        return leaves[0]
    return group


def linked_to(exception: BaseException) -> BaseException | None:
    """What `traceback` would show above it: its cause, or else its context."""
    cause = cause_of(exception)
    return cause if cause is not None else _context_of(exception)


def add_context(exception: BaseException, context: BaseException | None) -> None:
    """Set the ``__context__`` of ``exception`` to ``context``, unless it has one already.

    Never in a loop: `contextlib.ExitStack` would follow it for ever.
    """
    if context is None or _context_of(exception) is not None or leads_to(context, exception):
        return
    _set_context(exception, context)


def leads_to(start: BaseException, goal: BaseException) -> bool:
    """Whether one exception can be reached from another."""
    return any(item is goal for item in all_linked(start))


def all_linked(exception: BaseException) -> Iterator[BaseException]:
    """An exception and all that can be reached from it, by links and in groups, each once."""
    seen: set[int] = set()
    pending = [exception]
    while pending:
        item = pending.pop()
        if id(item) not in seen:
            seen.add(id(item))
            yield item
            pending.extend(_links_of(item))


def _links_of(exception: BaseException) -> Iterator[BaseException]:
    for linked in (cause_of(exception), _context_of(exception)):
        if linked is not None:
            yield linked
    if is_group(exception):
        yield from _members_of(exception)


def is_group(exception: BaseException) -> bool:
    """Whether it is a group; its class is asked, since an object may lie."""
    return issubclass(type(exception), BaseExceptionGroup)


def leaves_of(exception: BaseException) -> list[BaseException]:
    """The exceptions of a group, however nested, in order; a plain exception is its own leaf."""
    leaves: list[BaseException] = []
    pending = [exception]
    while pending:
        item = pending.pop()
        if is_group(item):
            pending.extend(reversed(_members_of(item)))
        else:
            leaves.append(item)
    return leaves


def sole_leaf_of(exception: BaseException) -> BaseException:
    """The one leaf of a group of one (trio wraps whatever leaves a nursery), else the argument."""
    if not is_group(exception):
        return exception
    leaves = leaves_of(exception)
    return leaves[0] if len(leaves) == 1 else exception


def is_exit(exception: BaseException) -> bool:
    """Whether this asks the program to end (KeyboardInterrupt, SystemExit, a group with one)."""
    return not issubclass(type(exception), Exception)


# Words for people


def words(make: Callable[[Any], str], thing: object) -> str:
    """``str`` or ``repr`` of anything; what `traceback` has in its place where that fails.

    A plain string that can be written anywhere. Only a KeyboardInterrupt comes out.
    """
    try:
        text = str.__str__(make(thing))
    except KeyboardInterrupt:
        raise
    except BaseException:
        return f"<{name_of(thing)} {make.__name__}() failed>"
    return writable(text)


def writable(text: str) -> str:
    """A text that can be written anywhere: what UTF-8 has no bytes for is escaped."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


name_of_type: Callable[[type], str] = type.__dict__["__name__"].__get__


def name_of(thing: object) -> str:
    """The name of its type, even if the class overrides what its instances return for it."""
    return name_of_type(type(thing))


def repr_of_fields(instance: Any) -> str:
    """The ``__repr__`` of a dataclass that may hold anything."""
    names = [field.name for field in fields(instance)]
    values = ", ".join(f"{name}={words(repr, getattr(instance, name))}" for name in names)
    return f"{type(instance).__qualname__}({values})"


_LONGEST = 200


def summary_of(exception: BaseException | None) -> str:
    """One readable line about an exception, whatever it is."""
    if exception is None:
        return "it ended normally"
    if is_group(exception):
        leaves = leaves_of(exception)
        more = f" (and {len(leaves) - 1} more)" if len(leaves) > 1 else ""
        return summary_of(leaves[0]) + more
    text = words(str, exception).strip().partition("\n")[0]
    line = f"{name_of(exception)}: {text}" if text else name_of(exception)
    return line if len(line) <= _LONGEST else line[: _LONGEST - 1] + "…"


class SpryError(Exception):
    """The base of every exception that spry_py defines."""

    def __str__(self) -> str:
        if len(self.args) == 1:
            return words(str, self.args[0])
        return words(str, self.args) if self.args else ""

    def __repr__(self) -> str:
        return f"{name_of(self)}({', '.join(words(repr, arg) for arg in self.args)})"


class StartupFailure(SpryError):
    """A system could not bring up its children."""


class ReusedKey(StartupFailure):
    """A key was used twice in one startup."""

    def __init__(self, key: str, path: str) -> None:
        super().__init__(key, path)
        self.key = key
        self.path = path

    def __str__(self) -> str:
        return (
            f"the key {self.key!r} is used twice: {self.path!r} has already been started in this "
            "startup; give each child of a system a key of its own"
        )


class ChildFailure(StartupFailure):
    """A child failed to start; the child's own exception is the ``__cause__``."""

    def __init__(self, key: str, path: str) -> None:
        super().__init__(key, path)
        self.key = key
        self.path = path

    def __str__(self) -> str:
        innermost: ChildFailure = self
        while isinstance(cause := cause_of(innermost), ChildFailure):
            innermost = cause
        why = summary_of(cause) if cause is not None else "no reason given"
        below = "" if innermost is self else f" because its child {innermost.path!r} failed"
        return f"child {self.path!r} failed to start{below}: {why}"


class NonChildFailure(StartupFailure):
    """A system function raised something of its own while it declared its children."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = path

    def __str__(self) -> str:
        cause = cause_of(self)
        why = summary_of(cause) if cause is not None else "no reason given"
        return f"the system function of {self.path!r} failed: {why}"


class Interrupted(StartupFailure):
    """The system is being stopped, and this start was given up half-way."""


_MAY_END = ' (a child that may end normally says restart="transient")'


def _times(count: int) -> str:
    return "1 time" if count == 1 else f"{count} times"


class Escalation(SpryError):
    """A supervisor gave up: its parent has to decide.

    ``path`` names the child it gave up on, ``root_cause`` the last ``__cause__`` of that child's
    failure (``None`` when it had ended normally).
    """

    path: str
    root_cause: BaseException | None


class TooManyRestarts(Escalation):
    """A supervisor's breaker refused one more restart.

    ``restarts`` is how often the child ``path`` was restarted in this incarnation of its
    supervisor. With ``of_system`` it was the system function that failed: ``path`` is then that of
    its supervisor, and ``restarts`` the number of failed attempts in a row.
    """

    def __init__(
        self,
        path: str,
        restarts: int,
        root_cause: BaseException | None,
        *,
        of_system: bool = False,
    ) -> None:
        super().__init__(path, restarts, root_cause)
        self.path = path
        self.restarts = restarts
        self.root_cause = root_cause
        self.of_system = of_system

    def __str__(self) -> str:
        if self.of_system:
            times = "1 attempt" if self.restarts == 1 else f"{self.restarts} attempts in a row"
            what = f"the system function of {self.path!r} failed ({times}) and may not be run again"
        else:
            what = f"{self.path!r} was restarted {_times(self.restarts)} and may not be again"
        hint = "" if self.root_cause is not None else _MAY_END
        return f"too many restarts: {what}; root cause: {summary_of(self.root_cause)}{hint}"


class UnrecoverableFailure(Escalation):
    """A child failed in a way that a restart must not be tried for.

    ``restarts`` is how often the child was restarted, if it was its own breaker that refused to
    have that done again, else ``None``. ``asked`` names the code that was asked about the end of
    the child, if it is that code that failed, else ``None``.
    """

    def __init__(
        self,
        path: str,
        root_cause: BaseException | None,
        *,
        restarts: int | None = None,
        asked: str | None = None,
    ) -> None:
        super().__init__(path, root_cause)
        self.path = path
        self.root_cause = root_cause
        self.restarts = restarts
        self.asked = asked

    def __str__(self) -> str:
        what = "cannot be recovered"
        if self.asked is not None:
            what = f"cannot be recovered, since {self.asked} failed"
        if self.restarts is not None:
            times = _times(self.restarts)
            what = f"was restarted {times} and its own breaker refuses to have that done again"
        hint = "" if self.root_cause is not None else _MAY_END
        return f"{self.path!r} {what}; root cause: {summary_of(self.root_cause)}{hint}"


class ChildNotFound(SpryError):
    """No child is known under that key or path."""


class ChildAlreadyStarted(SpryError):
    """The key names a child that is alive."""


class ChildAlreadyPresent(SpryError):
    """The key names a child that is known, but not running."""


class ChildRunning(SpryError):
    """The call needs a child that is not running."""


class ChildRestarting(SpryError):
    """The call needs a child that is not about to be restarted."""


class MaxChildrenReached(SpryError):
    """The supervisor holds as many children as it may."""


class SupervisorStopped(SpryError):
    """The supervisor is stopping, has ended, or is between two incarnations."""


class WouldDeadlock(SpryError):
    """The call could only be served after its own caller has moved on."""


class Unrecoverable(SpryError):
    """Raised by a child that is not to be restarted."""


class Ignore(SpryError):
    """Raised by a start function, before started: its system goes on without the child."""


class StartTimeout(SpryError):
    """A child was not started within its ``start_timeout`` seconds."""


class RunTimeout(SpryError):
    """A child ran longer than its ``run_timeout`` seconds."""


class Unresponsive(SpryError):
    """A child sent no heartbeat for its ``heartbeat`` seconds."""
