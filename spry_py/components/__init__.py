"""Components: an object with methods becomes a child, with all that its life asks for.

After ``Boulder`` of sisyphus (one object over all its runs, ``recover`` between them, ``cleanup``
at the end) and ``Manageable`` of resilient-components (``handle_irrecoverable``).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import trio

from spry_py import (
    AlwaysRestart,
    Breaker,
    Child,
    ChildFailure,
    ChildNotFound,
    RateLimited,
    Scope,
    SystemHandle,
    SystemSupervisor,
    current_context,
)
from spry_py.lowlevel import check_callable, check_seconds, may_recover

from .life import RUN, Life, Runs, check_methods
from .status import ComponentStatus, StatusChange, StatusChanges

__all__ = ["Component", "ComponentStatus", "Runs", "StatusChange", "StatusChanges", "component"]

RestartType: TypeAlias = Literal["permanent", "transient", "temporary"]
OnUnrecoverable: TypeAlias = Literal["escalate", "discard"]

_OBJECT = "object"


def component(
    key: str,
    make: Callable[..., Runs],
    *args: object,
    restart: RestartType = "permanent",
    shutdown: float = 5.0,
    cleanup_timeout: float = 5.0,
    start_timeout: float = math.inf,
    run_timeout: float = math.inf,
    backoff: Callable[[Any], float] | None = None,
    breaker: Callable[[], Breaker] = RateLimited(),  # noqa: B008 - frozen
    recoverable: Callable[[Any], object] | None = None,
    on_unrecoverable: OnUnrecoverable = "escalate",
    heartbeat: float = math.inf,
    significant: bool = False,
) -> Child[SystemHandle]:
    """A child that is an object: ``make(*args)``, a class or a function, makes it.

    The object has an async method ``run()``, its work. It may have others, all of them async:

    - ``start()``: sets up; when it returns, the component is started, with what it returned as
      value. Without it the component is started when ``run`` begins.
    - ``recover(error)``: called before the next ``start``, with what ended the last run, or the
      last attempt to begin one. What it raises is a start that has failed, and judged as that.
    - ``handle_irrecoverable(error)``: told of a failure after which there is no other run. It has 5
      seconds, and no run is alive meanwhile. What it raises takes the place of that failure (but
      for a start that ran into ``start_timeout``: there it is only recorded).
    - ``cleanup()``: called exactly once for each object, at the very end, however that comes about,
      when no run is alive any more; it has ``cleanup_timeout`` seconds, also when the tree is
      cancelled, and has failed with `RunTimeout` if they are not enough.

    One object lives through all its runs, so what it holds survives a failure. A failed run is
    recovered from unless it raised `Unrecoverable`, ``recoverable`` answers no, or ``breaker``
    (asked for this component alone) refuses. Then, as with any `Child`, there is no restart: the
    supervisor gives up with `UnrecoverableFailure`, or goes on without the component if
    ``on_unrecoverable`` is ``"discard"``. Any code of the object may say so at any time:
    ``current_context().fail(Unrecoverable(...))``; that counts, whatever ``run`` does then. A first
    start that fails is told to whoever starts the component, as with any child, and cleaned up.

    For the supervisor above, a run that is begun again is no restart: no sibling goes along, and
    its breaker is not asked. Begun anew by anybody else (by a sibling's restart, or a call), the
    component gets a new object.

    The other options are those of `Child`, and concern each run; ``shutdown`` is the time a run has
    to finish when asked, and takes nothing from that of ``cleanup``. In the tree a component is a
    small system of two children, ``object`` and ``run``; `Component.of` finds the object in its
    handle.

    Raises `TypeError` or `ValueError` for bad values, and for a class that is no component.
    """
    owner = f"component {key!r}"
    if make is None or breaker is None:
        raise TypeError(f"{owner}: {'make' if make is None else 'breaker'} must not be None")
    check_callable(owner, "make", make, "a class, or a function that makes the object")
    if isinstance(make, type):
        check_methods(owner, make)
    check_seconds(owner, "cleanup_timeout", cleanup_timeout)
    options: Child[Any] = Child(
        key,
        _hold,
        restart=restart,
        shutdown=shutdown,
        start_timeout=start_timeout,
        run_timeout=run_timeout,
        backoff=backoff,
        breaker=breaker,
        recoverable=recoverable,
        heartbeat=heartbeat,
    )
    return Child(
        key,
        SystemSupervisor(
            _Plan(make, args, options, cleanup_timeout),
            strategy="rest_for_one",
            breaker=AlwaysRestart(),
            auto_shutdown="never" if restart == "permanent" else "any_significant",
        ),
        restart=restart,
        recoverable=_OnlyStarts(recoverable),
        on_unrecoverable=on_unrecoverable,
        significant=significant,
    )


class Component:
    """One object of a component, seen from outside, from its making to its clean-up."""

    __slots__ = ("_life",)

    def __init__(self, life: Life) -> None:
        self._life = life

    @staticmethod
    def of(handle: SystemHandle) -> Component:
        """The present object of the component that has this handle.

        Raises `TypeError` if that is no component, or is not running.
        """
        try:
            value = handle.child(_OBJECT).value
        except ChildNotFound:
            value = None
        if not isinstance(value, Component):
            raise TypeError(f"{handle.path!r} is no component, or it is not running")
        return value

    @property
    def path(self) -> str:
        """The component's full path."""
        return self._life.path

    @property
    def object(self) -> Any:
        """The object itself; the same one over all its runs."""
        return self._life.instance

    @property
    def value(self) -> Any:
        """What ``start`` has returned for the present run; ``None`` while there is none."""
        return self._life.value

    @property
    def status(self) -> StatusChange:
        """What it is doing now, and since when."""
        return self._life.news.present

    def statuses(self) -> StatusChanges:
        """An async iterator over its status: the present one, then every change to the end.

        It ends behind ``"stopped"``. Nothing is ever missing, however slowly it is read: what has
        not been read yet is kept.
        """
        return self._life.news.read()

    def __repr__(self) -> str:
        return f"<Component {self.path!r}, {self.status.status}>"


@dataclass(frozen=True, slots=True)
class _Plan:
    """The system of a component: first the object, then its runs."""

    make: Callable[..., Runs]
    args: tuple[object, ...]
    options: Child[Any]
    cleanup_timeout: float

    async def __call__(self, scope: Scope) -> None:
        held = await scope.start(Child(_OBJECT, _hold, self, shutdown=math.inf))
        life = held._life
        keeps_on = self.options.restart == "permanent"
        await scope.start(
            self.options.replace(
                key=RUN,
                start=life.run,
                restart="permanent" if keeps_on else "transient",
                significant=not keeps_on,
                recoverable=life.note,
                on_termination=life.decide,
                breaker=life.as_breaker,
            )
        )


@dataclass(frozen=True, slots=True)
class _OnlyStarts:
    """``recoverable`` of a whole component: a failed start may be, what it gave up on is not."""

    recoverable: Callable[[Any], object] | None

    def __call__(self, error: BaseException) -> bool:
        cause: BaseException | None = error
        while isinstance(cause, ChildFailure):
            cause = cause.__cause__
        if cause is None or cause is error:
            return False
        return may_recover(self.recoverable, cause)


async def _hold(plan: _Plan, *, task_status: trio.TaskStatus[Component]) -> None:
    """Keep the object while there are runs of it, and let it clean up behind the last of them."""
    context = current_context()
    assert plan.options.breaker is not None
    life = Life(
        context.path.rpartition("/")[0],
        plan.make(*plan.args),
        plan.options,
        plan.options.breaker,
        plan.cleanup_timeout,
    )
    try:
        task_status.started(Component(life))
        await context.settled()
        life.let_go()
    finally:
        await life.end()
