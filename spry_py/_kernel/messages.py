"""The messages of a supervisor's loop, and what callers ask of it: sealed, and each handled there.

All that happens to a supervisor becomes one of these; `Loop.handle` has what is done about each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

from spry_py._spec.child import Child

if TYPE_CHECKING:
    from .calls import Call
    from .group import GroupRestart, Pending
    from .incarnation import Incarnation
    from .member import Member


class Ended(NamedTuple):
    """A child has ended by itself, and its ``on_termination`` is over: decide."""

    member: Member


class Due(NamedTuple):
    """The backoff of a child that is restarted alone is over."""

    member: Member


class Again(NamedTuple):
    """A restart alone has failed, and is to be tried again without a wait."""

    member: Member


class Replay(NamedTuple):
    """The backoff of a restart of several children is over, or it has none."""

    group: GroupRestart
    pending: Pending


class Called(NamedTuple):
    """A caller waits for something to be done."""

    call: Call


class Down(NamedTuple):
    """A child that a caller wants restarted has ended as it was asked to."""

    member: Member
    incarnation: Incarnation


class StartFailed(NamedTuple):
    """A first start that a call waits for has failed, and may be tried again."""

    member: Member


class NextTry(NamedTuple):
    """The pause before another try of such a start is over."""

    member: Member


class Emptied:
    """A supervisor that ends when nothing is left may have come to that."""

    __slots__ = ()


Message: TypeAlias = Ended | Due | Again | Replay | Called | Down | StartFailed | NextTry | Emptied


# What callers ask


class Start(NamedTuple):
    """Add a child and start it."""

    child: Child[Any]
    on_conflict: Literal["raise", "queue", "ignore"] = "raise"


class Replace(NamedTuple):
    """The same, in the place of the one that has its key; only in a dynamic supervisor."""

    child: Child[Any]


class Restart(NamedTuple):
    """Start a child again that is known, but down."""

    key: str


class Delete(NamedTuple):
    """Forget a child that is down."""

    key: str


class Terminate(NamedTuple):
    """Stop a child, whatever it is doing; it stays known."""

    key: str


class RestartByStrategy(NamedTuple):
    """Stop a child, and restart it as if it had ended; no breaker is asked."""

    key: str


class Reload:
    """Run the system again, and make the children what it declares now."""

    __slots__ = ()


class Nothing:
    """The caller has given up before it was served; what it had asked for is let go of."""

    __slots__ = ()


Request: TypeAlias = (
    Start | Replace | Restart | Delete | Terminate | RestartByStrategy | Reload | Nothing
)
