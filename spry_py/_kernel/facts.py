"""Facts: what happens in a tree, as frozen events for subscribers, and who else hears of it.

The extra fields of each event stand behind ``seq``, ``at`` and ``path``, which all of them have.
`Listener` hears of more: of every operation, at its beginning and its end. What it is given are
the kernel's own objects, of which it reads what the protocols here show; it keeps what it knows of
an operation in tables of its own, with these objects as keys.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import field
from time import time
from typing import Any, Literal, Protocol, TypeAlias

import trio

from spry_py._spec.child import Child
from spry_py._spec.options import Kind
from spry_py._spec.termination import Burden, Occasion, TerminationReport
from spry_py._spec.values import dataclass

# what listeners are called through, for those of them that emit by themselves
from .guard import Guard as Guard  # noqa: PLC0414 - handed on
from .guard import guarded as guarded  # noqa: PLC0414 - handed on


@dataclass(frozen=True, slots=True)
class Event:
    """A fact of a tree.

    ``seq`` numbers the facts of a tree in their order, as long as it has a subscriber: the
    same fact has the same number for each subscriber, and a subscriber of a part of the tree sees
    the numbers of its part. ``at`` is the moment in seconds on trio's clock. ``path`` is that of
    the child or supervisor concerned. ``time`` is the same moment on the wall clock, in
    seconds since the epoch. ``incident`` is the number of the incident that the fact belongs to,
    ``None`` if it belongs to none, or the incident began before there was any subscriber. Neither
    is compared.
    """

    seq: int
    at: float
    path: str
    time: float = field(default=0.0, kw_only=True, compare=False, repr=False)
    incident: int | None = field(default=None, kw_only=True, compare=False, repr=False)


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
    """An incarnation has ended before it was started, without being asked to."""

    report: TerminationReport


@dataclass(frozen=True, slots=True)
class ChildTerminated(Event):
    """An incarnation has ended, in whatever way, unless it comes as `ChildStartFailed`.

    A start that was taken back, or that raised `Ignore`, is no failure and comes as this.
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
    """The child is about to be asked to finish. ``by`` is what for: `Context.settling_for`."""

    incarnation: int
    by: Occasion = "stop"


@dataclass(frozen=True, slots=True)
class ChildAborted(Event):
    """The child is about to be cancelled by its supervisor, alone or with its whole subtree.

    ``by`` is what for: `Context.settling_for`.
    """

    incarnation: int
    by: Occasion = "stop"


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
class SystemOrdered(Event):
    """A replay has put new children between others: ``keys`` are all of them, in start order."""

    keys: tuple[str, ...]


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


Outcome: TypeAlias = Literal["cured", "dropped", "stopped", "ended"]
"""What became of an incident."""


@dataclass(frozen=True, slots=True)
class IncidentOpened(Event):
    """Something is wrong from here on: a child has ended by itself, and failed or is wanted again.

    Its number is unique in its tree. An escalation keeps it: the incident goes on with the restart
    of the supervisor that has given up, and so on up to the root.
    """


@dataclass(frozen=True, slots=True)
class IncidentClosed(Event):
    """An incident is over, ``seconds`` after the end that opened it; ``path`` is that child's.

    - ``"cured"``: what was down is up again, by its own restart or by one of several ends at once.
    - ``"dropped"``: what was down is not going to be restarted.
    - ``"stopped"``: a stop has overtaken the restart.
    - ``"ended"``: the whole tree ends of it.
    """

    outcome: Outcome
    seconds: float


@dataclass(frozen=True, slots=True)
class EventsLost(Event):
    """A subscriber was too slow: at this place ``count`` events are missing.

    ``seq`` and ``at`` are those of the last one missing, ``path`` is that of the subscription.
    """

    count: int


# How events reach those who have subscribed


class Subscriber(Protocol):
    """Is offered each event of a tree. Must neither wait nor raise."""

    def offer(self, event: Event, /) -> object: ...  # pragma: no cover - a protocol

    def wake(self) -> object:
        """Nothing more comes."""


