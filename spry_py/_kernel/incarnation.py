"""One run of a key: what its own code calls, and what its supervisor does to it.

An incarnation hands its end to its member and then lets go of it, so that a traceback kept by a
report never keeps the tree alive.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from math import inf
from threading import get_ident
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import trio
from trio import CancelScope

from spry_py._spec.termination import Burden, Occasion

from .here import is_here, refuse_elsewhere
from .life import LateStart, limit_passed
from .phases import Phase, Then

if TYPE_CHECKING:
    from .loop import Loop
    from .member import Member


class Listener:
    """What an incarnation has that wants to be asked before it is aborted."""

    __slots__ = ("asked", "roots", "scopes", "stopping")

    def __init__(self) -> None:
        self.asked = trio.Event()
        self.scopes: WeakSet[CancelScope] = WeakSet()
        # trees opened in the child's own code
        self.roots: list[Incarnation] = []
        # calls of stop() that this very child is waiting in: it cannot listen meanwhile
        self.stopping = 0

    def tell_roots(
        self, ask: Callable[[Incarnation, Occasion | None], object], occasion: Occasion | None
    ) -> None:
        """Stop or abort the trees opened in the child's code, perhaps in runs of other threads."""
        for root in list(self.roots):
            root.call_soon(ask, root, occasion)


class Limits:
    """Until when an incarnation has to do what, and what it failed with if it did not.

    Most have none: the deadline of their scope is never set.
    """

    __slots__ = ("beat_by", "cause", "run_until")

    def __init__(self) -> None:
        self.run_until = self.beat_by = inf
        # why it was cancelled, when that makes it failed
        self.cause: Exception | None = None


