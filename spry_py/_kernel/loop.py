"""The supervisor's loop: one mailbox, each message handled to its end.

Only the loop decides about children. Whatever happens elsewhere (a child ends, a wait is over, a
caller asks for something) becomes a message; what must be known at once (who has started, who has
ended) is written down where it happens.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, assert_never

import trio
from trio.lowlevel import enable_ki_protection

from spry_py._policy.breaker import allows, live_breaker
from spry_py._spec.errors import (
    Ignore,
    Interrupted,
    NonChildFailure,
    StartupFailure,
    UnrecoverableFailure,
    add_context,
    is_exit,
    root_cause_of,
    set_place,
    sole_leaf_of,
)

from .alone import OneForOne
from .incarnation import note_limit_above
from .keeper import Keeper
from .life import drop_own_frames, failure_of
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

if TYPE_CHECKING:
    from spry_py._spec.options import BreakerFactory

    from .incarnation import Incarnation
    from .member import Member
    from .messages import Message


class Loop(Keeper):
    """One incarnation of a supervisor. Subclasses say how it boots and how it restarts."""

    # To be said by subclasses

    breaker_factory: BreakerFactory

    def __init__(self, own: Incarnation) -> None:
        super().__init__(own)
        self.alone = OneForOne(self)

    @abstractmethod
    async def boot(self) -> None:
        """Start what is declared; raises what the start of the supervisor fails with."""

    # Its life

    @enable_ki_protection
    async def run(self, on_ready: Callable[[], object]) -> None:
        """Boot, serve, tear down. Raises what the supervisor failed with."""
        try:
            async with trio.open_nursery() as self.nursery:
                await self._live(on_ready)
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

    async def _live(self, on_ready: Callable[[], object]) -> None:
        try:
            if self.own.burden == "none":
                await self._boot()
            else:
                self.begin_to_stop()  # asked to end before there was anybody to hear it
            if self.failure is None and not self.is_stopping:
                self.is_ready = True
                self.forget_unknown()
                self.teller.system_started(self)
                on_ready()
            await self._serve()
            await self._teardown()
        except trio.Cancelled:
            self.was_aborted = True
            self.begin_to_stop()
            note_limit_above(self)
            self.shutdowns.close()

    async def _boot(self) -> None:
        try:
            self.breaker = live_breaker(self.breaker_factory)
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
        while not self.is_stopping:
            if self.messages:
                await self._handle(self.messages.popleft())
            else:
                await self.pause()

    async def handle(self, message: Message) -> None:
        """What is done about each message, to its end before the next."""
        match message:
            case Ended(member):
                await self.on_ended_by_itself(member)
            case Called(call):
                await self.calls.serve(call)
            case Due(member):
                self.alone.due(member)
            case Again(member):
                self.alone.again(member)
            case Replay(group, pending):
                await group.replay_due(pending)
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

    def end_if_empty(self) -> None:
        """End if nothing is left that runs or comes back."""
        # an end that is still to be decided about lies behind this message in the mailbox
        if all(member.phase.is_over for member in self.members):
            self.begin_to_stop()

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
        self.escalate(UnrecoverableFailure(path, root_cause_of(failure)), failure)

    def may_restart(self, key: str, about: Member | None) -> bool:
        """Ask the breaker; its errors are told of ``about``, or else of the supervisor itself."""
        self.about = about
        return allows(self.breaker, key, trio.current_time())

    async def _teardown(self) -> None:
        self.teller.system_ending(self)
        await self.stop_children()
        self.teller.teardown_ended(self)

    async def stop_children(self) -> None:
        await self.shutdowns.each(list(reversed(self.members)), self.shut, self.ending_for)

    def _unexpected(self, exception: BaseException) -> None:  # pragma: no cover - as said below
        # Ctrl-C in the tick in which the nursery of the main task ends, or a bug: not to get lost
        if is_exit(exception):
            self.tree.exit(exception, self)
        else:
            self.failure = exception

    def _end(self) -> None:
        self.has_ended = True
        self.give_up_restarts()
        for member in self.members:
            self.shut(member)
        self.shutdowns.close()
        self.calls.close()
        self.messages.clear()
        self.teller.teardown_ended(self)
        self.teller.system_stopped(self)

    # What anybody may ask of it

    def request_stop(self) -> None:
        """Ask the supervisor to stop in order; it may be busy with anything, even its boot."""
        if not self.is_stopping:
            self.begin_to_stop()
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
