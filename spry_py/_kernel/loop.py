"""The supervisor's loop: one mailbox; one message at a time, in order, each handled to its end.

Only the loop decides about children. Whatever happens elsewhere (a child ends, a wait is over, a
caller asks for something) becomes a message, and `Loop.handle` has what is done about each.

The law of the idle loop: what waits for nothing is done by the task that asks for it, if the loop
is idle and its mailbox empty, so that nothing is overtaken. A call that starts a child is served at
once (`Calls.ask`); no more than 32 of them before the loop's own task has a turn. Not so what could
come out in two ways: the end of a child, and calls that stop one. Which of two that happen in one
tick comes first is trio's choice; about both it is decided when the tick is over, when both are
known. So a caller who wants a living child stopped leaves a message, and serves it in the next pass
of trio's scheduler if the loop has slept on (`Calls._stop`).

The law of the successor: where each child is restarted alone, and one ends that probably comes
back, the task that is to run it then is begun at once. Its first step (`Loop.succeed`) comes in the
next pass of trio's scheduler, and has the end decided about if the loop is still idle; otherwise
the loop does so itself. There is one of them at a time, so they never keep the loop from its turn.

An end that was asked for leaves nothing to decide. The task that has ended does what follows: it
returns to the callers that wait for it (`Calls.on_ended`), asks the next one to end where several
are stopped one after the other (`Shutdowns.advance`), and lets in the next that waits for a place
(`DynamicLoop.on_ended`). Where a list has what comes next, the child that is started begins the
next one in the same way (`Startup.begin_next`). To wake the loop for each of these would cost as
much as the thing itself.

A caller who gives up takes back what it alone has asked for (`Calls._take_back`): a call that is
not served yet, a place in a queue, or a start. It does so in its own task, since the loop may be
busy for long, and it begins nothing by that.
"""

from __future__ import annotations

import types
from abc import abstractmethod
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any, Final, Protocol, assert_never, cast

import trio
from trio.lowlevel import current_task, enable_ki_protection, in_trio_task

from spry_py._policy.breaker import allows, live_breaker, tell_breaker
from spry_py._policy.restart import (
    WISHES,
    Verdict,
    judge,
    pause_before_try,
    unrecoverable,
)
from spry_py._spec.child import Child, Supervisor
from spry_py._spec.errors import (
    Ignore,
    Interrupted,
    NonChildFailure,
    StartupFailure,
    SupervisorStopped,
    TooManyRestarts,
    UnrecoverableFailure,
    add_context,
    cause_of,
    is_exit,
    root_cause_of,
    set_place,
    sole_leaf_of,
)
from spry_py._spec.termination import Failed

from .alone import OneForOne
from .calls import Calls
from .facts import ChildStarted, ChildTerminated, Incident, RestartScheduled
from .incarnation import Incarnation, note_limit_above
from .life import begun, drop_own_frames, failure_of, in_own_task
from .mailbox import MOST_IN_A_ROW, Mailbox
from .member import Members
from .messages import (
    Again,
    Called,
    Down,
    Due,
    Emptied,
    Ended,
    NextTry,
    Replay,
    StartFailed,
)
from .phases import AFTER, Phase, Then
from .shutdown import Shutdowns

if TYPE_CHECKING:
    from spry_py._policy.restart import Strategy
    from spry_py._spec.options import Breaker, BreakerFactory, ChildOptions
    from spry_py._spec.termination import Occasion, TerminationReport

    from .calls import Call
    from .facts import Cause, Outcome
    from .incarnation import Incarnation
    from .life import Hook
    from .member import Member
    from .messages import Message
    from .timers import Timer
    from .tree import Tree


# whose code is asked inside the loop, in words
_DECIDERS: Final = "its recoverable, its backoff or a breaker"
# so that a crowd of callers is served no longer in one go than by the loop
MOST_TURNS: Final = 32


class Starting(Protocol):
    """A run of a system, by the supervisor that has one."""

    def begin_next(self, member: Member) -> bool:
        """Begin what was only waiting for this child to be started, if there is such a thing."""
        ...

    def interrupt(self) -> None:
        """A stop has come: begin nothing more, and wait for nothing."""


