"""The supervisor's loop: one mailbox, each message handled to its end.

Only the loop decides about children. Whatever happens elsewhere (a child ends, a wait is over, a
caller asks for something) becomes a message; what must be known at once (who has started, who has
ended) is written down where it happens.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import trio
from trio.lowlevel import Abort, RaiseCancelT, enable_ki_protection

from ._errors import (
    ChildFailure,
    Ignore,
    Interrupted,
    NonChildFailure,
    StartupFailure,
    TooManyRestarts,
    UnrecoverableFailure,
    is_exit,
    root_cause_of,
    sole_leaf_of,
)
from ._nursery import Members
from ._policy import Verdict, judge
from ._run_child import drop_own_frames
from ._shutdown import Shutdowns

if TYPE_CHECKING:
    from ._alarm import Timer
    from ._breaker import Breaker, BreakerFactory
    from ._incarnation import Incarnation
    from ._nursery import Member
    from ._policy import Strategy
    from ._telemetry import Incident
    from ._termination import TerminationReport
    from ._tree import Tree


class Loop:
    """One incarnation of a supervisor. Subclasses say how it boots and how it restarts."""

    def __init__(self, own: Incarnation) -> None:
        assert own.member is not None
        self.tree: Tree = own.member.loop.tree
        self.teller = self.tree.teller
        self.path = own.path
        # the supervisor's own incarnation, a child of the loop above
        self.own = own
        self.members = Members()
        self.messages: deque[tuple[Callable[..., Awaitable[None]], Any]] = deque()
        self.shutdowns = Shutdowns(self)
        self.hooks: dict[Member, trio.CancelScope] = {}
        # the ends of backoffs
        self.waits: dict[Member, Timer] = {}
        self.hook_errors: dict[Member, Exception] = {}
        self.is_ready = False
        self.is_stopping = False
        self.has_ended = False
        self.was_aborted = False
        self.failure: BaseException | None = None
        # telemetry's: the incident that made it give up, and the span its teardown belongs to
        self.incident: Incident | None = None
        self.stop_span: Any = None
        self.startup_span: Any = None
        self.teardown_span: Any = None
        self.last_startup: Any = None
        self._parked: trio.lowlevel.Task | None = None

    # To be said by subclasses

    breaker_factory: BreakerFactory
    strategy: Strategy

    async def boot(self) -> None:
        raise AssertionError("each loop says how it boots")

    async def decide(self, member: Member) -> None:
        raise AssertionError("each loop says what it does about an end")

    # The mailbox

    def post(self, handler: Callable[..., Awaitable[None]], argument: Any) -> None:
        """Leave a message: ``await handler(argument)`` when its turn comes."""
        self.messages.append((handler, argument))
        self.ring()

    def ring(self) -> None:
        """Wake the loop if it is waiting; whatever it waits for, it looks again."""
        task = self._parked
        if task is not None:
            self._parked = None
            trio.lowlevel.reschedule(task)

    @enable_ki_protection
    async def pause(self) -> None:
        """Wait for `ring`. Only one task at a time: the loop, or the code it runs."""
        assert self._parked is None, "two tasks wait for one supervisor"
        self._parked = trio.lowlevel.current_task()
        try:
            await trio.lowlevel.wait_task_rescheduled(self._unpark)
        except KeyboardInterrupt as exception:
            # trio hands Ctrl-C to the main task, and this may be it
            self.tree.exit(exception)

    def _unpark(self, _: RaiseCancelT) -> Abort:
        self._parked = None
        return Abort.SUCCEEDED

    # Its life

    @enable_ki_protection
    async def run(self, on_ready: Callable[[], object]) -> None:
        """Boot, serve, tear down. Raises what the supervisor failed with."""
        try:
            async with trio.open_nursery() as self.nursery:
                await self._live(on_ready)
        except BaseExceptionGroup as group:
            self._unexpected(sole_leaf_of(group))
        self._end()
        if self.was_aborted:
            await trio.lowlevel.checkpoint_if_cancelled()
        failure, self.failure = self.tree.exit_of(self) or self.failure, None
        if failure is not None and not (isinstance(failure, Interrupted) and self._was_asked()):
            raise failure

    def _was_asked(self) -> bool:
        return self.own.burden != "none"

    async def _live(self, on_ready: Callable[[], object]) -> None:
        try:
            await self._boot()
            if self.failure is None and not self.is_stopping:
                self.is_ready = True
                self.teller.system_started(self)
                on_ready()
            await self._serve()
            self.is_stopping = True
            await self._teardown()
        except trio.Cancelled:
            self.is_stopping = self.was_aborted = True
            # whoever has cancelled all this watches over it
            self.shutdowns.clear()

    async def _boot(self) -> None:
        try:
            self.breaker: Breaker = self.breaker_factory()
            if not hasattr(self.breaker, "may_restart"):
                raise TypeError(f"breaker: {self.breaker_factory!r} made no breaker")
            await self.boot()
        except (StartupFailure, Ignore) as failure:
            self.failure = failure.with_traceback(None)
            if self.tree.exit_exception is None:
                self.is_stopping = True
        except Exception as exception:
            self.give_up_starting(exception)

    def give_up_starting(self, exception: Exception) -> None:
        failure = NonChildFailure(self.path)
        failure.__cause__ = exception
        self.failure = failure
        self.is_stopping = True

    async def _serve(self) -> None:
        while not self.is_stopping:
            if self.messages:
                await self._handle(*self.messages.popleft())
            else:
                await self.pause()

    async def _handle(self, handler: Callable[..., Awaitable[None]], argument: Any) -> None:
        try:
            await handler(argument)
        except trio.Cancelled:
            raise
        except Exception as exception:
            # user code runs in here: a breaker, a backoff, a predicate
            drop_own_frames(exception)
            path = getattr(argument, "path", self.path)
            report = getattr(argument, "last_report", None)
            if report is not None and exception.__context__ is None:
                exception.__context__ = report.exception
            self.escalate(UnrecoverableFailure(path, root_cause_of(exception)), exception)
        except BaseException as exception:
            self.tree.exit(exception)

    async def _teardown(self) -> None:
        self.teller.teardown_began(self, self._teardown_parent())
        await self.stop_children()
        self.teller.teardown_ended(self)

    async def stop_children(self) -> None:
        await self.shutdowns.each(list(reversed(self.members)), self.shut)

    def _teardown_parent(self) -> Any:
        if self.incident is not None:
            return self.incident.term
        return self.own.wait_span or self.own.span or self.stop_span

    def _unexpected(self, exception: BaseException) -> None:
        # Ctrl-C while the main task waits for its nursery, or a bug: neither may get lost
        if is_exit(exception):
            self.tree.exit(exception)
        else:
            self.failure = exception

    def _end(self) -> None:
        self.has_ended = True
        for member in self.members:
            self.shut(member)
        self.messages.clear()
        self.teller.teardown_ended(self)
        self.teller.system_stopped(self)

    # What anybody may ask of it

    def request_stop(self) -> None:
        """Ask the supervisor to stop in order; it may be busy with anything, even its boot."""
        if not self.is_stopping:
            self.is_stopping = True
            self.interrupt()
            self.ring()

    def stop_by_handle(self) -> None:
        """A stop from outside: of a root its own, of a nested one, for its parent, by itself."""
        if self._is_root:
            self.own.stop()
        else:
            self.request_stop()

    def abort_by_handle(self) -> None:
        """The same for an abort."""
        if self._is_root:
            self.own.abort()
        else:
            self.own.cancel()
        self.own.watch_over()

    @property
    def _is_root(self) -> bool:
        return self.tree.incarnation is self.own

    def interrupt(self) -> None:
        """Break off what occupies the loop, if a stop may do that."""

    # What the children tell it

    def on_started(self, member: Member, incarnation: Incarnation) -> None:
        """A child is up. From here on its end is an end by itself."""
        self.teller.child_started(member, incarnation)
        if incarnation.awaited and incarnation.burden == "none":
            incarnation.awaited = False
            self.ring()
        if member.incident is not None:
            self.teller.incident_closed(member.incident)
            member.incident = None
        member.tell_watchers()

    def on_ended(self, member: Member, incarnation: Incarnation, report: TerminationReport) -> bool:
        """A child has ended; answers whether its ``on_termination`` is to run first."""
        self.shutdowns.forget(incarnation)
        self.teller.child_ended(member, incarnation, report)
        member.tell_watchers()
        if incarnation.awaited or report.burden != "none":
            self.ring()
            return False
        member.undecided = True
        exception = report.exception
        if (
            member.child.on_termination is not None
            and report.started_at is not None
            and (exception is None or not is_exit(exception))
        ):
            return True
        self.post(self.on_undecided, member)
        return False

    def on_hook_done(self, member: Member, error: Exception | None) -> None:
        self.hooks.pop(member, None)
        if error is not None:
            self.hook_errors[member] = error
        if member.undecided:
            self.post(self.on_undecided, member)
        else:
            self.ring()

    async def on_undecided(self, member: Member) -> None:
        if member.undecided and member not in self.hooks:
            await self.decide(member)

    # What it does about them

    def judge(self, member: Member) -> Verdict:
        """What becomes of a child that has ended, by its own specification."""
        report = member.last_report
        assert report is not None
        if member in self.hook_errors:
            return Verdict.ESCALATE
        if member.child.breaker is not None and member.breaker is None:
            member.breaker = member.child.breaker()
        return judge(member.child, report, member.breaker)

    def conclude(self, member: Member, verdict: Verdict, incident: Incident | None) -> None:
        """Write down what has become of a child that is not going to be restarted."""
        member.undecided = False
        member.incident = None
        member.forget_value()
        if verdict is not Verdict.ESCALATE:
            self.teller.incident_closed(incident)
        if verdict is Verdict.SPENT:
            member.state = "stopped"
            self.members.drop(member)
        else:
            member.state = "stopped" if verdict is Verdict.DOWN else "done"
        if verdict is Verdict.DISCARD:
            self.teller.child_discarded(member)
        if verdict is Verdict.ESCALATE:
            self._escalate_unrecoverable(member, incident)
        member.tell_watchers()
        self.member_ended(member)

    def member_ended(self, member: Member) -> None:
        """A child has ended for good; its supervisor may want to end with it."""

    def _escalate_unrecoverable(self, member: Member, incident: Incident | None) -> None:
        error = self.hook_errors.pop(member, None)
        report = member.last_report
        cause = error or (report.exception if report is not None else None)
        if error is not None and report is not None and error.__context__ is None:
            error.__context__ = report.exception
        self.incident = self.incident or incident
        self.escalate(UnrecoverableFailure(member.path, root_cause_of(cause)), cause)

    def refuse(
        self, member: Member, cause: BaseException | None, incident: Incident | None
    ) -> None:
        """The breaker has said no: give up."""
        self.incident = self.incident or incident
        error = TooManyRestarts(member.path, member.restarts, root_cause_of(cause))
        self.escalate(error, cause)

    def escalate(self, error: Exception, cause: BaseException | None) -> None:
        """Give up: tear down, then fail, so that the parent decides."""
        error.__cause__ = cause
        self.failure = error
        self.is_stopping = True
        self.teller.escalated(self, error)

    def shut(self, member: Member) -> None:
        """It is down because its supervisor wanted it so."""
        if member.undecided:
            self.teller.ended_unasked(member)
            member.undecided = False
        if member in self.waits:
            self.waits.pop(member).cancel()
        if member.incident is not None and member.incident is not self.incident:
            self.teller.incident_closed(member.incident)
        member.incident = None
        member.forget_value()
        if member.state not in ("done", "ignored"):
            member.state = "stopped"
        member.tell_watchers()


def start_error(member: Member) -> BaseException:
    """What a start that came to nothing raises out of the call that waits for it."""
    report = member.last_report
    cause = report.exception if report is not None else None
    if cause is not None and is_exit(cause):
        return Interrupted(f"the start of {member.path!r} was interrupted: the program is ending")
    failure = ChildFailure(member.key, member.path)
    failure.__cause__ = cause
    return failure
