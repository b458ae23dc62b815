"""`SystemSupervisor`: runs a system, and restarts its children by a strategy."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeAlias, TypedDict, TypeVar, cast

from spry_py._policy.breaker import RateLimited
from spry_py._policy.restart import AUTO_SHUTDOWN, STRATEGIES, AutoShutdown, Strategy
from spry_py._spec.check import check_async_function, check_breaker, check_choice, check_key
from spry_py._spec.child import Child, Supervisor, check_defaults
from spry_py._spec.errors import ReusedKey
from spry_py._spec.frozen import are_same
from spry_py._spec.naming import name_of
from spry_py._spec.options import BreakerFactory, ChildOptions

from .group import GroupRestart
from .loop import Loop
from .messages import Emptied
from .phases import Phase
from .root import Rooted, T_co
from .scope import Scope
from .startup import Startup

if TYPE_CHECKING:
    from .before import Before
    from .calls import Call
    from .facts import Cause
    from .incarnation import Incarnation
    from .member import Member

S = TypeVar("S", bound=Scope)
System: TypeAlias = Callable[[S], Awaitable[None]]
"""An async function that declares children with a scope of the class ``S``."""


class SystemOptions(TypedDict, total=False):
    """The options of `SystemSupervisor`, which describes them."""

    name: str | None
    strategy: Strategy
    breaker: BreakerFactory
    auto_shutdown: AutoShutdown
    defaults: ChildOptions | None


class SystemSupervisor(Rooted[T_co], Generic[T_co, S]):
    """The kernel's part of the public class of that name. ``S`` is what systems start with."""

    # what the system function is given; the public class sets its own
    scope_class: ClassVar[type[Scope]] = Scope

    __slots__ = ("auto_shutdown", "breaker", "defaults", "name", "strategy", "system")

    def __init__(
        self,
        system: System[S] | Sequence[Child[Any]],
        *,
        name: str | None = None,
        strategy: Strategy = "one_for_all",
        breaker: BreakerFactory = RateLimited(),  # noqa: B008 - frozen
        auto_shutdown: AutoShutdown = "never",
        defaults: ChildOptions | None = None,
    ) -> None:
        owner = "SystemSupervisor"
        if name is not None:
            check_key(owner, "name", name)
        check_choice(owner, "strategy", strategy, STRATEGIES)
        check_choice(owner, "auto_shutdown", auto_shutdown, AUTO_SHUTDOWN)
        check_breaker(owner, breaker)
        self.name: str = name or name_of(system)
        self.system: System[Any] | tuple[Child[Any], ...] = _checked(owner, system, auto_shutdown)
        self.strategy: Strategy = strategy
        self.breaker: BreakerFactory = breaker
        self.auto_shutdown: AutoShutdown = auto_shutdown
        self.defaults: ChildOptions = check_defaults(owner, defaults)

    def live_as_child(self, incarnation: Any) -> Awaitable[None]:
        """Run as one incarnation of a child of another supervisor, or of a root."""
        member = incarnation.member
        assert member is not None
        loop = SystemLoop(self, incarnation)
        member.supervise(loop)
        return loop.run(lambda: incarnation.started(self.handle_of(member)))

    def _fields(self) -> tuple[object, ...]:
        own = self.name, self.system, self.strategy, self.breaker, self.auto_shutdown
        return *own, self.defaults

    def __reduce__(self) -> tuple[Any, ...]:
        options: dict[str, Any] = {
            "name": self.name,
            "strategy": self.strategy,
            "breaker": self.breaker,
            "auto_shutdown": self.auto_shutdown,
            "defaults": self.defaults,
        }
        return partial(type(self), **options), (self.system,)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SystemSupervisor):
            return NotImplemented
        return are_same(self._fields(), other._fields())

    def __hash__(self) -> int:
        return hash((self.name, self.strategy))

    def __repr__(self) -> str:
        return f"SystemSupervisor({self.name!r}, strategy={self.strategy!r})"


