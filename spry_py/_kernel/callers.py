"""Callers that stand inside the tree they call: which child, and would it wait for ever?"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from threading import get_ident
from typing import TYPE_CHECKING

from spry_py._spec.errors import SupervisorStopped, WouldDeadlock

from .context import current_incarnation, deciding
from .here import refuse_elsewhere

if TYPE_CHECKING:
    from .calls import Calls
    from .incarnation import Incarnation
    from .member import Member


def caller_inside(loop: object) -> Incarnation | None:
    """The calling child, if it lives below ``loop``."""
    incarnation = caller = current_incarnation()
    while incarnation is not None and incarnation.member is not None:
        above = incarnation.member.loop
        if above is loop:
            return caller
        incarnation = above.own
    return None


def caller_below(calls: Calls, key: str) -> Incarnation | None:
    """The calling child, if it is the child ``key`` of the supervisor, or lives below that."""
    member = calls.loop.members.get(key)
    incarnation = caller = current_incarnation()
    while incarnation is not None and incarnation.member is not None:
        if incarnation.member is member:
            return caller
        incarnation = incarnation.member.loop.own
    return None


def is_awaited(caller: Incarnation | None, loop: object) -> bool:
    """Whether ``loop`` waits for the calling child to start, or for what waits for that."""
    while caller is not None and caller.member is not None:
        above = caller.member.loop
        if caller.started_at is not None or not above.waits_for(caller):
            return False
        if above is loop:
            return True
        caller = above.own
    return False


class _ListeningNot:
    __slots__ = ("_caller", "_listener")

    def __init__(self, caller: Incarnation) -> None:
        self._caller = caller
        self._listener = caller.listen()

    def __enter__(self) -> None:
        self._listener.stopping += 1
        if self._caller.burden == "settling":
            self._caller.abort()

    def __exit__(self, *_: object) -> None:
        self._listener.stopping -= 1


def listening_not(caller: Incarnation | None) -> AbstractContextManager[None]:
    """Inside, a caller waits for something that may be its own end: it cannot listen meanwhile.

    Asked to settle, it is aborted in its turn; if it has been asked already, now.
    """
    return nullcontext() if caller is None else _ListeningNot(caller)


def would_deadlock(loop: object) -> bool:
    """Whether ``loop`` waits, now, for the code that calls this."""
    if deciding.get() is loop:
        return True
    incarnation = current_incarnation()
    if incarnation is None:
        return False
    inner = incarnation.inner
    if inner is not None:
        # the supervisor's own code: its system function, or what it asks about an end
        if inner is loop and inner.is_asking():
            return True
        if inner.startup is None:
            return False
        if inner is loop:
            return True
    return is_awaited(incarnation, loop)


def calls_of(member: Member, key: str | None = None) -> Calls:
    """Where calls to a supervisor are served, perhaps for the child of that ``key``.

    Raises if it serves none now or could not.
    """
    tree = member.loop.tree
    if get_ident() != tree.thread:
        refuse_elsewhere(tree.token, f"a call to the supervisor for {_place(member, key)!r}")
    loop = member.inner
    incarnation = member.incarnation
    if loop is None or incarnation is None or loop.own is not incarnation or loop.is_stopping:
        raise SupervisorStopped(f"the supervisor for {_place(member, key)!r} is {member.status}")
    if would_deadlock(loop):
        raise WouldDeadlock(
            f"{loop.path!r} waits for the very code that makes this call, and could serve it only "
            "afterwards; make the call from a task that no start waits for"
        )
    return loop.calls


def _place(member: Member, key: str | None) -> str:
    return member.path if key is None else f"{member.path}/{key}"
