"""`Order`: all that another machine has to know of one incarnation of a child."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

Host: TypeAlias = Literal["own", "shared"]


@dataclass(frozen=True, slots=True)
class Order:
    """One incarnation of a child, to be run elsewhere. Made by `remote`, carried by an `Engine`.

    ``work`` is the pickle of the start function and its arguments. ``id`` is never used twice;
    ``fence`` is the fencing number. ``lease``, ``shutdown`` and ``heartbeat`` are seconds.
    ``resources`` are for the engine to understand; ``log_level`` is the lowest that is wanted;
    ``carrier`` is the trace context of the child's start.
    """

    id: str
    key: str
    path: str
    incarnation: int
    fence: int
    work: bytes = field(repr=False)
    lease: float
    host: Host
    resources: Mapping[str, float]
    shutdown: float
    heartbeat: float
    log_level: int
    carrier: Mapping[str, str] = field(repr=False)

    @property
    def grace(self) -> float:
        """How long (seconds) the code may go on behind the end of its lease, to be cancelled.

        An ``own`` process leaves at once. A ``shared`` one gives the child its ``shutdown``
        seconds, at most as many as its lease has, and leaves whole then.
        """
        return 0.0 if self.host == "own" else min(self.shutdown, self.lease)