class Stream:
    """The events of one tree, on their way to those who have subscribed."""

    __slots__ = ("has_ended", "heard_by", "on_silence", "seq", "subscribers")

    def __init__(self) -> None:
        # called when the last subscriber has left; set by what keeps something for subscribers
        self.on_silence: Callable[[], object] = int
        # never other lists: the kernel and listeners hold on to them, to see at a glance if there
        # are any. Whatever hears of every fact: subscribers, and what its listener adds. With none
        # this look is all that a fact costs; what may be logged all the same, `Listener.is_logged`
        self.heard_by: list[object] = []
        self.subscribers: list[Subscriber] = []
        self.seq = 0
        self.has_ended = False

    def publish(
        self, kind: Callable[..., Event], path: str, incident: int | None, *details: object
    ) -> None:
        """Make an event of a fact and offer it to each subscriber."""
        self.seq += 1
        now = trio.current_time()
        event = kind(self.seq, now, path, *details, time=time(), incident=incident)
        for subscriber in self.subscribers:
            subscriber.offer(event)

    def join(self, subscriber: Subscriber, first: bool = False) -> None:
        """One more is offered each event from now on, after the others or ``first``."""
        self.subscribers.insert(0 if first else len(self.subscribers), subscriber)
        self.heard_by.append(subscriber)

    def leave(self, subscriber: Subscriber) -> None:
        """One of the subscribers wants no more."""
        self.subscribers.remove(subscriber)
        self.heard_by.remove(subscriber)
        if not self.subscribers:
            self.on_silence()

    def end(self) -> None:
        """Nothing more will happen in this tree."""
        self.has_ended = True
        for subscriber in self.subscribers:
            subscriber.wake()


# What facts are about: the kernel's objects, as far as listeners may look


class Incident:
    """A termination and what is done about it, until it is cured or given up.

    ``path`` is the child that has ended, at ``since``. Where a supervisor has given up, what is
    done about its end goes on with the path, the moment and the number of what made it give up.
    """

    __slots__ = ("__weakref__", "attempt", "number", "path", "since")

    def __init__(self, path: str, since: float, number: int | None = None) -> None:
        self.path = path
        self.since = since
        # given by the listener, as soon as there is a subscriber
        self.number = number
        # how often a breaker has been asked about it: written by those who ask
        self.attempt = 0


class Origin:
    """A call that code outside the loop makes."""

    __slots__ = ("__weakref__",)


class AboutRun(Protocol):
    """One incarnation of a child."""

    @property
    def number(self) -> int: ...  # pragma: no cover - the body of a protocol, as all below

    @property
    def started_at(self) -> float | None: ...  # pragma: no cover

    @property
    def burden(self) -> Burden: ...  # pragma: no cover

    @property
    def occasion(self) -> Occasion | None: ...  # pragma: no cover

    @property
    def member(self) -> AboutChild | None: ...  # pragma: no cover


class AboutChild(Protocol):
    """A child, over its incarnations in one incarnation of its supervisor."""

    @property
    def key(self) -> str: ...  # pragma: no cover

    @property
    def path(self) -> str: ...  # pragma: no cover

    @property
    def kind(self) -> Kind: ...  # pragma: no cover

    @property
    def child(self) -> Child[Any]: ...  # pragma: no cover

    @property
    def number(self) -> int: ...  # pragma: no cover

    @property
    def restarts(self) -> int: ...  # pragma: no cover

    @property
    def is_declared(self) -> bool: ...  # pragma: no cover

    @property
    def last_report(self) -> TerminationReport | None: ...  # pragma: no cover

    @property
    def incident(self) -> Incident | None: ...  # pragma: no cover

    @property
    def loop(self) -> AboutSystem: ...  # pragma: no cover

    @property
    def inner(self) -> AboutSystem | None: ...  # pragma: no cover


class AboutSystem(Protocol):
    """One incarnation of a supervisor."""

    @property
    def path(self) -> str: ...  # pragma: no cover

    @property
    def strategy(self) -> str: ...  # pragma: no cover

    @property
    def own(self) -> AboutRun: ...  # pragma: no cover

    @property
    def incident(self) -> Incident | None: ...  # pragma: no cover

    @property
    def failure(self) -> BaseException | None: ...  # pragma: no cover

    @property
    def is_stopping(self) -> bool: ...  # pragma: no cover

    @property
    def has_ended(self) -> bool: ...  # pragma: no cover


Cause: TypeAlias = tuple[object, ...]
"""What an operation is a part of: the first of these that a listener knows anything about.

An `Incident` stands for the restart under way, an `Origin` for the code that makes this call, an
`AboutRun` for the start of this incarnation; besides there are startups, of which nothing is read.
"""


