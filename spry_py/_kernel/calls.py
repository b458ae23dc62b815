"""Calls from outside that change a running tree: served by the loop, one after the other.

A call is a message. What it begins (a start, a shutdown) is not waited for by the loop: the caller
is woken when the child has started or ended. Each call returns or raises once; from the moment the
supervisor begins to stop with `SupervisorStopped`, or `Interrupted` if its start had begun.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, assert_never

import trio
from trio.lowlevel import (
    Abort,
    RaiseCancelT,
    Task,
    cancel_shielded_checkpoint,
    checkpoint_if_cancelled,
    current_task,
    reschedule,
    wait_task_rescheduled,
)

from spry_py._spec.child import Child
from spry_py._spec.errors import (
    ChildAlreadyPresent,
    ChildAlreadyStarted,
    ChildNotFound,
    ChildRestarting,
    ChildRunning,
    Interrupted,
    SupervisorStopped,
    WouldDeadlock,
)

from .callers import is_awaited
from .context import current_incarnation
from .facts import Origin
from .member import Member
from .messages import (
    Called,
    Delete,
    Down,
    Ended,
    NextTry,
    Nothing,
    Reload,
    Replace,
    Request,
    Restart,
    RestartByStrategy,
    Start,
    StartFailed,
    Terminate,
)
from .phases import Phase, Then

if TYPE_CHECKING:
    from spry_py._spec.options import OnConflict

    from .incarnation import Incarnation
    from .loop import Loop


class Call(Origin):
    """A request from outside and the task that waits for its result."""

    __slots__ = (
        "_task",
        "caller",
        "error",
        "is_answered",
        "is_first",
        "keeps",
        "member",
        "request",
        "result",
    )

    def __init__(self, request: Request) -> None:
        self.request = request
        # the child whose code asks, if it is one
        self.caller = current_incarnation()
        # whether a start that fails leaves the child known
        self.keeps = False
        # whether it waits for the first start of a child
        self.is_first = False
        # the child whose start it waits for
        self.member: Member | None = None
        self.is_answered = False
        self.result: Any = None
        self.error: BaseException | None = None
        self._task: Task | None = None

    def give(self, result: Any = None) -> None:
        if not self.is_answered:
            self.is_answered = True
            self.result = result
            task, self._task = self._task, None
            if task is not None:
                reschedule(task)

    def refuse(self, error: BaseException) -> None:
        if not self.is_answered:
            self.error = error
            self.give()

    async def wait(self) -> Any:
        """Wait for the result; a checkpoint also if it is there already."""
        if self.is_answered:
            await cancel_shielded_checkpoint()
        else:
            self._task = current_task()
            # for those who ask what a task is waiting for
            self._task.custom_sleep_data = self
            await wait_task_rescheduled(self._give_up)
        if self.error is not None:
            raise self.error
        return self.result

    def _give_up(self, _: RaiseCancelT) -> Abort:
        self._task = None
        return Abort.SUCCEEDED


class Calls:
    """The calls that one supervisor incarnation has to serve."""

    __slots__ = ("_ends", "_open", "loop", "starts", "to_stop")

    def __init__(self, loop: Loop) -> None:
        # the supervisor incarnation that is called
        self.loop = loop
        # not served yet, and by key those of them that are going to stop a child
        self._open: dict[Call, None] = {}
        self.to_stop: dict[str, Call] = {}
        self.starts: dict[Member, Call] = {}  # those that wait for a start, by child
        # those that wait for an end, and for what follows it
        self._ends: dict[Incarnation, list[Call]] = {}

    # The caller's side

    async def ask(self, request: Request) -> Any:
        """Have a call served, and return its result.

        A cancelled caller takes a start back, and waits until nothing is left of it; a termination
        goes on without its caller.
        """
        loop = self.loop
        await checkpoint_if_cancelled()
        if isinstance(request, (Start, Replace)):
            child = loop.accepted(request.child)
            if child is not request.child:
                request = request._replace(child=child)
        call = Call(request)
        if loop.heard_by:
            loop.teller.call_made(call)
        if isinstance(request, (Start, Restart)) and loop.lends_turn():
            self._begin_at_once(call, request)
        elif isinstance(request, (Terminate, RestartByStrategy)):
            await self._stop(call, request.key)
        else:
            self._post(call)
        try:
            return await call.wait()
        except (trio.Cancelled, KeyboardInterrupt):
            await self._take_back(call)
            raise

    def _post(self, call: Call) -> None:
        self._open[call] = None
        self.loop.post(Called(call))

    def _begin_at_once(self, call: Call, request: Start | Restart) -> None:
        try:
            self.begin(call, request)
        except Exception as error:
            call.refuse(error)

    async def _stop(self, call: Call, key: str) -> None:
        """Have a call served that stops a child: here, if the loop sleeps over this tick."""
        self.to_stop[key] = call
        loop, member = self.loop, self.loop.members.get(key)
        is_free = loop.is_idle and not loop.messages and loop.successor is None
        if not is_free or member is None or not member.phase.is_alive:
            self._post(call)
            return
        self._open[call] = None
        message = Called(call)
        loop.messages.append(message)
        await cancel_shielded_checkpoint()
        if loop.is_idle and loop.messages and loop.messages[0] is message:
            if member.phase.is_alive:
                loop.messages.popleft()
                await self.serve(call)  # which waits for nothing then
            else:
                loop.ring()

    async def _take_back(self, call: Call) -> None:
        member = call.member
        if call in self._open:
            self._close(call)
            call.give()
            # it may lie in the mailbox for long, if its supervisor is busy
            call.request = Nothing()
        elif member is None:
            self.loop.withdraw(call)
        elif member.phase.is_alive and (member in self.starts or call.error is None):
            # it may have started in the very moment in which its caller was cancelled
            await self._take_start_back(member, call)
        elif self.starts.pop(member, None) is not None:
            self.loop.down(member, forget=not call.keeps)

    async def _take_start_back(self, member: Member, call: Call) -> None:
        incarnation = member.incarnation
        assert incarnation is not None
        if member not in self.starts:
            incarnation.follow(Then.DOWN if call.keeps else Then.FORGET)
        self.loop.shutdowns.ask(member, incarnation, "call", (call,))
        with trio.CancelScope(shield=True):
            while not incarnation.ended:
                await member.watch()

    # The loop's side

    async def serve(self, call: Call) -> None:
        """Do what a caller asks, unless that is too late."""
        if call.is_answered:
            return
        del self._open[call]
        if self.to_stop:
            self._close_stop(call)
        try:
            await self.do(call, call.request)
        except Exception as error:
            call.refuse(error)
            return
        if isinstance(call.request, Reload):
            # what user code raises there is not raised out of the call
            await self.loop.replay_now()

    async def do(self, call: Call, request: Request) -> None:
        """What is done about each request."""
        match request:
            case Start() | Restart():
                self.begin(call, request)
            case Delete(key):
                self._delete(call, key)
            case Terminate(key):
                await self._terminate(call, key)
            case RestartByStrategy(key):
                await self._restart_by_strategy(call, key)
            case Reload():
                self.loop.replay(call)
            case Nothing() | Replace():  # pragma: no cover - returned already; `Admission.do`
                pass
            case _:  # pragma: no cover - the type checkers see that there is no other
                assert_never(request)

    def _close(self, call: Call) -> None:
        """It needs not be served any more."""
        del self._open[call]
        self._close_stop(call)

    def _close_stop(self, call: Call) -> None:
        match call.request:
            case Terminate(key) | RestartByStrategy(key) if self.to_stop.get(key) is call:
                del self.to_stop[key]
                member = self.loop.members.get(key)
                if member is not None and member.phase is Phase.ENDED:
                    # it was not decided about before; now it is, if the call leaves that open
                    self.loop.post(Ended(member))
            case _:
                pass

    def refuse_all(self) -> None:
        """The supervisor begins to stop: nothing more is going to be begun."""
        error = f"{self.loop.path!r} is being stopped"
        for call in list(self._open):
            call.refuse(SupervisorStopped(error))
        self._open.clear()
        self.to_stop.clear()
        for member in [member for member in self.starts if not member.phase.is_alive]:
            was_begun = member.phase is Phase.PAUSING
            call = self.starts.pop(member)
            call.refuse(_interrupted(member) if was_begun else SupervisorStopped(error))

    def refuse_awaited(self) -> None:
        """The loop begins to wait for a start: it cannot serve what that start itself waits for."""
        for call in [call for call in self._open if is_awaited(call.caller, self.loop)]:
            self._close(call)
            call.refuse(WouldDeadlock(f"{self.loop.path!r} waits for the start of its caller"))

    def keep(self, member: Member) -> None:
        """It is declared now: its key stays, whatever becomes of a start by a call."""
        incarnation = member.incarnation
        if incarnation is not None and incarnation.then is Then.FORGET:
            incarnation.then = Then.DOWN
        if member in self.starts:
            self.starts[member].keeps = True

    def close(self) -> None:
        """The supervisor has ended."""
        self.refuse_all()
        assert not self.starts, "a start is still awaited, but nothing is alive"
        for calls in self._ends.values():
            for call in calls:
                call.refuse(SupervisorStopped(f"{self.loop.path!r} has been stopped"))

    def has_start_of(self, member: Member) -> bool:
        """Whether a call waits for this child to start."""
        return member in self.starts

    def on_ended(self, member: Member, incarnation: Incarnation) -> None:
        """It was asked to end, or its start came to nothing: do what is to follow."""
        call = self.starts.pop(member, None)
        if member.phase is Phase.FAILED:
            assert call is not None, "it was asked to end, and has failed by itself"
            self._start_failed(member, call)
            return
        if call is not None:
            call.refuse(_interrupted(member))
            if incarnation.then is not Then.AGAIN:
                incarnation.follow(Then.DOWN if call.keeps else Then.FORGET)
        if incarnation.then is Then.AGAIN:
            member.move(Phase.RESTARTING)
            self.loop.post(Down(member, incarnation))
        else:
            self.loop.down(member, forget=incarnation.then is Then.FORGET)
            for waiting in self._ends.pop(incarnation, ()):
                waiting.give()

    def _start_failed(self, member: Member, call: Call) -> None:
        loop = self.loop
        if member.was_ignored:
            loop.leave_out(member)
            call.give(member)
        elif call.is_first and member.child.start_attempts > 1:
            self._keep_for_another_try(member, call)
        else:
            loop.down(member, forget=not call.keeps)
            call.refuse(member.start_error())

    # First starts that are tried several times

    def _keep_for_another_try(self, member: Member, call: Call) -> None:
        self.starts[member] = call
        member.move(Phase.PAUSING)
        self.loop.keep_place(member)
        self.loop.post(StartFailed(member))

    def is_between_tries(self, member: Member) -> bool:
        """Whether it has failed to start, and is to be started once more."""
        return member.phase is Phase.PAUSING and member in self.starts

    def try_again(self, member: Member) -> None:
        """See to another try of a first start that has failed, or give it up."""
        loop = self.loop
        if not self.is_between_tries(member) or member in loop.waits:
            return
        problem: Exception | None = None
        try:
            if loop.try_again(member, lambda: loop.post(NextTry(member))):
                return
        except Exception as error:
            problem = error
        call = self.starts.pop(member)
        loop.down(member, forget=not call.keeps)
        call.refuse(member.start_error(problem))

    def next_try(self, member: Member) -> None:
        """The pause is over, unless the start was given up."""
        if self.is_between_tries(member) and self.loop.waits.pop(member, None) is not None:
            self.loop.begin_again(member)

    # What can be asked

    def check_conflict(self, on_conflict: OnConflict) -> None:
        """Refuse what this supervisor cannot do about a key that is taken: anything but "raise"."""
        raise ValueError(
            f"start_child: on_conflict must be 'raise' for {self.loop.path!r}, which keeps "
            f"children that have ended, not {on_conflict!r}; that is for a DynamicSupervisor"
        )

    def begin(self, call: Call, request: Start | Restart) -> None:
        """Begin the start of a child that is added, or is down."""
        if isinstance(request, Start):
            self.start(call, request)
        else:
            self._restart(call, request.key)

    def start(self, call: Call, request: Start) -> None:
        """Add a child and start it."""
        known = self.loop.members.get(request.child.key)
        if known is not None:
            self.refuse_known(known)
        self.begin_new(request.child, call)

    def refuse_known(self, member: Member) -> None:
        if member.phase.refuses == "running":
            raise ChildAlreadyStarted(
                f"{member.path!r} is {member.status} already; terminate it first, or use its handle"
            )
        raise ChildAlreadyPresent(
            f"{member.path!r} is known and {member.status}; restart_child it, or delete_child it "
            "first"
        )

    def begin_new(self, child: Child[Any], call: Call) -> None:
        """Make a member and start it for ``call``."""
        loop = self.loop
        member = Member(loop, child)
        loop.members.add(member)
        call.is_first = True
        self._begin(member, call)

    def _begin(self, member: Member, call: Call) -> None:
        self.starts[member] = call
        call.member = member
        self.loop.begin(member)

    def _restart(self, call: Call, key: str) -> None:
        member = self._known(key)
        self._refuse_up(member)
        member.remember().by_hand += 1
        call.keeps = True
        self._begin(member, call)

    def _delete(self, call: Call, key: str) -> None:
        member = self._known(key)
        self._refuse_up(member)
        self.loop.members.drop(member)
        self.loop.forget(member)
        call.give()

    async def _terminate(self, call: Call, key: str) -> None:
        member = self._known(key)
        if member.phase.is_alive:
            self._end(member, call, Then.DOWN)
            return
        await self.take_down(member)
        call.give()

    async def take_down(self, member: Member) -> None:
        """Keep a child down that is not alive, but may be about to come back."""
        await self.loop.shutdowns.one(member, "call")
        self.loop.call_off(member)
        call = self.starts.pop(member, None)
        if call is not None:
            call.refuse(_interrupted(member))
        if member.phase is not Phase.DONE:
            self.loop.down(member, forget=call is not None and call.is_first)

    def _end(self, member: Member, call: Call, then: Then) -> None:
        incarnation = member.incarnation
        assert incarnation is not None
        incarnation.follow(then)
        self._ends.setdefault(incarnation, []).append(call)
        self.loop.shutdowns.ask(member, incarnation, "call", (call,))

    def _known(self, key: str) -> Member:
        member = self.loop.members.get(key)
        if member is None:
            known = self.loop.members.listed()
            raise ChildNotFound(f"{self.loop.path!r} has no child {key!r}; it has {known}")
        return member

    def _refuse_up(self, member: Member) -> None:
        if member.phase.refuses == "running":
            raise ChildRunning(f"{member.path!r} is {member.status}; terminate_child it first")
        if member.phase.refuses == "restarting":
            raise ChildRestarting(
                f"{member.path!r} is {member.status}; terminate_child it to keep it down first"
            )

    async def _restart_by_strategy(self, call: Call, key: str) -> None:
        self.loop.refuse_leaving()
        member = self._known(key)
        if member.phase.is_alive:
            self._end(member, call, Then.AGAIN)
            return
        await self.loop.shutdowns.one(member, "call")
        await self.loop.restarting.restart_by_hand(member, [call])

    async def restart_down(self, member: Member, incarnation: Incarnation) -> None:
        """Restart a child that a caller has had stopped for that."""
        calls = self._ends.pop(incarnation, [])
        if self.loop.is_leaving:
            self.loop.stay_down()
        elif calls and member.phase in (Phase.RESTARTING, Phase.ENDED):
            await self.loop.restarting.restart_by_hand(member, calls)
            return
        # another call has started it meanwhile, or keeps it down
        for call in calls:
            call.give()


def _interrupted(member: Member) -> Interrupted:
    return Interrupted(f"the start of {member.path!r} was interrupted: it is being stopped")