class Incarnation:
    """One run of a key; also the ``task_status`` that its start function is given."""

    __slots__ = (
        "burden",
        "is_cancelled",
        "limits",
        "listener",
        "member",
        "more_stacks",
        "number",
        "occasion",
        "scope",
        "started_at",
        "steps",
        "task",
        "then",
        "value",
        "where",
    )

    def __init__(self, member: Member, then: Then = Then.DECIDE) -> None:
        self.member: Member | None = member
        former, start_timeout = member.incarnation, member.child.start_timeout
        self.number: int = 1 if former is None else former.number + 1
        self.limits: Limits | None = None
        self.scope = CancelScope()
        if start_timeout < inf:
            self.limits = Limits()
            self.scope.deadline = member.loop.tree.now() + start_timeout
        self.started_at: float | None = None
        self.value: Any = None
        self.burden: Burden = "none"
        # what it was asked to end for; the first one that asks writes it
        self.occasion: Occasion | None = None
        # its scope was cancelled by us; readers in other threads may not ask the scope itself
        self.is_cancelled = False
        # what follows its end; written by `follow`, and by its supervisor as soon as it is started
        self.then = then
        self.listener: Listener | None = None
        self.task: trio.lowlevel.Task | None = None
        # the coroutine of a child that takes no task_status: its task does not show it
        self.steps: Any = None
        # for those who hold on to it after its end: the key, the path, what writes headers
        self.where: tuple[str, str, Callable[[dict[str, str]], object]] | None = None
        # of what runs for it elsewhere, as in a thread: functions that return where that stands
        self.more_stacks: tuple[Callable[[], str], ...] = ()

    @property
    def ended(self) -> bool:
        return self.member is None

    @property
    def is_cut(self) -> bool:
        """Whether its scope is cancelled. Without a limit trio's clock need not be asked."""
        return self.is_cancelled or (self.limits is not None and self.scope.cancel_called)

    @property
    def cause(self) -> Exception | None:
        """Why it was cancelled, when that makes it failed."""
        return self.limits.cause if self.limits is not None else None

    @property
    def limit_is_over(self) -> bool:
        """Whether a time limit has struck; readers in other threads may ask."""
        deadline, member = self.scope.deadline, self.member
        if deadline == inf or member is None:
            return False
        return deadline <= member.loop.tree.clock.current_time()

    @property
    def key(self) -> str:
        member = self.member
        return member.key if member is not None else self.where[0]  # type: ignore[index]

    @property
    def path(self) -> str:
        member = self.member
        return member.path if member is not None else self.where[1]  # type: ignore[index]

    @property
    def inner(self) -> Loop | None:
        """The loop of a child supervisor, while this is the incarnation that runs it."""
        member = self.member
        inner = member.inner if member is not None else None
        return inner if inner is not None and inner.own is self else None

    # What the child's own code calls

    @trio.lowlevel.enable_ki_protection
    def started(self, value: Any = None) -> None:
        """The child is up; ``value`` is returned from the call that waits for the start.

        Raises `RuntimeError` if the child has called it before, or after its start was cancelled.
        """
        member = self.member
        if member is not None and get_ident() != member.loop.tree.thread:
            refuse_elsewhere(member.loop.tree.token, "task_status.started", is_async=False)
        if self.started_at is not None:
            raise RuntimeError(f"child {self.path!r} called task_status.started() twice")
        if member is None:
            raise RuntimeError(f"child {self.path!r} called task_status.started() after its end")
        if self.is_cancelled or (self.limits is not None and self.is_cut):
            raise LateStart(
                f"child {self.path!r} called task_status.started() after its start was cancelled; "
                "let trio.Cancelled pass (clean up in a finally block) instead of going on"
            )
        self.value = value
        self.started_at = now = member.loop.tree.now()
        run_timeout = member.child.run_timeout
        if self.limits is not None or run_timeout < inf:
            limits = self.limited()
            limits.run_until = now + run_timeout
            self._set_deadline(min(limits.run_until, limits.beat_by))
        if self.burden == "none":
            member.move(Phase.RUNNING)
        member.loop.on_started(member, self)

    def listen(self) -> Listener:
        """From now on the child is asked to settle before it is aborted."""
        if self.listener is None:
            self.listener = Listener()
            if self.burden != "none":
                self.listener.asked.set()
        return self.listener

    @property
    def is_listening(self) -> bool:
        if self.listener is not None and not self.listener.stopping:
            return True
        return self.inner is not None

    def beat(self) -> None:
        member = self.member
        if member is None or member.child.heartbeat == inf or self.burden != "none":
            return
        limits = self.limited()
        limits.beat_by = trio.current_time() + member.child.heartbeat
        if self.started_at is not None:
            self._set_deadline(min(limits.run_until, limits.beat_by))

    def limited(self) -> Limits:
        """Its limits, to set one."""
        if self.limits is None:
            self.limits = Limits()
        return self.limits

    def _set_deadline(self, deadline: float) -> None:
        if self.burden == "none":
            assert self.member is not None
            self.scope.deadline = deadline
            self.member.loop.shutdowns.guard(self)

    def fail(self, cause: Exception) -> None:
        """Cancel the child; it ends failed with ``cause`` whatever it makes of that."""
        if self.member is not None and self.cause is None:
            self.limited().cause = cause
            self.cancel()
            self.watch_over()

    def watch_over(self) -> None:
        """It has been cancelled: have it reported if it does not end."""
        assert self.member is not None
        self.member.loop.shutdowns.watch(self)

    def note_limit(self) -> Exception | None:
        """If a time limit has struck already, that is why it ends, whatever comes now.

        Returns why it was cancelled, when that makes it failed.
        """
        limits = self.limits
        if limits is None:
            return None
        if limits.cause is None and self.burden == "none":
            limits.cause = limit_passed(self, limits)
        return limits.cause

    def unasked(self) -> None:
        """It has ended by a cancellation that was not announced."""
        assert self.member is not None, "an end was noticed twice"
        note_limit_above(self.member.loop)
        self.bear("aborted")

    def call_soon(self, function: Callable[..., object], *args: object) -> None:
        """Call now if this is trio's thread, soon if it is another one, never after the end."""
        member = self.member
        if member is None:
            return
        token = member.loop.tree.token
        if is_here(token):
            function(*args)
        else:
            with suppress(trio.RunFinishedError):
                # at most once at a time: a thread may beat more often than a busy loop hears it
                token.run_sync_soon(function, *args, idempotent=not args)

    # What its supervisor does to it

    @property
    def settling_for(self) -> Occasion | None:
        """What it is ending for; a limit cancels without a word, or by `fail`."""
        if self.burden != "none":
            return self.occasion
        if self.is_cancelled or self.scope.cancel_called:
            return "limit"
        return self._limit_above()

    def _limit_above(self) -> Occasion | None:
        """Whether a limit of a supervisor has struck: trio cancels what is below without a word."""
        loop = self.member.loop if self.member is not None else None
        while loop is not None and loop.path:
            if loop.own.scope.cancel_called:
                return "limit"
            loop = loop.own.member.loop if loop.own.member is not None else None
        return None

    def note_occasion(self, occasion: Occasion) -> None:
        """It is about to be asked to end; the first occasion counts."""
        if self.occasion is None:
            self.occasion = "limit" if self.is_cut else occasion

    def follow(self, then: Then) -> None:
        """One more wish about what follows its end."""
        if then > self.then:
            self.then = then

    def bear(self, burden: Burden) -> None:
        """From now on it ends because it was asked to."""
        self.burden = burden
        if self.member is not None:
            self.member.move(Phase.STOPPING)

    def settle(self) -> None:
        """Ask the child to finish; its own time limits no longer count."""
        if self.member is not None and self.member.loop.heard_by:
            self.member.loop.teller.child_settling(self.member, self)
        if self.limits is not None:
            self.note_limit()
        self.bear("settling")
        if self.limits is not None:
            self.scope.deadline = inf
        if self.inner is not None:
            self.inner.request_stop()
        if self.listener is not None:
            self.listener.asked.set()
            for scope in list(self.listener.scopes):
                scope.cancel(reason="the child is settling")
            self.listener.tell_roots(Incarnation.stop, self.occasion)

    def stop(self, occasion: Occasion | None = "stop") -> None:
        """Ask it to finish, unless that has been done."""
        if self.burden == "none":
            self.note_occasion(occasion or "stop")
            self.settle()

    def abort(self, occasion: Occasion | None = "stop") -> None:
        """Cancel the child, and with it all that lives below it."""
        self.note_occasion(occasion or "stop")
        if self.burden != "aborted" and self.member is not None and self.member.loop.heard_by:
            self.member.loop.teller.child_aborted(self.member, self)
        if self.limits is not None:
            self.note_limit()
        self.bear("aborted")
        self.cancel()

    def cancel(self) -> None:
        """Cancel the child's scope, and with it all that lives below it."""
        if self.inner is not None:
            abort_below(self.inner)
        if self.listener is not None:
            self.listener.tell_roots(Incarnation.abort, self.settling_for or "limit")
        self.scope.cancel()
        self.is_cancelled = True