class Listener(Protocol):
    """Hears of every fact of one tree, in order. Decides nothing, and never raises.

    What happens often (children that start, end, and are stopped, startups, calls, incidents) it is
    only called for while the tree's stream is heard by anything, or the log wants that fact.
    """

    def is_logged(self, fact: type[Event], failed: bool = False) -> bool:
        """Whether the log wants such a fact; an end is another one if the child has ``failed``."""
        ...

    # A tree

    def outside(self) -> AbstractContextManager[object]:
        """Around the whole life of a tree: nothing inside belongs to an operation outside it."""
        ...

    def bear(self, spawn: Callable[..., object], function: object, of: object, key: str) -> None:
        """Call ``spawn(function, of, name=key)`` outside whatever operation is under way here."""

    def tree_ended(self) -> None:
        """The root has ended, and no other fact follows."""

    # What others do with a tree

    def call_made(self, call: Origin) -> None:
        """It is made by the code that runs here and now; what comes of it is a part of that."""

    def stop_asked(self, system: AboutSystem) -> None:
        """The code that runs here and now wants it stopped."""

    def inject(self, child: AboutChild, headers: dict[str, str]) -> None:
        """Write what makes whatever another process does a part of the child's last start."""

    def incident_elsewhere(self, child: AboutChild, headers: Mapping[str, str]) -> None:
        """It is about to end with an incident of another program, which such headers name."""

    @property
    def inject_here(self) -> Callable[[dict[str, str]], object]:
        """The same for the code that runs here and now. May raise, and outlive the tree."""
        ...

    # A system comes up

    def startup_began(self, system: AboutSystem, startup: object, part_of: Cause) -> None: ...

    def startup_ended(
        self, system: AboutSystem, startup: object, error: BaseException | None
    ) -> None: ...

    def system_started(self, system: AboutSystem) -> None: ...

    def system_ordered(self, system: AboutSystem, startup: object, keys: Sequence[str]) -> None: ...

    def system_stopped(self, system: AboutSystem) -> None: ...

    # A child comes up

    def child_starting(self, child: AboutChild, run: AboutRun, part_of: Cause) -> None: ...

    def child_started(self, child: AboutChild, run: AboutRun) -> None: ...

    def start_ignored(self, child: AboutChild) -> None: ...

    def start_slow(self, child: AboutChild, run: AboutRun, stack: str, seconds: float) -> None: ...

    def system_slow(
        self, system: AboutSystem, startup: object, stack: str, seconds: float
    ) -> None: ...

    # A child ends

    def child_ended(self, child: AboutChild, run: AboutRun, report: TerminationReport) -> None: ...

    def terminated(self, child: AboutChild, incident: Incident, wanted: bool) -> None:
        """It has ended by itself: the incident stays open while something is done about it."""

    def own_breaker_refused(self, child: AboutChild, incident: Incident | None) -> None:
        """The breaker of a child alone does not let it be restarted."""

    def child_discarded(self, child: AboutChild, incident: Incident | None) -> None: ...

    def start_retried(self, child: AboutChild, pause: float) -> None:
        """Its first start has failed, and is tried again after so many seconds."""

    def hook_failed(self, child: AboutChild, error: Exception) -> None:
        """Its ``on_termination`` has raised while it was stopped: that decides nothing."""

    # A child is stopped

    def child_asked(self, child: AboutChild, run: AboutRun, part_of: Cause) -> None:
        """It is about to be stopped, whatever its burden becomes."""

    def child_settling(self, child: AboutChild, run: AboutRun) -> None:
        """It is about to be asked to finish; a root is no child."""

    def child_aborted(self, child: AboutChild, run: AboutRun) -> None:
        """It is about to be cancelled; a root is no child."""

    def child_overdue(self, child: AboutChild, run: AboutRun) -> None:
        """It has been asked to finish and has not; it is about to be cancelled."""

    def stuck(
        self, system: AboutSystem, run: AboutRun | None, stuck: Sequence[tuple[str, str]]
    ) -> None:
        """Children at or below ``run`` that do not end, each with its path and its stack."""

    def teardown_began(self, system: AboutSystem, part_of: Cause) -> None: ...

    def system_ending(self, system: AboutSystem) -> None:
        """All that is left is stopped now, since the supervisor ends."""

    def subtree_aborted(self, system: AboutSystem) -> None:
        """A supervisor is being cancelled with all that lives below it."""

    def teardown_ended(self, system: AboutSystem) -> None: ...

    # A child is restarted

    def restart_decided(
        self,
        system: AboutSystem,
        child: AboutChild | None,
        incident: Incident,
        allowed: bool,
        delay: float,
    ) -> None:
        """The breaker was asked about a child; about the system function, if that is ``None``."""

    def child_restarted(self, child: AboutChild) -> None:
        """Its supervisor is about to start it again."""

    def attempt_failed(self, incident: Incident, error: BaseException | None) -> None:
        """The restart under way has come to nothing, and the incident goes on."""

    def incident_opened(self, incident: Incident) -> None:
        """A restart that a caller had asked for has failed, and is tried again."""

    def incident_joined(self, incident: Incident) -> None:
        """The restart that is done about another one is to cure it, too."""

    def incident_closed(self, incident: Incident | None, outcome: Outcome) -> None:
        """Cured, or given up: nothing more is going to be done about it."""

    def escalated(self, system: AboutSystem, error: BaseException) -> None: ...


Listen: TypeAlias = Callable[[Stream, Guard], Listener]
"""Makes what hears of the facts of a tree, and hands the events among them to its stream."""
