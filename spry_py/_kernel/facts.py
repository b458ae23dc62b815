"""Events: the facts of a tree, as frozen values, for whoever subscribes to them.

The extra fields of each stand behind ``seq``, ``at`` and ``path``, which all of them have.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from spry_py._spec.termination import TerminationReport


@dataclass(frozen=True, slots=True)
class Event:
    """A fact of a tree.

    ``seq`` numbers the facts of a tree in their order, as long as anybody subscribes to it: the
    same fact has the same number for each subscriber, and a subscriber of a part of the tree sees
    the numbers of its part. ``at`` is the moment in seconds on trio's clock. ``path`` says whom the
    fact is about: a child, or a supervisor. ``time`` is the same moment on the wall clock, in
    seconds since the epoch; it is not compared.
    """

    seq: int
    at: float
    path: str
    time: float = field(default=0.0, kw_only=True, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class ChildStarting(Event):
    """An incarnation is about to begin."""

    incarnation: int


@dataclass(frozen=True, slots=True)
class ChildStarted(Event):
    """An incarnation is up. A supervisor is when its whole subtree is."""

    incarnation: int


@dataclass(frozen=True, slots=True)
class ChildStartFailed(Event):
    """An incarnation has ended before it was started, and nobody had asked it to."""

    report: TerminationReport


@dataclass(frozen=True, slots=True)
class ChildTerminated(Event):
    """An incarnation has ended, in whatever way, unless `ChildStartFailed` says it.

    A start that was taken back, or that answered `Ignore`, is no failure and comes as this.
    """

    report: TerminationReport


@dataclass(frozen=True, slots=True)
class RestartScheduled(Event):
    """The child will be restarted in ``delay`` seconds, for the ``attempt``-th time for one end."""

    delay: float
    attempt: int


@dataclass(frozen=True, slots=True)
class RestartRefused(Event):
    """The supervisor's breaker does not let the child be restarted."""


@dataclass(frozen=True, slots=True)
class ChildSettling(Event):
    """The child is about to be asked to finish."""

    incarnation: int


@dataclass(frozen=True, slots=True)
class ChildAborted(Event):
    """The child is about to be cancelled by its supervisor, alone or with its whole subtree."""

    incarnation: int


@dataclass(frozen=True, slots=True)
class ChildStuck(Event):
    """The child does not end although it was cancelled. ``stack`` is traceback text: where it sits.

    Comes 1 s after the cancellation, and at doubling intervals from then on.
    """

    stack: str


@dataclass(frozen=True, slots=True)
class ChildSlow(Event):
    """A start has not come to its end; of a supervisor's path: its system function has not.

    ``seconds`` is the time since it was begun, ``stack`` is traceback text: where it stands. Comes
    10 s after the beginning (half of a ``start_timeout`` longer than 20 s), and at doubling
    intervals from then on. Only the innermost start is reported, not what waits for it.
    """

    stack: str
    seconds: float


@dataclass(frozen=True, slots=True)
class ChildDiscarded(Event):
    """The child cannot be helped by a restart; its supervisor goes on without it."""


@dataclass(frozen=True, slots=True)
class SystemStarted(Event):
    """A supervisor is up, with all that its system declares."""


@dataclass(frozen=True, slots=True)
class SystemTeardown(Event):
    """A supervisor begins to stop all its children, since it is ending itself."""


@dataclass(frozen=True, slots=True)
class SystemStopped(Event):
    """A supervisor has ended; nothing below it is alive. Also after a startup that has failed."""


@dataclass(frozen=True, slots=True)
class Escalated(Event):
    """A supervisor gives up and will raise ``error``, once its children are down.

    ``cause`` is what ``error`` is raised from, ``None`` if the child in question ended `Normal`.
    """

    cause: BaseException | None
    error: BaseException


@dataclass(frozen=True, slots=True)
class EventsLost(Event):
    """A subscriber was too slow: at this place ``count`` events are missing.

    ``seq`` and ``at`` are those of the last one missing, ``path`` is that of the subscription.
    """

    count: int
