"""Actors of a story: scripts that share one record of how their runs begin and end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final, NoReturn

from spry_py import Child, current_context
from spry_py.testing import Script, Step
from stories import Boom, Record

# The runs that most stories are made of.
STAYS: Final[Sequence[Step]] = ("start", "stay")
LISTENS: Final[Sequence[Step]] = ("start", "wait")

_SIGNS_OF_A_START: Final = {"sleep": "~", "aborted": "-", "raised": "!", "raised Ignore": "/"}
_ENDS: Final = ("returned", "aborted", "raised")


def no_start() -> NoReturn:
    """A step of an actor: its start fails, with words that say which run it is."""
    context = current_context()
    raise Boom(f"no start of {context.key}{context.incarnation}")


class Actor(Script):
    """A script with a key; it stays, run for run, unless its runs are written down.

    Its n-th run writes `~an` in the record when it begins a start that takes time, `!an` when its
    start fails (`/an` if it leaves itself out), `+an` (with the values it was given) when it has
    started, and `-an` at its very end.
    """

    def __init__(
        self, record: Record, key: str, *runs: Sequence[Step], cleanup: float = 0.0
    ) -> None:
        super().__init__(*runs or [STAYS], cleanup=cleanup)
        self.record = record
        self.key = key
        self._has_started = False

    def child(self, *args: Any, **options: Any) -> Child[Any]:
        return Child(self.key, self, *args, **options)

    def die(self, error: BaseException | None = None) -> None:
        """Let the present run raise the error (a new `Boom` unless given)."""
        self.go_on(error or Boom(f"{self.key}{self.runs}"))

    def stop(self, value: object = None) -> None:
        """Let the present run return the value."""
        self.go_on(lambda: value)

    def note(self, what: str) -> None:
        super().note(what)
        word = what.partition(" ")[0]
        me = f"{self.key}{self.runs}"
        if word == "overlap":
            self.record(what)
        elif word.startswith("start"):
            self._has_started = True
            given = what.removeprefix("start").partition(" #")[0].replace(", ", ",")
            self.record(f"+{me}{given}")
        elif not self._has_started:
            sign = _SIGNS_OF_A_START.get(what) or _SIGNS_OF_A_START.get(word)
            if sign:
                self.record(f"{sign}{me}")
        elif word in _ENDS:
            self._has_started = False
            self.record(f"-{me}")


def cast(record: Record, keys: str, *runs: Sequence[Step], cleanup: float = 0.0) -> Iterator[Actor]:
    """One actor for each letter, all alike."""
    return (Actor(record, key, *runs, cleanup=cleanup) for key in keys)
