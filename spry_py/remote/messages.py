"""What is reported of one incarnation that runs elsewhere; and the letters that carry it.

`Started`, `Log`, `Beat`, `Done` and `Lost` are what a `Running` gives. A `Report` and a `Word` are
what an engine carries between the two ends: each holds all that the other end may not know yet, so
that any of them may come late, twice, out of order, or never.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

Outcome: TypeAlias = Literal["returned", "raised", "aborted"]
Wish: TypeAlias = Literal["run", "settle", "kill"]
# a wish never goes back to one further left
WISHES: Final[tuple[Wish, ...]] = ("run", "settle", "kill")


@dataclass(frozen=True, slots=True)
class Started:
    """The child is started. ``value`` is the pickle of its started value, ``node`` where it is."""

    value: bytes = field(repr=False)
    node: str = ""


@dataclass(frozen=True, slots=True)
class Log:
    """A log record. ``below`` is the path below the child's, ``logger`` the record's own."""

    level: int
    text: str
    logger: str
    below: str = ""
    node: str = ""


@dataclass(frozen=True, slots=True)
class Beat:
    """The machine is there, and its lease has been renewed.

    ``stack`` is where the child stands. ``silent``: the event loop there is held up, so
    that it cannot even notice that the child's heartbeat is overdue.
    """

    number: int
    stack: str = field(default="", repr=False)
    silent: bool = False


@dataclass(frozen=True, slots=True)
class Done:
    """The end, as the other side reports it.

    ``value`` is the pickle of what was returned, or of the exception with its texts. ``incident``
    names, as a trace context, what a subtree there has ended with.
    """

    outcome: Outcome
    value: bytes = field(default=b"", repr=False)
    node: str = ""
    incident: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)


@dataclass(frozen=True, slots=True)
class Lost:
    """The end, of which the other side reports nothing: it is dead, or its lease is over."""

    why: str


News: TypeAlias = Started | Log | Done
Message: TypeAlias = Started | Log | Beat | Done | Lost


@dataclass(frozen=True, slots=True)
class Report:
    """A letter from the machine: the beat, and all news from number ``first`` on, as far as known.

    ``run`` is different for each process that has taken the order up. ``stack`` is ``None`` if it
    is the one that has been heard before.
    """

    id: str
    run: str
    beat: int
    first: int
    news: tuple[News, ...] = ()
    stack: str | None = None
    silent: bool = False


@dataclass(frozen=True, slots=True)
class Word:
    """A letter to the machine.

    ``beat`` renews the lease, counted from when that beat was sent. All news up to ``heard`` has
    arrived. Another ``run`` than the one named has no right to run.
    """

    id: str
    run: str
    beat: int
    heard: int
    wish: Wish
