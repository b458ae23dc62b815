"""Running a system: its children start one at a time, in the order in which it declares them.

A first startup and a replay are the same thing: what is alive is not started, and its present value
is returned.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Collection, Sequence
from types import CoroutineType
from typing import TYPE_CHECKING, Any

import trio
from trio.lowlevel import disable_ki_protection

from spry_py._spec.check import check_awaitable
from spry_py._spec.child import Child
from spry_py._spec.errors import (
    ChildFailure,
    Ignore,
    Interrupted,
    NonChildFailure,
    ReusedKey,
    StartupFailure,
    SupervisorStopped,
    is_exit,
    leaves_of,
)

from .life import drop_own_frames, failure_of
from .member import Member
from .phases import Phase, Then
from .scope import Declaring, Scope

if TYPE_CHECKING:
    from spry_py._spec.termination import Occasion

    from .before import Before
    from .incarnation import Incarnation
    from .system import SystemLoop

_STOPPING = (Interrupted, SupervisorStopped)


class Startup:
    """One run of a system function."""

    __slots__ = (
        "_before",
        "_cancel_scope",
        "_changes",
        "_declaring",
        "_has_moved",
        "_inserted",
        "_loop",
        "_problems",
        "_rest",
        "_turn",
        "declared",
        "failed",
    )

    def __init__(
        self, loop: SystemLoop, changes: bool = False, before: Before | None = None
    ) -> None:
        self._loop = loop
        # whether a child whose specification has changed is started anew
        self._changes = changes
        # to go back to, if a caller asked for this and nothing comes of it
        self._before = before
        self._cancel_scope = trio.CancelScope()
        # what recoverable or backoff raised when asked about another try
        self._problems: dict[Member, Exception] = {}
        # what a system function is given; a list needs none
        self._declaring: Declaring | None = None
        # the children of a list that are still to be begun, and the last one that was: its start
        # begins the next
        self._rest: deque[Child[Any]] = deque()
        self._turn: Member | None = None
        # in the order of declaration
        self.declared: dict[str, None] = {}
        # new keys among old ones
        self._inserted: set[str] = set()
        # whether they stand elsewhere than behind all those that were there before
        self._has_moved = False
        # the children whose start has failed, by path: a system may have gone on without them
        self.failed: dict[str, Member] = {}

    @property
    def loop(self) -> SystemLoop:
        """The supervisor incarnation that starts."""
        return self._loop

    @property
    def is_waiting(self) -> bool:
        """Whether the system waits for the start of a child; a list does nothing else."""
        return self._declaring is None or self._declaring.is_busy

    async def run(self) -> None:
        """Run the system function to its end.

        Raises `Interrupted` if a stop came, else the `StartupFailure` that it ended with. What had
        started stays started: the caller knows what to do with it.
        """
        loop = self._loop
        error: BaseException | None = None
        was_cancelled = False
        try:
            with self._cancel_scope:
                await self._start_declared()
        except BaseException as exception:
            error = failure_of(exception)
            was_cancelled = error is None
        finally:
            if self._declaring is not None:
                loop.tree.slow.end(self)
                self._declaring.close()
            if self._inserted:
                loop.members.put_in_order(self.declared, self._inserted)
            if self._has_moved:
                loop.teller.system_ordered(loop, self, loop.members.keys())
        if was_cancelled:
            await trio.lowlevel.checkpoint_if_cancelled()
        if error is not None:
            self._fail(error)
        if loop.is_leaving:
            raise Interrupted(f"the startup of {loop.path!r} was interrupted: it is being stopped")

    def interrupt(self) -> None:
        """A stop has come: cancel whatever the system function waits for."""
        self._cancel_scope.cancel()

    async def _start_declared(self) -> None:
        loop, system = self._loop, self._loop.system
        if callable(system):
            self._declaring = declaring = Declaring(self)
            loop.tree.slow.begin(self)
            await self._call(system, loop.scope_class(declaring))
            if not loop.is_leaving:
                declaring.refuse_unawaited()
        else:
            self._rest.extend(system)
            while self._rest:
                await self.start(self._rest.popleft())

    @disable_ki_protection
    async def _call(self, system: Callable[[Scope], Awaitable[object]], scope: Scope) -> None:
        awaitable = system(scope)
        if awaitable.__class__ is not CoroutineType:  # no call in between: see `_run_child._call`
            check_awaitable(f"the system function of {self._loop.path!r}", system, awaitable)
        result = await awaitable
        if result is not None:
            raise TypeError(
                f"the system function of {self._loop.path!r} must return None, not {result!r}; "
                "a system only declares its children"
            )

    def _fail(self, error: BaseException) -> None:
        """Raise what the startup failed with, out of what the system function raised."""
        path = self._loop.path
        drop_own_frames(error)
        if is_exit(error):
            self._loop.tree.exit(error, self._loop)
            raise Interrupted(f"the startup of {path!r} was interrupted: the program is ending")
        if self._loop.is_leaving and all(isinstance(x, _STOPPING) for x in leaves_of(error)):
            return
        theirs = (Ignore, Interrupted) if self._loop.is_ready else ()
        if isinstance(error, StartupFailure | Ignore) and not isinstance(error, theirs):
            raise error
        raise NonChildFailure(path) from error

    # What the scope offers

    async def start(self, child: Child[Any]) -> Any:
        """Start one that is acceptable, and return its value once it is started."""
        member = self._declare(child)
        if member is not None and self._has_to_wait(member):
            member = await self._make_ready(member, child)
        if member is None or not member.phase.is_replayed:
            await trio.lowlevel.checkpoint()
            return self._present_value(member)
        self._spawn(member, child)
        await self._until_over((member,))
        return self._started_value()

    def _started_value(self) -> Any:
        """Of the child that was begun; of a list, of the one that has come last."""
        member, self._turn = self._turn, None
        assert member is not None
        incarnation = member.incarnation  # the last of its tries
        assert incarnation is not None
        if incarnation.started_at is not None:
            self._note_change()
            return incarnation.value
        return self._not_started(member)

    def begin_next(self, member: Member) -> bool:
        """A child of a list is started: begin the next one, in the task of the one before it.

        To wake the loop for each of them would cost as much as the start itself. What has to be
        waited for is left to the loop: also that a stop has come.
        """
        loop = self._loop
        if member is not self._turn or not self._rest or self._changes or loop.is_leaving:
            return False
        child, members = self._rest[0], loop.members
        known = members.declared.get(child.key)
        if known is None and (child.key in members.gone or child.key in members.added):
            return False
        if known is not None and not known.phase.is_replayed:
            return False
        self._rest.popleft()
        following = self._declare(child)
        assert following is not None, "what is left out cannot begin"
        self._spawn(following, child)
        loop.waiting_for = (following,)
        return True

    def _may_try_again(self, member: Member) -> bool:
        """If the first start of a child has failed and may be tried again, see to that."""
        loop = self._loop
        if member.child.start_attempts == 1 or loop.is_ready or loop.is_leaving:
            return False
        try:
            return loop.try_again(member, lambda: self._begin_again(member))
        except Exception as error:
            self._problems[member] = error
            return False

    def _begin_again(self, member: Member) -> None:
        if self._loop.is_leaving:
            return
        del self._loop.waits[member]
        self._loop.begin(member, self._loop.part_of, Then.AWAITED)

    def _note_change(self) -> None:
        if self._before is not None:
            self._before.has_changed = True

    def _has_to_wait(self, member: Member) -> bool:
        """Whether something that is under way with a child comes first, or may do so."""
        return member.phase.is_alive or (self._changes and member.incarnation is not None)

    async def _make_ready(self, member: Member, child: Child[Any]) -> Member | None:
        """Wait for what is under way with a child, and stop one that is to become another.

        ``None`` if that was the last of it, as for a temporary one that a call terminates.
        """
        incarnation = member.incarnation
        if self._changes and (member.child != child or member.status == "stopping"):
            if member.phase.is_up:
                await self._make_way(member)
            if member.child != child:
                self._keep(member)
                self._comes_back(member)
                past = member.remember()
                past.breaker, past.in_a_row = None, 0
        elif incarnation is not None and incarnation.started_at is None and member.phase.is_alive:
            await self._until_up(member, incarnation)
        return self._loop.members.declared.get(member.key)

    async def _make_way(self, member: Member) -> None:
        """Stop a child that is to be another one from now on."""
        incarnation = member.incarnation
        assert incarnation is not None
        self._loop.waiting_for = (member,)
        self._loop.calls.refuse_awaited()
        if incarnation.burden == "none":
            self._note_change()
            await self._shut_down([member], after=self._made_way)
        else:
            # it is being stopped by a call, which has its own idea of what becomes of it
            await self._shut_down([member], after=lambda _: None)

    def _made_way(self, member: Member) -> None:
        self._shut(member)
        self._comes_back(member)

    def _comes_back(self, member: Member) -> None:
        """It is down, but not for good, however long the start of others is waited for first."""
        if member.is_declared:
            member.move(Phase.RESTARTING)

    def _keep(self, member: Member) -> None:
        if self._before is not None:
            self._before.keep(member)

    async def _until_up(self, member: Member, incarnation: Incarnation) -> None:
        """Wait for a start that a call or a restart has begun, as if it was part of this one."""
        loop = self._loop
        has_call = loop.calls.has_start_of(member)
        incarnation.follow(Then.AWAITED)
        loop.waiting_for = (member,)
        loop.calls.refuse_awaited()
        await self._until_over([member])
        report = member.last_report
        if incarnation.started_at is None and (report is None or report.burden == "none"):
            if has_call:
                self._keep(member)  # down, as its caller has left it
            elif self._before is not None:
                self._before.owe(member)
            self._not_started(member)

    async def start_again(self, member: Member) -> None:
        """Start a child that no system has declared, as a part of this replay."""
        if self._loop.is_leaving:
            raise Interrupted(f"the restart of {member.path!r} was interrupted by a stop")
        try:
            self._spawn(member, member.child)
            await self._until_over((member,))
            self._started_value()
        except ChildFailure:
            member.move(Phase.RESTARTING)  # it stays known, for the next attempt
            raise

    async def start_together(self, declared: Sequence[Child[Any]]) -> tuple[Any, ...]:
        """Start several at the same time; all or none of them."""
        children: list[Child[Any]] = []
        keys = set[str]()
        for child in declared:
            children.append(self.acceptable(child, keys))
            keys.add(child.key)
        members = [self._declare(child) for child in children]
        try:
            for index, member in reversed([*enumerate(members)]):
                if member is not None and self._has_to_wait(member):
                    members[index] = await self._make_ready(member, children[index])
            begun = self._spawn_all(members, children)
        except BaseException:
            self._never_begin(members)
            raise
        if begun:
            await self._until_over(begun)
        failed = [member for member in begun if _has_failed(member)]
        if failed and not self._loop.is_leaving:
            await self._take_back(begun)
        for member in failed:
            self._not_started(member)
        self._raise_if_interrupted(begun)
        for member in begun:
            if member.phase.is_alive or not member.was_ignored:
                self._note_change()
            else:
                self._loop.leave_out(member)
        return tuple(self._present_value(member) for member in members)

    def acceptable(self, child: Child[Any], beside: Collection[str] = ()) -> Child[Any]:
        """The child with this supervisor's defaults; raises if it cannot be started now."""
        loop = self._loop
        if loop.is_leaving:
            raise self._is_stopped()
        child = loop.accepted(child)
        if child.key in self.declared or child.key in beside:
            raise ReusedKey(child.key, f"{loop.path}/{child.key}")
        return child

    def _is_stopped(self) -> SupervisorStopped:
        path = self._loop.path
        return SupervisorStopped(f"{path!r} is being stopped: it starts no more children")

    def _declare(self, child: Child[Any]) -> Member | None:
        """The member of that key, known or new; ``None`` for one that a replay leaves out."""
        loop, key = self._loop, child.key
        members = loop.members
        member = members.declared.get(key)
        if member is None and key not in members.gone:
            # before a first startup is over there are no others, and calls are not served
            member = self._among_others(key) if loop.is_ready else None
            if member is None:
                member = members.declared[key] = Member(loop, child)
                loop.recall(member)
        self.declared[key] = None
        return member

    def _among_others(self, key: str) -> Member | None:
        """Where a key stands that a replay declares for the first time, and who has it already."""
        members = self._loop.members
        if key in members.added:
            # in one of the groups at any time, for those that read in other threads
            member = members.declared[key] = members.added[key]
            del members.added[key]
            self._has_moved = True
            self._loop.calls.keep(member)
            return member
        before = next(reversed(self.declared), None)
        if members.declared and before != next(reversed(members.declared)):
            self._inserted.add(key)
        self._has_moved |= bool(self._inserted or members.added)
        return None

    def _present_value(self, member: Member | None) -> Any:
        """The value of a child that is not started now.

        Of one whose end is still to be decided, this is its last value: the decision comes when
        the startup is over, and a replay then brings the new one.
        """
        if member is None or member.phase in (Phase.DONE, Phase.IGNORED):
            return None
        assert member.incarnation is not None, "what has never run is started"
        return member.incarnation.value

    def _spawn(self, member: Member, child: Child[Any]) -> None:
        loop = self._loop
        if loop.is_leaving:  # the stop may have come while it was made ready
            raise self._is_stopped()
        if member.incarnation is not None:
            if self._before is not None:
                self._before.keep(member)
                member.remember().by_hand += 1
            elif member in loop.waits:
                loop.waits.pop(member).cancel()
        member.child = child
        self._turn = member
        loop.begin(member, loop.part_of, Then.AWAITED)

    def _spawn_all(
        self, members: list[Member | None], children: Sequence[Child[Any]]
    ) -> list[Member]:
        begun: list[Member] = []
        for member, child in zip(members, children, strict=True):
            if member is not None and member.phase.is_replayed:
                self._spawn(member, child)
                begun.append(member)
        return begun

    def _never_begin(self, members: list[Member | None]) -> None:
        """Those of a group that are down and not going to be begun are not declared after all."""
        for member in members:
            if member is not None and member.phase.is_replayed:
                self.declared.pop(member.key, None)
                if member.phase is Phase.NEW:
                    del self._loop.members.declared[member.key]
                    member.move(Phase.STOPPED)

    async def _until_over(self, members: Collection[Member]) -> None:
        """Wait until all of them are started, or one has failed, or a stop has come.

        They are starting, so there is nothing to see before something has happened. Those of a list
        take turns meanwhile: what is waited for then is another one.
        """
        loop = self._loop
        loop.waiting_for = members
        is_over = False
        try:
            while not (is_over or loop.is_leaving):
                await loop.pause()
                is_over = not self._are_starting(loop.waiting_for)
        except trio.Cancelled:
            await self._cancelled(loop.waiting_for)
        if loop.is_leaving:
            await self._interrupted(loop.waiting_for)

    def _are_starting(self, members: Collection[Member]) -> bool:
        """Whether to wait on: some are not started yet, and none has failed for good."""
        waiting = False
        for member in members:
            incarnation = member.incarnation
            assert incarnation is not None
            if incarnation.started_at is not None:
                continue
            if not member.phase.is_alive:
                if member.was_ignored:
                    continue
                if member not in self._loop.waits and not self._may_try_again(member):
                    return False
            waiting = True
        return waiting

    async def _cancelled(self, members: Collection[Member]) -> None:
        """By a stop, which is no cancellation; or by the user, who thereby takes the start back."""
        if not self._loop.is_leaving:
            await self._take_back(members)
            await trio.lowlevel.checkpoint()

    async def _interrupted(self, members: Collection[Member]) -> None:
        """Shut them down: they are the last ones, and so it is their turn.

        What the system function holds for them must not be let go of before they have ended. Those
        that have been left out before the stop came are that, and not stopped. One that pauses
        between two tries goes on to wait, since its start is not over.
        """
        for member in members:
            if member.phase is Phase.FAILED and member.was_ignored:
                self._loop.leave_out(member)
        alive = [member for member in members if member.phase.is_alive]
        if alive:
            await self._shut_down(alive)

    async def _take_back(self, members: Collection[Member]) -> None:
        """Shut down in reverse what has been started together; the keys are free again."""
        waits = self._loop.waits
        failed = [member for member in members if _has_failed(member) and member not in waits]
        await self._shut_down(members)
        for member in members:
            if member not in failed:
                self._free(member)

    async def _shut_down(
        self, members: Collection[Member], after: Callable[[Member], object] | None = None
    ) -> None:
        loop = self._loop
        if loop.heard_by:
            loop.teller.teardown_began(loop, loop.part_of)
        with trio.CancelScope(shield=True):
            row, after = list(members)[::-1], after or self._shut
            await loop.shutdowns.each(row, after, self._occasion)
        if loop.heard_by:
            loop.teller.teardown_ended(loop)

    @property
    def _occasion(self) -> Occasion:
        """What children are stopped for that this startup stops."""
        if self._loop.is_ready and not self._loop.is_leaving:
            return "replay" if self._changes else "restart"
        return self._loop.ending_for

    def _shut(self, member: Member) -> None:
        before = self._before
        if before is None or not before.keeps(member):
            self._loop.shut(member)
        else:
            # put back, or tried again with the next attempt
            member.move(Phase.RESTARTING)

    def _not_started(self, member: Member) -> None:
        """A start that is over without having succeeded: left out, or a failure to raise."""
        loop = self._loop
        self._raise_if_interrupted([member])
        if member.was_ignored:
            loop.leave_out(member)
            return
        self.failed[member.path] = member
        error = member.start_error(self._problems.get(member))
        self._free(member)
        raise error

    def _raise_if_interrupted(self, members: list[Member]) -> None:
        loop = self._loop
        for member in members:
            is_over = _has_failed_by_itself(member) and member not in loop.waits
            if loop.is_leaving and not is_over:
                raise Interrupted(
                    f"the start of {member.path!r} was interrupted: {loop.path!r} is being stopped"
                )

    def _free(self, member: Member) -> None:
        """Free the key of a start that came to nothing: the system may declare it again."""
        self.declared.pop(member.key, None)
        if member.number == 1 or not self._loop.is_ready:
            self._loop.members.declared.pop(member.key, None)
            self._loop.keep_count(member)
            member.move(Phase.STOPPED)
        else:
            # in a replay: tried again with the next attempt, unless the system goes on without it
            member.move(Phase.RESTARTING)


def _has_failed_by_itself(member: Member) -> bool:
    report = member.last_report
    return _has_failed(member) and report is not None and report.burden == "none"


def _has_failed(member: Member) -> bool:
    incarnation = member.incarnation
    assert incarnation is not None
    return incarnation.ended and incarnation.started_at is None and not member.was_ignored
