"""Components: an object with methods becomes a child, with all that its life asks for.

After ``Boulder`` of sisyphus (one object over all its runs, ``recover`` between them, ``cleanup``
at the end) and ``Manageable`` of resilient-components (``handle_irrecoverable``).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVarTuple

import trio

from spry_py import (
    AlwaysRestart,
    Child,
    ChildFailure,
    ChildNotFound,
    RateLimited,
    Scope,
    SystemHandle,
    SystemSupervisor,
    current_context,
)
from spry_py.lowlevel import Supervisor, are_same, check_callable, check_seconds, may_recover

from .life import RUN, Life, Runs, check_methods
from .status import ComponentStatus, StatusChange, StatusChanges

__all__ = ["Component", "ComponentStatus", "Runs", "StatusChange", "StatusChanges", "component"]

Ts = TypeVarTuple("Ts")

_OBJECT = "object"


def component(
    make: Callable[[*Ts], Runs], *args: *Ts, cleanup_timeout: float = 5.0
) -> ComponentStart:
    """The start of a child that is an object: ``make(*args)``, a class or a function, makes it.

    ``Child("feed", component(Feed, url), restart="transient", shutdown=10)``.

    The object has an async method ``run()``, its work. It may have others, all of them async:

    - ``start()``: sets up; when it returns, the component is started, with what it returned as
      value. Without it the component is started when ``run`` begins.
    - ``recover(error)``: called before the next ``start``, with what ended the last run, or the
      last attempt to begin one. What it raises is a start that has failed, and judged as that.
    - ``handle_irrecoverable(error)``: called with a failure that no other run follows. It has 5
      seconds, and no run is alive meanwhile. What it raises takes the place of that failure (but
      for a start that ran into ``start_timeout``: there it is only recorded).
    - ``cleanup()``: called exactly once for each object, at the very end, however that comes about,
      when no run is alive any more; it has ``cleanup_timeout`` seconds, also when the tree is
      cancelled, and has failed with `RunTimeout` if they are not enough.

    One object lives through all its runs, so what it holds survives a failure. A failed run is
    recovered from unless it raised `Unrecoverable`, ``recoverable`` returns false, or ``breaker``
    (asked for this component alone) refuses. Then, as with any `Child`, there is no restart: the
    supervisor gives up with `UnrecoverableFailure`, or goes on without the component if
    ``on_unrecoverable`` is ``"discard"``. Any code of the object may cause that at any time with
    ``current_context().fail(Unrecoverable(...))``, whatever ``run`` does then. A first start that
    fails raises out of the call that waits for it, as with any child, and the object is cleaned up.

    For the supervisor above, a run that is begun again is no restart: no sibling goes along, and
    its breaker is not asked. Begun anew for another reason (a sibling's restart, or a call), the
    component gets a new object.

    The options of its `Child` concern each run: ``shutdown`` (5 seconds unless given) is the time a
    run has to finish when asked, and takes nothing from that of ``cleanup``; ``breaker`` is
    `RateLimited` unless given. ``on_termination`` hears of the end of the whole component. In the
    tree a component is a small system of two children, ``object`` and ``run``; `Component.of` finds
    the object in its handle.

    Raises `TypeError` or `ValueError` for bad values, and for a class that is no component.
    """
    if make is None:
        raise TypeError("component: make must not be None")
    check_callable("component", "make", make, "a class, or a function that makes the object")
    if isinstance(make, type):
        check_methods("component", make)
    check_seconds("component", "cleanup_timeout", cleanup_timeout)
    return ComponentStart(make, args, cleanup_timeout)


class ComponentStart(Supervisor[SystemHandle]):
    """What `component` makes: a start for `Child`. Frozen; equal if all fields are equal."""

    __slots__ = ("args", "cleanup_timeout", "make")

    is_work: ClassVar[bool] = True

    def __init__(
        self, make: Callable[..., Runs], args: tuple[Any, ...], cleanup_timeout: float
    ) -> None:
        self.make: Callable[..., Runs] = make
        self.args: tuple[Any, ...] = args
        self.cleanup_timeout: float = cleanup_timeout

    @property
    def name(self) -> str:
        """Its name as a root."""
        return getattr(self.make, "__name__", "component")

    async def __call__(
        self, *, task_status: trio.TaskStatus[SystemHandle] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Run as a root until stopped, cancelled or failed, as a `SystemSupervisor` does."""
        await self._system(Child(self.name, self), self.name)(task_status=task_status)

    def listen(self, *where: Any) -> Any:
        """What hears of the facts of a tree with this root: the same as of any other."""
        return self._system(Child(self.name, self)).listen(*where)

    async def live_as_child(self, incarnation: Any) -> None:
        """Run as a root that has been opened; elsewhere its `Child` is adopted."""
        await self._system(Child(self.name, self)).live_as_child(incarnation)

    def adopted(self, child: Child[Any]) -> Child[Any]:
        return Child(
            child.key,
            self._system(child),
            restart=child.restart,
            recoverable=_OnlyStarts(child.recoverable),
            on_unrecoverable=child.on_unrecoverable,
            on_termination=child.on_termination,
            significant=child.significant,
        )

    def _system(self, child: Child[Any], name: str | None = None) -> SystemSupervisor:
        return SystemSupervisor(
            _Plan(child, self),
            name=name,
            strategy="rest_for_one",
            breaker=AlwaysRestart(),
            auto_shutdown="never" if child.restart == "permanent" else "any_significant",
        )

    def _fields(self) -> tuple[object, ...]:
        return self.make, self.args, self.cleanup_timeout

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ComponentStart):
            return NotImplemented
        return are_same(self._fields(), other._fields())

    def __hash__(self) -> int:
        return hash((ComponentStart, self.make))

    def __repr__(self) -> str:
        name = getattr(self.make, "__qualname__", None) or repr(self.make)
        return f"component({', '.join([name, *map(repr, self.args)])})"


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

    # what its options were declared with, for each run
    options: Child[Any]
    what: ComponentStart

    async def __call__(self, scope: Scope) -> None:
        held = await scope.start(Child(_OBJECT, _hold, self, shutdown=math.inf))
        life = held._life  # pyright: ignore[reportPrivateUsage] - made for this
        keeps_on = self.options.restart == "permanent"
        await scope.start(
            self.options.replace(
                key=RUN,
                start=life.run,
                on_unrecoverable="escalate",
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
    life = Life(
        context.path.rpartition("/")[0],
        plan.what.make(*plan.what.args),
        plan.options,
        plan.options.breaker or RateLimited(),
        plan.what.cleanup_timeout,
    )
    try:
        task_status.started(Component(life))
        await context.settled()
        life.let_go()
    finally:
        await life.end()