class Restarting(Protocol):
    """What a supervisor does about ends, by its strategy."""

    async def decide(self, member: Member) -> None:
        """Decide what becomes of a child that has ended, and do that."""

    async def restart_by_hand(self, member: Member, calls: list[Call]) -> None:
        """Restart a child as if it had ended, without asking a breaker."""


class Loop(Mailbox):
    """One incarnation of a supervisor: its children, and the books about them.

    Subclasses define how it boots and how it restarts.
    """

    nursery: trio.Nursery
    breaker: Breaker
    # whether the breaker is to hear of each end
    breaker_hears: bool
    strategy: Strategy
    # whether it ends as soon as nothing is left that runs or comes back; written once
    ends_when_empty = False
    defaults: ChildOptions
    breaker_factory: BreakerFactory

    def __init__(self, own: Incarnation) -> None:
        super().__init__()
        assert own.member is not None
        self.tree: Tree = own.member.loop.tree
        self.teller = self.tree.teller
        # empty: nothing hears of more than what is logged
        self.heard_by = self.tree.stream.heard_by
        self.path = own.path
        # the supervisor's own incarnation, a child of the loop above
        self.own = own
        self.members = Members(self._forgotten)
        self.shutdowns = Shutdowns(self)
        self.calls = Calls(self)
        self.alone = OneForOne(self)
        # the run of its system that is under way; written by `SystemLoop`
        self.startup: Starting | None = None
        # what is done about an end; written once, where the strategy is known
        self.restarting: Restarting = self.alone
        self.hooks: dict[Member, Hook] = {}
        # the ends of backoffs
        self.waits: dict[Member, Timer] = {}
        self.hook_errors: dict[Member, Exception] = {}
        # how many more turns callers may take before the loop's own task has one
        self._turns_left = MOST_TURNS
        # a successor's task is in the loop's context, which cannot be entered twice
        self._is_in_turn = False
        # the child for whose next incarnation a task stands ready; its end is first in the mailbox
        self.successor: Member | None = None
        self.is_ready = False
        self.is_stopping = False
        # nothing is restarted or replayed any more: it stops, or is going to since the program ends
        self.is_leaving = False
        self.has_ended = False
        self.was_aborted = False
        self.failure: BaseException | None = None
        # the child that user code is asked about, for errors of that code; the loop's, in a message
        self.about: Member | None = None
        # the child whose own breaker has just refused to have it restarted, until it is concluded
        self._refused: Member | None = None
        # the incident that made it give up
        self.incident: Incident | None = None
        # what a startup begins or stops is a part of this; written where it begins and ends
        self.part_of: Cause = ()

    # Its life

    @abstractmethod
    async def boot(self) -> None:
        """Start what is declared; raises what the start of the supervisor fails with."""

    @enable_ki_protection
    async def run(self, on_ready: Callable[[], object]) -> None:
        """Boot, serve, tear down. Raises what the supervisor failed with."""
        try:
            async with trio.open_nursery() as self.nursery:
                try:
                    await self._come_up(on_ready)
                    await self._serve()
                    await self._teardown()
                except trio.Cancelled:
                    self.was_aborted = True
                    self.begin_to_stop()
                    note_limit_above(self)
                    self.shutdowns.close()
        except BaseExceptionGroup as group:  # pragma: no cover - see `_unexpected`
            self._unexpected(sole_leaf_of(group))
        self._end()
        if self.was_aborted:
            await trio.lowlevel.checkpoint_if_cancelled()
        exit_exception = self.tree.exit_of(self)
        failure = self.failure if exit_exception is None else exit_exception
        self.failure = None
        if failure is not None and not (isinstance(failure, Interrupted) and self._was_asked()):
            raise failure

    def _was_asked(self) -> bool:
        return self.own.burden != "none"

    async def _come_up(self, on_ready: Callable[[], object]) -> None:
        if self.own.burden == "none":
            await self._boot()
        else:
            self.begin_to_stop()  # asked to end before it began to serve
        if self.failure is None and not self.is_stopping:
            self.is_ready = True
            self.forget_unknown()
            self.teller.system_started(self)
            on_ready()

    async def _boot(self) -> None:
        try:
            self.breaker = live_breaker(self.breaker_factory)
            self.breaker_hears = hasattr(self.breaker, "ended")
            await self.boot()
        except (StartupFailure, Ignore) as failure:
            set_place(failure, None)
            self.failure = failure
            if self.tree.exit_exception is None:
                self.begin_to_stop()
        except (Exception, trio.Cancelled) as exception:
            error = failure_of(exception)
            if error is None:
                raise
            self.give_up_starting(error)

    def give_up_starting(self, exception: BaseException) -> None:
        failure = NonChildFailure(self.path)
        failure.__cause__ = exception
        self.failure = failure
        self.begin_to_stop()

    async def _serve(self) -> None:
        handled = 0
        while not self.is_stopping:
            if not self.messages:
                handled, self._turns_left = 0, MOST_TURNS
                await self.pause(is_idle=True)
            elif handled == MOST_IN_A_ROW:
                handled = 0
                await trio.lowlevel.cancel_shielded_checkpoint()
            else:
                handled += 1
                await self._handle(self.messages.popleft())

    def lends_turn(self) -> bool:
        """Whether a caller may do what it asks for, here and now; it does so then."""
        if self._turns_left and self.is_idle and not self.messages:
            self._turns_left -= 1
            return True
        return False

    @enable_ki_protection
    @types.coroutine
    def succeed(self, member: Member) -> Generator[None, None, Incarnation | None]:
        """The first step of a successor: decide about the end, unless the loop is about to.

        All that has happened in the tick of that end is known by now. Returns the incarnation that
        has been begun since then, if any, for the successor to run.
        """
        former = member.incarnation
        yield
        if self.is_idle and self.messages:
            assert self.own.task is not None
            self._is_in_turn = True
            try:
                self.own.task.context.run(self._handle(self.messages.popleft()).send, None)
            except StopIteration:
                pass  # handled to its end, as it waits for nothing
            finally:
                self._is_in_turn = False
            if self.messages or self.is_stopping:
                self.ring()
        self.successor = None
        return member.incarnation if member.incarnation is not former else None

    def is_asking(self) -> bool:
        """Whether the code that calls this has been called by the loop: a breaker, a predicate."""
        return self._is_in_turn or current_task() is self.own.task

    async def _handle(self, message: Message) -> None:
        try:
            await self.handle(message)
        except BaseException as exception:
            # user code runs in here: a breaker, a backoff, a predicate
            failure = failure_of(exception)
            if failure is None:
                raise
            self._decider_failed(failure)
        finally:
            self.about = None

    async def handle(self, message: Message) -> None:
        """What is done about each message, to its end before the next."""
        match message:
            case Ended(member):
                await self.restarting.decide(member)
            case Called(call):
                await self.calls.serve(call)
            case Due(member):
                self.alone.due(member)
            case Again(member):
                self.alone.again(member)
            case Replay(group, pending):
                await group.replay(pending)
            case Down(member, incarnation):
                await self.calls.restart_down(member, incarnation)
            case StartFailed(member):
                self.calls.try_again(member)
            case NextTry(member):
                self.calls.next_try(member)
            case Emptied():
                self.end_if_empty()
            case _:  # pragma: no cover - the type checkers see that there is no other
                assert_never(message)

    def _decider_failed(self, failure: BaseException) -> None:
        """Code that was asked about a child, or about a whole restart, has failed itself."""
        if is_exit(failure):
            self.tree.exit(failure, self)
            return
        drop_own_frames(failure)
        path, report = self.path, None
        if self.about is not None:
            path, report = self.about.path, self.about.last_report
        add_context(failure, report.exception if report is not None else None)
        error = UnrecoverableFailure(path, root_cause_of(failure), asked=_DECIDERS)
        self.escalate(error, failure)

    def interrupted_by(self, exception: BaseException) -> None:
        self.tree.exit(exception, self)

    # Messages, and what becomes of a child that has ended

    def is_undecided(self, member: Member) -> bool:
        """Whether a child has ended by itself, and nothing has to come before the decision.

        A caller may have asked for it to be down in the tick in which it ended: first that,
        whichever of the two came first, and nothing is begun that would have to be stopped at once.
        As soon as that call is served or given up, the end is left to be decided about again.
        """
        return member.phase is Phase.ENDED and member.key not in self.calls.to_stop

    def end_if_empty(self) -> None:
        """End if nothing is left that runs or comes back."""
        # an end that is still to be decided about lies behind this message in the mailbox
        if all(member.phase.is_over for member in self.members):
            self.begin_to_stop()

    def judge(self, member: Member) -> Verdict:
        """What becomes of a child that has ended, by its own specification."""
        report = member.last_report
        assert report is not None
        self.about = member
        own = member.past.breaker
        if member.child.breaker is not None and own is None:
            own = member.remember().breaker = live_breaker(member.child.breaker)
        if self.breaker_hears:
            tell_breaker(self.breaker, "ended", report)
        if own is not None:
            tell_breaker(own, "ended", report)
        if member in self.hook_errors:
            return Verdict.ESCALATE
        verdict = judge(member.child, report.reason, is_last=self.is_leaving)
        if verdict is Verdict.RESTART and own is not None:
            if allows(own, member.key, trio.current_time()):
                return verdict
            self._refused = member
            return unrecoverable(member.child)
        return verdict

    def may_restart(self, about: Member | None, incident: Incident, delay: float) -> bool:
        """Ask the breaker about a child, or with the supervisor's own key about its system."""
        self.about = about
        key = self.own.key if about is None else about.key
        allowed = allows(self.breaker, key, trio.current_time())
        incident.attempt += 1
        if self.heard_by or self.teller.is_logged(RestartScheduled):
            self.teller.restart_decided(self, about, incident, allowed, delay)
        return allowed

    def terminated(self, member: Member, verdict: Verdict) -> Incident:
        """A child has ended by itself: an incident begins, to be closed by what cures it."""
        report, inner = member.last_report, member.inner
        assert report is not None
        has_inner = inner is not None and inner.own is member.incarnation
        # what made a supervisor give up goes on one level higher
        below = inner.incident if inner is not None and has_inner else None
        incident = Incident(report.path, report.ended_at)
        if below is not None:
            incident = Incident(below.path, below.since, below.number)
        failed = isinstance(report.reason, Failed)
        if self.heard_by or self.teller.is_logged(ChildTerminated, failed):
            self.teller.terminated(member, incident, verdict is Verdict.RESTART)
        return incident

    def attempt_failed(
        self, incident: Incident | None, path: str, error: BaseException | None
    ) -> Incident:
        """The incident goes on; one begins here if a caller had asked for the restart."""
        if incident is None:
            incident = Incident(path, trio.current_time())
            self.teller.incident_opened(incident)
            return incident
        self.teller.attempt_failed(incident, error)
        return incident

    def conclude(self, member: Member, verdict: Verdict, incident: Incident | None) -> None:
        """Write down what has become of a child that is not going to be restarted."""
        member.incident = None
        member.forget_value()
        member.move(AFTER[verdict])
        if verdict is Verdict.SPENT:
            self.members.drop(member)
        if self._refused is member:
            self.teller.own_breaker_refused(member, incident)
        if verdict is Verdict.DISCARD:
            self.teller.child_discarded(member, incident)
        if verdict is Verdict.ESCALATE:
            self._escalate_unrecoverable(member, incident)
        elif incident is not None:
            self.teller.incident_closed(incident, _outcome_of(member, verdict))
        self._refused = None
        if member.child.significant:
            self.significant_ended(member)

    def significant_ended(self, member: Member) -> None:
        """A significant child has ended for good; its supervisor may want to end with it."""

    def leave_out(self, member: Member) -> None:
        """Its start raised `Ignore`."""
        if member.child.restart == "temporary":
            self.conclude(member, Verdict.SPENT, None)
        member.move(Phase.IGNORED)
        self.teller.start_ignored(member)

    # What its children report, in their own tasks

    def on_started(self, member: Member, incarnation: Incarnation) -> None:
        """A child is up. From here on its end is an end by itself."""
        if member.child.takes_status:
            self.tree.slow.end(incarnation)
        if self.heard_by or self.teller.is_logged(ChildStarted):
            self.teller.child_started(member, incarnation)
        if member in self.calls.starts:
            self.calls.starts.pop(member).give(member)
        was_awaited = False
        if incarnation.then and incarnation.burden == "none":
            incarnation.then = Then.DECIDE
            was_awaited = not self.is_idle
        if member.incident is not None:
            if self.heard_by:
                self.teller.incident_closed(member.incident, "cured")
            member.incident = None
        if was_awaited and (self.startup is None or not self.startup.begin_next(member)):
            self.ring()

    def on_ended(self, member: Member, incarnation: Incarnation, report: TerminationReport) -> bool:
        """A child has ended; returns whether its ``on_termination`` is to run first."""
        if report.started_at is None:
            self.tree.slow.end(incarnation)
        is_by_itself = member.phase is Phase.ENDED
        # an end by itself is logged with what becomes of it
        is_logged = not is_by_itself or report.started_at is None
        failed = isinstance(report.reason, Failed)
        if self.heard_by or (is_logged and self.teller.is_logged(ChildTerminated, failed)):
            self.teller.child_ended(member, incarnation, report)
        if member.child.restart == "temporary":
            self.forget(member)
        if member in self.calls.starts or incarnation.then > Then.AWAITED:
            self.calls.on_ended(member, incarnation)
        if self.shutdowns.asked or self.shutdowns.guarded:
            self.shutdowns.forget(incarnation)
        if not is_by_itself:
            if self.shutdowns.turn is member:
                self.shutdowns.advance(in_loop=False)
            elif not self.is_idle:
                self.ring()
            return False
        return self._leave_to_decide(member, report)

    def _leave_to_decide(self, member: Member, report: TerminationReport) -> bool:
        """Wake the loop for an end by itself, or let it sleep and a successor see to that.

        Returns whether ``on_termination`` is to run first, which does so when it is over.
        """
        child, was_started = member.child, report.started_at is not None
        if was_started and child.on_termination is not None:
            exception = report.exception
            if exception is None or not is_exit(exception):
                return True
        wish = WISHES[child.restart, type(report.reason).__name__]
        comes_back = wish is Verdict.RESTART and was_started and child.backoff is None
        is_free = self.is_idle and not self.messages and self.successor is None
        if comes_back and is_free and self.restarting is self.alone:
            self.messages.append(Ended(member))
            self.successor = member
            assert self.own.task is not None
            bear, spawn = self.own.task.context.run, self.nursery.start_soon
            bear(self.teller.bear, spawn, in_own_task, self.succeed(member), member.key)
        else:
            self.post(Ended(member))
        return False

    def on_hook(self, member: Member, hook: Hook) -> None:
        """The ``on_termination`` of a child begins."""
        member.move(Phase.PARTING)
        self.hooks[member] = hook
        self.shutdowns.watch_hook(hook)

    def on_hook_done(self, member: Member, error: Exception | None) -> None:
        self.shutdowns.forget(self.hooks.pop(member))
        if error is not None:
            self.hook_errors[member] = error
        member.move(Phase.ENDED)
        self.post(Ended(member))

    # What is begun

    def accepted(self, child: Child[Any]) -> Child[Any]:
        """A child with this supervisor's defaults; raises if it may not be one of its children."""
        if not isinstance(child, Child):  # pyright: ignore[reportUnnecessaryIsInstance] - a user's
            hint = "; write Child(key, function)" if callable(child) else ""
            raise TypeError(f"a supervisor starts a Child, not {child!r}{hint}")
        start: object = child.start
        if isinstance(start, Supervisor):
            child = cast("Supervisor[object]", start).adopted(child)
        elif self.defaults:
            child = child.with_defaults(self.defaults)
        if child.significant:
            self.check_significant(child)
        return child

    @abstractmethod
    def check_significant(self, child: Child[Any]) -> None:
        """Refuse a significant child where its end would signify nothing."""

    def waits_for(self, incarnation: Incarnation) -> bool:
        """Whether a startup waits for this start; a call that does so waits outside the loop."""
        return False

    def begin_again(self, member: Member) -> None:
        """Begin another try of a first start, in the place that was kept for it."""
        self.begin(member)

    def keep_place(self, member: Member) -> None:
        """A first start has failed and may be tried again."""

    def try_again(self, member: Member, begin: Callable[[], object]) -> bool:
        """Call ``begin()`` when a first start that has failed may be tried again, if it may.

        Runs the user's ``recoverable`` and ``backoff``; what they raise comes out.
        """
        report = member.last_report
        assert report is not None
        pause = pause_before_try(member.child, member.number, report)
        if pause is None:
            return False
        self.teller.start_retried(member, pause)
        member.move(Phase.PAUSING)
        self.waits[member] = self.tree.alarm.at(trio.current_time() + pause, begin)
        return True

    def begin(self, member: Member, part_of: Cause = (), then: Then = Then.DECIDE) -> None:
        """Begin the next incarnation of a child, without waiting for it; none may be alive.

        ``then`` is what follows its end unless it is started, ``part_of`` what it belongs to.
        """
        incarnation = self._next_of(member, part_of, then)
        child, task = member.child, self.own.task
        if child.takes_status and not isinstance(child.start, Supervisor):
            self.tree.slow.begin(incarnation)
        if self.successor is member:
            return  # its task stands ready
        # in the context of the supervisor, in whatever task that comes; none is current in a
        # callback of a loop that trio is the guest of
        here = current_task() if in_trio_task() else None
        assert task is not None, "a supervisor ends after its children"
        bear, spawn, first_step = self.teller.bear, self.nursery.start_soon, begun(incarnation)
        if self._is_in_turn or task is here:
            bear(spawn, in_own_task, first_step, child.key)
        else:
            task.context.run(bear, spawn, in_own_task, first_step, child.key)

    def _next_of(self, member: Member, part_of: Cause, then: Then) -> Incarnation:
        """Make the next incarnation of a child, and write down that it starts."""
        assert not member.phase.is_alive, f"two incarnations of {member.path!r} would overlap"
        former, call = member.incarnation, self.calls.starts.get(member)
        # not what a call wants started, nor another try of a first start
        is_restart = former is not None and call is None and member.phase is not Phase.PAUSING
        if call is not None and not then:
            then, part_of = Then.AWAITED, (call,)
        if former is not None:
            former.value = None  # a traceback may hold on to it
        if not isinstance(member.child.start, Supervisor):
            member.inner = member.below = None
        member.incarnation = incarnation = Incarnation(member, then)
        if is_restart:
            member.remember().restarts += 1
        member.move(Phase.STARTING)
        if incarnation.limits is not None:
            self.shutdowns.guard(incarnation)
        if self.heard_by:
            if is_restart:
                self.teller.child_restarted(member)
            self.teller.child_starting(member, incarnation, part_of)
        return incarnation

    # What is kept down

    def down(self, member: Member, forget: bool) -> None:
        """A call has taken it down; keep it known, unless it is temporary or to be forgotten."""
        self.shut(member)
        if forget:
            self.members.remove(member)
            self.forget(member)
        elif member.child.restart == "temporary":
            self.members.drop(member)
        if member.child.significant:
            self.significant_ended(member)

    def shut(self, member: Member) -> None:
        """Record that the supervisor stopped this child."""
        phase = Phase.STOPPED
        if member.phase is Phase.ENDED:
            assert member.last_report is not None
            if member.last_report.started_at is not None:
                incident = self.terminated(member, Verdict.DOWN)
                self.teller.incident_closed(incident, _outcome_of(member, Verdict.DOWN))
            if judge(member.child, member.last_report.reason, is_last=True) is Verdict.DONE:
                phase = Phase.DONE  # it had ended by itself, for good, before it was asked to
        if member in self.hook_errors:
            # it has come while the child was being taken down: no reason to give up later
            self._hook_failed_late(member, self.hook_errors.pop(member))
        if member in self.waits:
            self.waits.pop(member).cancel()
        if member.incident is not None and member.incident is not self.incident:
            self.teller.incident_closed(member.incident, "stopped")
        member.incident = None
        member.forget_value()
        if member.phase not in (Phase.DONE, Phase.IGNORED):
            member.move(phase)

    def forget(self, member: Member) -> None:
        """Its key is known no more, or it begins anew: let go of what is kept for its path."""
        kept = self.tree.kept
        if kept.below:
            kept.forget(member.path)

    def keep_count(self, member: Member) -> None:
        """Keep what has been counted of a declared child, beyond this incarnation."""
        past = member.past
        if past.failures or past.by_hand:
            self.tree.kept.count(member.path, (past.failures, past.by_hand))

    def recall(self, member: Member) -> None:
        """Go on counting where the last incarnation of this supervisor has stopped."""
        if self.tree.kept.below:
            past = member.remember()
            past.failures, past.by_hand = self.tree.kept.counted(member.path)

    def forget_unknown(self) -> None:
        """The system has come up: what is kept for other keys is not going to be wanted."""
        kept = self.tree.kept
        if kept.below:
            kept.forget_others(self.path, {member.key for member in self.members})

    def _forgotten(self, member: Member) -> None:
        """A key is no longer known: the breakers may forget it, too."""
        try:
            tell_breaker(self.breaker, "forget", member.key)
            tell_breaker(member.past.breaker, "forget", member.key)
        except Exception as error:
            # a caller who takes a start back comes here as well, and has nothing to do with it
            failure = UnrecoverableFailure(member.path, root_cause_of(error), asked="its breaker")
            self.escalate(failure, error)
            self.ring()

    # What callers ask, and some supervisors do

    @abstractmethod
    def replay(self, call: Call) -> None:
        """Have the system run again; refuse that where there is none."""

    async def replay_now(self) -> None:
        """Do so."""

    def call_off(self, member: Member) -> None:
        """A child that waits to be restarted shall stay down."""

    def withdraw(self, call: Call) -> None:
        """The caller has gone; nothing has been begun for it."""

    def queued(self, key: str) -> int:
        """How many starts wait for a key. May be called from any thread."""
        return 0

    def restart_at(self, member: Member) -> float | None:
        """When a child that waits for its restart is started. May be called from any thread."""
        timer = self.waits.get(member)
        return timer.when if timer is not None else None

    # Giving up

    def _escalate_unrecoverable(self, member: Member, incident: Incident | None) -> None:
        error = self.hook_errors.pop(member, None)
        if self.failure is not None:  # it has given up because of another one
            if error is not None:
                self._hook_failed_late(member, error)
            self.teller.incident_closed(incident, "stopped")
            return
        report = member.last_report
        cause = report.exception if report is not None else None
        if error is not None:
            add_context(error, cause)
            cause = error
        self.incident = self.incident or incident
        restarts = member.restarts if self._refused is member else None
        asked = "its on_termination" if error is not None else None
        root = root_cause_of(cause)
        failure = UnrecoverableFailure(member.path, root, restarts=restarts, asked=asked)
        self.escalate(failure, cause)

    def _hook_failed_late(self, member: Member, error: Exception) -> None:
        """There is nothing left that it could decide, but it must not get lost."""
        report = member.last_report
        add_context(error, report.exception if report is not None else None)
        self.teller.hook_failed(member, error)

    def refuse(
        self, member: Member, cause: BaseException | None, incident: Incident | None
    ) -> None:
        """The breaker has refused: give up."""
        self.incident = self.incident or incident
        error = TooManyRestarts(member.path, member.restarts, root_cause_of(cause))
        self.escalate(error, cause)

    def refuse_system(self, attempts: int, failure: Exception, incident: Incident | None) -> None:
        """The same about the system function, which has failed in the last of so many attempts."""
        self.incident = self.incident or incident
        # of what a system function did wrong itself, as using a key twice, there is no other cause
        cause = failure if cause_of(failure) is None else cause_of(failure)
        error = TooManyRestarts(self.path, attempts, root_cause_of(cause), of_system=True)
        self.escalate(error, cause)

    def escalate(self, error: Exception, cause: BaseException | None) -> None:
        """Give up: tear down, then fail, so that the parent decides. The first reason counts."""
        if self.failure is not None:
            return
        error.__cause__ = cause
        self.failure = error
        self.begin_to_stop()
        self.teller.escalated(self, error)

    # Stopping

    @property
    def ending_for(self) -> Occasion:
        """What its children are stopped for when it ends: its own occasion."""
        return self.own.settling_for or "stop"

    def request_stop(self) -> None:
        """Ask the supervisor to stop in order; it may be busy with anything, even its boot."""
        if not self.is_stopping:
            self.begin_to_stop()
            self.interrupt()
            self.ring()

    def begin_to_stop(self) -> None:
        """From now on nothing more is begun."""
        self.is_leaving = self.is_stopping = True
        self.calls.refuse_all()

    def interrupt(self) -> None:
        """Break off what occupies the loop."""
        if self.startup is not None:
            self.startup.interrupt()

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

    def leave(self) -> None:
        """The program is ending because of a child below: give up what was begun for restarts.

        What runs goes on, and calls are served, until its turn comes to stop.
        """
        if self.is_leaving:
            return
        self.is_leaving = True
        self.interrupt()
        self.give_up_restarts()
        for member in list(self.members):
            incarnation = member.incarnation
            # a start that no call or startup waits for: that of a restart alone
            if (
                member.phase is Phase.STARTING
                and incarnation is not None
                and incarnation.then is Then.DECIDE
            ):
                incarnation.follow(Then.DOWN)
                self.shutdowns.ask(member, incarnation, self.ending_for)
        self.stay_down()
        self.ring()

    def refuse_leaving(self) -> None:
        """Raise to a caller who wants something restarted."""
        if self.is_leaving:
            raise SupervisorStopped(f"{self.path!r} restarts nothing any more: the program ends")

    def give_up_restarts(self) -> None:
        """No restart that was begun goes on."""

    def stay_down(self) -> None:
        """Keep down what waits to be restarted; a stop does that to each child in its turn."""
        if self.is_stopping:
            return
        for member in list(self.members):
            waits = member.phase in (Phase.RESTARTING, Phase.WAITING)
            if waits and not self.calls.has_start_of(member):
                self.down(member, forget=False)

    async def _teardown(self) -> None:
        self.teller.system_ending(self)
        await self.stop_children()
        self.teller.teardown_ended(self)

    async def stop_children(self) -> None:
        await self.shutdowns.each(list(reversed(self.members)), self.shut, self.ending_for)

    def _unexpected(self, exception: BaseException) -> None:  # pragma: no cover - see below
        # Ctrl-C in the tick in which the nursery of the main task ends, or a bug: not to get lost
        if is_exit(exception):
            self.tree.exit(exception, self)
        else:
            self.failure = exception

    def _end(self) -> None:
        self.has_ended = True
        self.give_up_restarts()
        for member in self.members:
            if not member.phase.is_final:
                self.shut(member)
        for member in self.members.declared.values():
            self.keep_count(member)
        self.shutdowns.close()
        self.calls.close()
        self.messages.clear()
        self.teller.teardown_ended(self)
        self.teller.system_stopped(self)
        self.let_go()

    def let_go(self) -> None:
        """What has ended leads to no child, so that none is left to the cyclic collector.

        Handles see them through `Member.below`.
        """
        self.members = Members(self._forgotten)
        del self.nursery


def _outcome_of(member: Member, verdict: Verdict) -> Outcome:
    """What becomes of the incident of a child that is not going to be restarted."""
    exception = member.last_report.exception if member.last_report is not None else None
    if exception is not None and is_exit(exception):
        return "ended"
    return "stopped" if verdict is Verdict.DOWN else "dropped"