def living_below(loop: Loop) -> Iterator[Incarnation]:
    """All living incarnations of a supervisor's subtree; a loop, for trees may be deep."""
    pending = [loop]
    while pending:
        for member in pending.pop().members:
            incarnation = member.incarnation
            if incarnation is not None and not incarnation.ended:
                yield incarnation
                if incarnation.inner is not None:
                    pending.append(incarnation.inner)


def note_limit_above(loop: Loop) -> None:
    """Something below ``loop`` was cancelled unasked: a time limit of a supervisor has struck.

    It was not noted, since trio cancels by itself; so note it now, for the whole subtree.
    """
    top: Loop | None = None
    while loop.path:
        if loop.own.burden == "none" and loop.own.scope.cancel_called:
            top = loop
        assert loop.own.member is not None, "a supervisor ends after its children"
        loop = loop.own.member.loop
    if top is not None:
        abort_below(top)


def abort_below(loop: Loop) -> None:
    """Mark a subtree that is being cancelled whole, and abort the trees opened in its children."""
    occasion = loop.own.settling_for or "limit"
    _abort_loop(loop)
    for incarnation in living_below(loop):
        member = incarnation.member
        assert member is not None
        loop.teller.child_asked(member, incarnation, ())
        incarnation.note_occasion(occasion)
        if incarnation.burden != "aborted":
            loop.teller.child_aborted(member, incarnation)
        incarnation.note_limit()
        incarnation.bear("aborted")
        if incarnation.inner is not None:
            _abort_loop(incarnation.inner)
        if incarnation.listener is not None:
            incarnation.listener.tell_roots(Incarnation.abort, occasion)


def _abort_loop(loop: Loop) -> None:
    loop.teller.subtree_aborted(loop)
    loop.shutdowns.close()
    if loop.is_ready and not loop.is_stopping:
        # what lies in its mailbox is not begun any more, even if it comes to that
        loop.begin_to_stop()
