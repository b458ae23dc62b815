"""The life of a child as two tables: what each phase means, and which moves there are.

A child is in one phase at any time; `Member.move` alone takes it from one to the next.

Phases and wishes are no enums: on Python 3.11 each look at a member of one costs a thousand
instructions, and there are dozens of looks for each child.
"""

from __future__ import annotations

from typing import ClassVar, Final, Literal, TypeAlias

from spry_py._policy.restart import Verdict

Status: TypeAlias = Literal[
    "starting", "running", "stopping", "restarting", "waiting", "ignored", "done", "stopped"
]

# so that the table is one
_Y: Final = True
_N: Final = False


class Phase:
    """What a child is to its supervisor; there are those of `PHASES`, and no others.

    The columns: the name; in words; the status that callers see; ``is_alive``: an incarnation runs;
    ``is_up``: something of it has to be shut down;
    ``is_over``: it neither runs nor comes back by itself; ``is_final``: that for good, as far as
    this supervisor incarnation goes; ``is_replayed``: a replay that declares it starts it; and what
    `restart_child` and `delete_child` refuse it as.
    """

    __slots__ = (
        "is_alive",
        "is_final",
        "is_over",
        "is_replayed",
        "is_up",
        "name",
        "refuses",
        "text",
        "word",
    )

    NEW: ClassVar[Phase]
    STARTING: ClassVar[Phase]
    RUNNING: ClassVar[Phase]
    STOPPING: ClassVar[Phase]
    ENDED: ClassVar[Phase]
    PARTING: ClassVar[Phase]
    FAILED: ClassVar[Phase]
    HALTED: ClassVar[Phase]
    PAUSING: ClassVar[Phase]
    RESTARTING: ClassVar[Phase]
    WAITING: ClassVar[Phase]
    IGNORED: ClassVar[Phase]
    DONE: ClassVar[Phase]
    STOPPED: ClassVar[Phase]

    def __init__(
        self,
        name: str,
        text: str,
        word: Status,
        is_alive: bool,
        is_up: bool,
        is_over: bool,
        is_final: bool,
        is_replayed: bool,
        refuses: Literal["running", "restarting"] | None,
    ) -> None:
        self.name = name
        self.text = text
        self.word: Status = word
        self.is_alive = is_alive
        self.is_up = is_up
        self.is_over = is_over
        self.is_final = is_final
        self.is_replayed = is_replayed
        self.refuses = refuses

    def __repr__(self) -> str:
        return self.name


_P: Final = Phase

# fmt: off
PHASES: Final = (
    _P("NEW", "declared, and not begun yet", "starting", _N, _N, _N, _N, _Y, None),
    _P("STARTING", "runs, and is not started yet", "starting", _Y, _Y, _N, _N, _N, "running"),
    _P("RUNNING", "is started", "running", _Y, _Y, _N, _N, _N, "running"),
    _P("STOPPING", "was asked to end, and runs", "stopping", _Y, _Y, _N, _N, _N, "running"),
    _P("ENDED", "by itself; the loop decides", "restarting", _N, _Y, _N, _N, _N, "restarting"),
    _P("PARTING", "its on_termination runs", "restarting", _N, _Y, _N, _N, _N, "restarting"),
    _P("FAILED", "its awaited start has failed", "starting", _N, _N, _N, _N, _Y, "restarting"),
    _P("HALTED", "has ended as it was asked to", "stopping", _N, _N, _Y, _N, _Y, None),
    _P("PAUSING", "waits for another first start", "starting", _N, _N, _N, _N, _Y, "running"),
    _P("RESTARTING", "waits for backoff or replay", "restarting", _N, _N, _N, _N, _Y, "restarting"),
    _P("WAITING", "waits for a place to run in", "waiting", _N, _N, _N, _N, _Y, "restarting"),
    _P("IGNORED", "its start raised Ignore", "ignored", _N, _N, _Y, _Y, _Y, None),
    _P("DONE", "has ended for good", "done", _N, _N, _Y, _Y, _N, None),
    _P("STOPPED", "is kept down, or forgotten", "stopped", _N, _N, _Y, _Y, _Y, None),
)
# fmt: on

for _phase in PHASES:
    setattr(Phase, _phase.name, _phase)


class Then(int):
    """What follows the end of one incarnation; of several wishes the strongest counts."""

    DECIDE: ClassVar[Then]
    AWAITED: ClassVar[Then]
    AGAIN: ClassVar[Then]
    DOWN: ClassVar[Then]
    FORGET: ClassVar[Then]


# an end by itself: the loop decides
Then.DECIDE = Then(0)
# a startup or a call waits for the start; or it was asked to end in its turn
Then.AWAITED = Then(1)
# a caller wants it restarted by the strategy
Then.AGAIN = Then(2)
# a caller wants it kept down
Then.DOWN = Then(3)
# down, and known no more
Then.FORGET = Then(4)


MOVES: Final[dict[Phase, frozenset[Phase]]] = {
    _P.NEW: frozenset((_P.STARTING, _P.WAITING, _P.STOPPED)),
    _P.STARTING: frozenset((_P.RUNNING, _P.STOPPING, _P.ENDED, _P.FAILED)),
    _P.RUNNING: frozenset((_P.STOPPING, _P.ENDED)),
    _P.STOPPING: frozenset((_P.HALTED,)),
    _P.ENDED: frozenset((_P.PARTING, _P.RESTARTING, _P.IGNORED, _P.DONE, _P.STOPPED)),
    _P.PARTING: frozenset((_P.ENDED,)),
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
