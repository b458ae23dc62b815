"""The life of a child as two tables: what each phase means, and which moves there are.

A child is in one phase at any time; `Member.move` alone takes it from one to the next.
"""

from __future__ import annotations

from enum import Enum, IntEnum
from typing import Final, Literal, TypeAlias

from spry_py._policy.restart import Verdict

Status: TypeAlias = Literal[
    "starting", "running", "stopping", "restarting", "waiting", "ignored", "done", "stopped"
]

# so that the table is one
_Y: Final = True
_N: Final = False


class Phase(Enum):
    """What a child is to its supervisor.

    The columns: in words; the status that callers see; ``is_alive``: an incarnation runs;
    ``is_up``: something of it has to be shut down;
    ``is_over``: it neither runs nor comes back by itself; ``is_final``: that for good, as far as
    this supervisor incarnation goes; ``is_replayed``: a replay that declares it starts it; and what
    `restart_child` and `delete_child` refuse it as.
    """

    # fmt: off
    NEW        = "declared, and not begun yet",   "starting",   _N, _N, _N, _N, _Y, None
    STARTING   = "runs, and is not started yet",  "starting",   _Y, _Y, _N, _N, _N, "running"
    RUNNING    = "is started",                    "running",    _Y, _Y, _N, _N, _N, "running"
    STOPPING   = "was asked to end, and runs",    "stopping",   _Y, _Y, _N, _N, _N, "running"
    ENDED      = "by itself; the loop decides",   "restarting", _N, _Y, _N, _N, _N, "restarting"
    FAILED     = "its awaited start has failed",  "restarting", _N, _N, _N, _N, _Y, "restarting"
    HALTED     = "has ended as it was asked to",  "stopping",   _N, _N, _Y, _N, _Y, None
    PAUSING    = "waits for another first start", "starting",   _N, _N, _N, _N, _Y, "running"
    RESTARTING = "waits for backoff or replay",   "restarting", _N, _N, _N, _N, _Y, "restarting"
    WAITING    = "waits for a place to run in",   "waiting",    _N, _N, _N, _N, _Y, "restarting"
    IGNORED    = "its start raised Ignore",       "ignored",    _N, _N, _Y, _Y, _Y, None
    DONE       = "has ended for good",            "done",       _N, _N, _Y, _Y, _N, None
    STOPPED    = "is kept down, or forgotten",    "stopped",    _N, _N, _Y, _Y, _Y, None
    # fmt: on

    def __init__(
        self,
        text: str,
        word: Status,
        is_alive: bool,
        is_up: bool,
        is_over: bool,
        is_final: bool,
        is_replayed: bool,
        refuses: Literal["running", "restarting"] | None,
    ) -> None:
        self.text = text
        self.word: Status = word
        self.is_alive = is_alive
        self.is_up = is_up
        self.is_over = is_over
        self.is_final = is_final
        self.is_replayed = is_replayed
        self.refuses = refuses

    # by identity: an enum's own hash is computed in Python, from the name
    __hash__ = object.__hash__


class Then(IntEnum):
    """What follows the end of one incarnation; of several wishes the strongest counts."""

    DECIDE = 0  # an end by itself: the loop decides
    AWAITED = 1  # a startup or a call waits for the start; or it was asked to end in its turn
    AGAIN = 2  # a caller wants it restarted by the strategy
    DOWN = 3  # a caller wants it kept down
    FORGET = 4  # down, and known no more


_P: Final = Phase

MOVES: Final[dict[Phase, frozenset[Phase]]] = {
    _P.NEW: frozenset((_P.STARTING, _P.WAITING, _P.STOPPED)),
    _P.STARTING: frozenset((_P.RUNNING, _P.STOPPING, _P.ENDED, _P.FAILED)),
    _P.RUNNING: frozenset((_P.STOPPING, _P.ENDED)),
    _P.STOPPING: frozenset((_P.HALTED,)),
    _P.ENDED: frozenset((_P.RESTARTING, _P.IGNORED, _P.DONE, _P.STOPPED)),
    _P.FAILED: frozenset((_P.STARTING, _P.PAUSING, _P.RESTARTING, _P.IGNORED, _P.STOPPED)),
    _P.HALTED: frozenset((_P.STARTING, _P.RESTARTING, _P.IGNORED, _P.STOPPED)),
    _P.PAUSING: frozenset((_P.STARTING, _P.RESTARTING, _P.STOPPED)),
    _P.RESTARTING: frozenset((_P.STARTING, _P.WAITING, _P.DONE, _P.STOPPED)),
    _P.WAITING: frozenset((_P.STARTING, _P.STOPPED)),
    _P.IGNORED: frozenset((_P.STARTING, _P.RESTARTING, _P.STOPPED)),
    _P.DONE: frozenset((_P.STARTING, _P.RESTARTING, _P.STOPPED)),
    _P.STOPPED: frozenset((_P.STARTING, _P.RESTARTING, _P.IGNORED, _P.DONE)),
}

# what a child is once the loop has decided about its end
AFTER: Final[dict[Verdict, Phase]] = {
    Verdict.RESTART: Phase.RESTARTING,
    Verdict.DONE: Phase.DONE,
    Verdict.SPENT: Phase.STOPPED,
    Verdict.DOWN: Phase.STOPPED,
    Verdict.DISCARD: Phase.DONE,
    Verdict.ESCALATE: Phase.DONE,
}