class SystemLoop(Loop):
    """One incarnation of a `SystemSupervisor`."""

    def __init__(self, supervisor: SystemSupervisor[Any, Any], own: Incarnation) -> None:
        super().__init__(own)
        # the children of a list as this supervisor keeps them, from its boot on
        self.system = supervisor.system
        self.scope_class = supervisor.scope_class
        self.strategy = supervisor.strategy
        self.breaker_factory = supervisor.breaker
        self.defaults = supervisor.defaults
        self._auto_shutdown: AutoShutdown = supervisor.auto_shutdown
        self.ends_when_empty = supervisor.auto_shutdown == "when_empty"
        # replays are for all of them, also those that a caller asks for
        self._group = GroupRestart(self)
        if supervisor.strategy != "one_for_one":
            self.restarting = self._group
        # the children whose start has failed in the last one, by path
        self.failed: Mapping[str, Member] = {}
        # whose start the present one waits for; that some of them have started is no matter
        self.waiting_for: Collection[Member] = ()

    async def boot(self) -> None:
        if not callable(self.system):
            self.system = tuple(map(self.accepted, self.system))
        await self.run_system((self.own,))
        if self.ends_when_empty:
            self.post(Emptied())

    def significant_ended(self, member: Member) -> None:
        """End with the significant children, if ``auto_shutdown`` wants that."""
        if member.last_report is not None and member.last_report.burden == "none":
            others = (other.phase for other in self.members if other.child.significant)
            if self._auto_shutdown == "any_significant" or all(phase.is_over for phase in others):
                self.begin_to_stop()
                self.ring()  # it may be the task of a child that was asked to end

    def check_significant(self, child: Child[Any]) -> None:
        check_significant(self.path, child, self._auto_shutdown)

    async def run_system(
        self, part_of: Cause, changes: bool = False, before: Before | None = None
    ) -> Startup:
        """Run the system function; raises the `StartupFailure` it ends with.

        With ``changes``, a child whose specification has changed is started anew.
        """
        self.startup = startup = Startup(self, changes, before)
        if self.heard_by:
            self.teller.startup_began(self, startup, part_of)
        self.part_of = (startup,)
        error: BaseException | None = None
        try:
            await startup.run()
        except BaseException as exception:
            error = exception
            raise
        finally:
            self.startup, self.waiting_for, self.part_of = None, (), ()
            self.failed = startup.failed
            if self.heard_by:
                self.teller.startup_ended(self, startup, error)
            del error
        return startup

    def waits_for(self, incarnation: Incarnation) -> bool:
        return self.startup is not None and incarnation.member in self.waiting_for

    async def start_added(self, part_of: Cause, before: Before | None) -> None:
        """Start those children again that no system has declared, after the declared ones."""
        added = self.members.added.values()
        down = [member for member in added if member.phase is Phase.RESTARTING]
        if not down:
            return
        self.startup = startup = Startup(self, before=before)
        self.failed = startup.failed
        self.part_of = part_of
        try:
            for member in down:
                await startup.start_again(member)
        finally:
            self.startup, self.part_of = None, ()

    def restart_at(self, member: Member) -> float | None:
        own = super().restart_at(member)
        return self._group.due if own is None and member.status == "restarting" else own

    def call_off(self, member: Member) -> None:
        self._group.call_off(member)

    def give_up_restarts(self) -> None:
        self._group.give_up()

    def replay(self, call: Call) -> None:
        """Run the system again, and make the children what it declares now."""
        self.refuse_leaving()
        self._group.reconcile(call)

    async def replay_now(self) -> None:
        await self._group.replay_now()

    def let_go(self) -> None:
        super().let_go()
        self.system, self.failed = (), {}


def check_significant(owner: str, child: Child[Any], auto_shutdown: AutoShutdown) -> None:
    """Refuse a significant child where its end would signify nothing."""
    if child.significant and auto_shutdown in ("never", "when_empty"):
        raise ValueError(
            f"{owner}: significant must be False for child {child.key!r} since auto_shutdown is "
            f"{auto_shutdown!r}; allowed with 'any_significant' and 'all_significant'"
        )


def _checked(
    owner: str, system: Any, auto_shutdown: AutoShutdown
) -> System[Any] | tuple[Child[Any], ...]:
    if isinstance(system, Supervisor):
        raise TypeError(
            f"{owner}: system must be an async function or a sequence of Child, not the supervisor "
            f"{system!r}; to nest it, make it a child: Child(key, supervisor)"
        )
    if isinstance(system, Child):
        raise TypeError(
            f"{owner}: system must be an async function or a sequence of Child, not {system!r} "
            "alone; write [child], a list of one"
        )
    if isinstance(system, Sequence) and not isinstance(system, str | bytes):
        children: tuple[Any, ...] = tuple(cast("Sequence[object]", system))
        _check_declared(owner, children, auto_shutdown)
        return children
    other = " or a sequence of Child"
    check_async_function(owner, "system", system, plain=True, other=other)
    return cast("System[Any]", system)


def _check_declared(owner: str, children: tuple[Any, ...], auto_shutdown: AutoShutdown) -> None:
    keys: set[str] = set()
    for child in children:
        _check_is_child(owner, child)
        if child.key in keys:
            raise ReusedKey(child.key, child.key)
        check_significant(owner, child, auto_shutdown)
        keys.add(child.key)


def _check_is_child(owner: str, child: object) -> None:
    if not isinstance(child, Child):
        hint = "; write Child(key, function)" if callable(child) else ""
        raise TypeError(f"{owner}: system must hold only Child objects, not {child!r}{hint}")
