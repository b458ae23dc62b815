"""How a child ended: the reason, the burden it was under, and the report of both."""

from __future__ import annotations

from dataclasses import field
from typing import Literal, TypeAlias

from .errors import Interrupted, leaves_of, repr_of_fields, sole_leaf_of
from .frozen import setter
from .values import dataclass

Occasion: TypeAlias = Literal["stop", "restart", "replay", "call", "limit"]
"""What a child is stopped for: the end of its system, a sibling's restart, a new declaration, a
call that names it, or a time limit or failure of its own or of a supervisor above it."""

Burden: TypeAlias = Literal["none", "settling", "aborted"]
"""The state in which a child ended: left alone, asked to finish, or cancelled."""


@dataclass(frozen=True, slots=True, init=False)
class Normal:
    """The child returned ``value``."""

    value: object = None

    def __init__(self, value: object = None) -> None:
        _set_value(self, value)

    def __repr__(self) -> str:
        return repr_of_fields(self)


_set_value = setter(Normal, "value")


@dataclass(frozen=True, slots=True)
class Aborted:
    """The child was cancelled and let the cancellation through."""


@dataclass(frozen=True, slots=True, init=False)
class Failed:
    """The child ended with ``exception``."""

    exception: BaseException

    def __init__(self, exception: BaseException) -> None:
        _set_exception(self, exception)

    # the very same exception: what its class makes of `==` and of its hash is not asked

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Failed):
            return NotImplemented
        return self.exception is other.exception

    def __hash__(self) -> int:
        return hash((Failed, id(self.exception)))

    def __repr__(self) -> str:
        return repr_of_fields(self)


_set_exception = setter(Failed, "exception")

Reason: TypeAlias = Normal | Aborted | Failed

ABORTED = Aborted()


@dataclass(frozen=True, slots=True, init=False)
class TerminationReport:
    """All that is known of one end of one incarnation. Times are seconds on trio's clock.

    ``started_at`` is the moment the child was started, ``None`` if it never was. ``time`` is the
    moment of the end on the wall clock, in seconds since the epoch; it is not compared.
    """

    key: str
    path: str
    incarnation: int
    reason: Reason
    burden: Burden
    started_at: float | None
    ended_at: float
    time: float = field(default=0.0, compare=False, repr=False)

    def __init__(
        self,
        key: str,
        path: str,
        incarnation: int,
        reason: Reason,
        burden: Burden,
        started_at: float | None,
        ended_at: float,
        time: float = 0.0,
    ) -> None:
        # the slots themselves: a generated __init__ takes four times as long, at each termination
        _set_key(self, key)
        _set_path(self, path)
        _set_incarnation(self, incarnation)
        _set_reason(self, reason)
        _set_burden(self, burden)
        _set_started_at(self, started_at)
        _set_ended_at(self, ended_at)
        _set_time(self, time)

    @property
    def lifetime(self) -> float | None:
        """Seconds from started to the end; ``None`` if the child was never started."""
        return None if self.started_at is None else self.ended_at - self.started_at

    @property
    def failed(self) -> bool:
        """Whether the reason is `Failed`, by more than a stop that has interrupted a start."""
        if not isinstance(self.reason, Failed):
            return False
        if self.burden == "none":
            return True
        leaves = leaves_of(self.reason.exception)
        return not all(isinstance(leaf, Interrupted) for leaf in leaves)

    @property
    def exception(self) -> BaseException | None:
        """What the child failed with; ``None`` unless it ``failed``."""
        reason = self.reason
        if not isinstance(reason, Failed):
            return None
        return reason.exception if self.burden == "none" or self.failed else None

    @property
    def cause(self) -> BaseException | None:
        """The sole leaf of a group that the child failed with, else what ``exception`` is.

        A nursery wraps whatever leaves it in a group: of one, if one thing went wrong.
        """
        exception = self.exception
        return None if exception is None else sole_leaf_of(exception)


_set_key = setter(TerminationReport, "key")
_set_path = setter(TerminationReport, "path")
_set_incarnation = setter(TerminationReport, "incarnation")
_set_reason = setter(TerminationReport, "reason")
_set_burden = setter(TerminationReport, "burden")
_set_started_at = setter(TerminationReport, "started_at")
_set_ended_at = setter(TerminationReport, "ended_at")
_set_time = setter(TerminationReport, "time")
