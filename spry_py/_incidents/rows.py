"""A story as rows: who did what, when, and for how long, in few words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Final, Literal, TypeAlias

from .model import Attempt, Failure, Incident, Outcome, Step, Story
from .reading import Raised

Mark: TypeAlias = Literal[
    "failed",
    "not started",
    "gives up",
    "restart",
    "wait",
    "stop",
    "start",
    "healthy",
    "gone",
    "open",
    "more",
]

_MOST_ALIKE: Final = 6
_MOST_ROUNDS: Final = 7


@dataclass(frozen=True, slots=True)
class Row:
    """One line: when, whose place in the tree it has, what happened, and how long it took."""

    at: int
    ended: int
    path: str
    mark: Mark
    text: str
    began: int


def _row(at: int, ended: int, path: str, mark: Mark, text: str, began: int | None = None) -> Row:
    return Row(at, ended, path, mark, text, at if began is None else began)


# Texts of rows


def duration(seconds: float) -> str:
    """Seconds in a readable unit."""
    if seconds < 0.0001:
        return "under 0.1 ms"
    if seconds < 0.00995:
        return f"{seconds * 1000:.1f} ms"
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 119.5:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 120:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min"
    days, hours = divmod(hours, 24)
    return f"{days} days {hours} h" if days < 1000 else f"{days // 365} years"


def printable(text: str) -> str:
    """The text on one line, without anything that would steer a terminal."""
    return text if text.isprintable() else "".join(map(_printable, text))


def _printable(sign: str) -> str:
    if sign.isprintable():
        return sign
    return " " if sign in "\n\t" else sign.encode("unicode_escape").decode()


def brief(text: str, most: int = 60) -> str:
    """The first line of a text, cut where it would be too long."""
    line = printable(next(iter(text.strip().splitlines()), ""))
    return line if len(line) <= most else line[: most - 1] + "…"


def key_of(path: str) -> str:
    """The name that a child has among its siblings."""
    return printable(path.rpartition("/")[2])


def named(path: str, incarnation: int) -> str:
    """The key, and the number of the incarnation from the second on."""
    return f"{key_of(path)}#{incarnation}" if incarnation > 1 else key_of(path)


def what_raised(raised: Raised | None, most: int = 60) -> str:
    """An exception in one line."""
    if raised is None:
        return "an exception that is not known"
    text = f": {raised.message}" if raised.message else ""
    return brief(f"{kind_of(raised.type)}{text}", most)


def kind_of(name: str) -> str:
    """The type of an exception without its module."""
    return printable(name.rpartition(".")[2]) or "an exception"


# What happened, as rows


def rows_of(story: Story, whole: bool = False) -> list[Row]:
    """All that happened, in order of time; one line stands for many that are alike."""
    rows = sorted(_all_rows(story, whole), key=lambda row: row.at)
    rows = rows if whole else list(_fold(rows))
    last = story.last
    return [*rows, _row(last.ended, last.ended, "", _ENDS[last.outcome], ending(last))]


_ENDS: Final[dict[Outcome, Mark]] = {
    "cured": "healthy",
    "joined": "healthy",
    "dropped": "gone",
    "stopped": "gone",
    "ended": "gone",
    "open": "open",
}


def ending(last: Incident) -> str:
    """How a story ends, in a few words."""
    top = last.failures[-1]
    if last.outcome == "dropped":
        why = {"temporary": "temporary", "": "not wanted"}.get(top.restart, "not recoverable")
        return f"not restarted: {why}"
    if last.outcome == "stopped":
        return "stopped before it was restarted" if top.was_ending else "restart called off"
    if last.outcome == "ended":
        return "the program was asked to end" if top.is_exit else "the whole tree ended"
    if last.outcome == "open":
        return _OPEN[top.is_wanted is None]
    return "healthy again"


_OPEN: Final = {True: "what was done then is not known", False: "still open when the spans end"}


def _all_rows(story: Story, whole: bool) -> Iterator[Row]:
    incidents = story.incidents
    last: dict[str, Raised | None] = {}
    fold = not whole and story.count > _MOST_ROUNDS
    head, tail = (3, len(incidents) - 3) if fold else (len(incidents), len(incidents))
    for incident in incidents[:head]:
        yield from _incident_rows(story, incident, last)
    left_out = incidents[head:tail]
    if left_out:
        text = f"{len(left_out) + story.between} more failures like these"
        yield _row(left_out[0].began, left_out[-1].ended, left_out[0].leaf.path, "more", text)
    for incident in incidents[tail:]:
        yield from _incident_rows(story, incident, last)


def _incident_rows(
    story: Story, incident: Incident, last: dict[str, Raised | None]
) -> Iterator[Row]:
    given_up = ""
    for failure in incident.failures:
        if failure.path != given_up or not given_up:
            yield _failure_row(story, failure, last)
        for attempt in failure.attempts:
            yield from _attempt_rows(failure, attempt)
        if failure.gave_up:
            yield from _escalation_rows(failure)
        given_up = failure.system if failure.gave_up else ""


def _failure_row(story: Story, failure: Failure, last: dict[str, Raised | None]) -> Row:
    if failure.is_reload:
        text = "a restart by a call failed before this"
        return _row(failure.began, failure.began, failure.system, "failed", text)
    if not failure.is_known:
        path = failure.path or failure.system
        who = key_of(path) if failure.path else f"a child of {key_of(path)}"
        return _row(failure.began, failure.began, path, "failed", f"{who} failed before this")
    lifetime = failure.lifetime
    since = failure.began - round((lifetime or 0.0) * 1e6)
    is_seen = lifetime is not None and since >= story.began
    after = f" after {duration(lifetime)}" if lifetime is not None and is_seen else ""
    verb = _VERBS.get(failure.reason, " ended")
    text = named(failure.path, failure.incarnation) + verb + after
    if failure.reason == "failed" and not _is_repeated(failure, last):
        text += f": {what_raised(failure.raised)}"
    began = since if is_seen else failure.began
    return _row(failure.began, failure.began, failure.path, "failed", text, began)


def _is_repeated(failure: Failure, last: dict[str, Raised | None]) -> bool:
    """Whether it raised the same as in its ``last`` failure, whose line shows that already."""
    before, last[failure.path] = last.get(failure.path), failure.raised
    new = failure.raised
    return before is not None and new is not None and before.is_like(new)


_VERBS: Final = {
    "failed": " failed",
    "normal": " ended by itself",
    "aborted": " ended by itself",
}


def _attempt_rows(failure: Failure, attempt: Attempt) -> list[Row]:
    if attempt.outcome == "refused":
        return []
    rows = [_step_row(step) for step in attempt.steps]
    if attempt.delay > 0:
        rows.append(_wait_row(failure, attempt))
    rows.sort(key=lambda row: row.at)
    if attempt.strategy in _GROUPS:
        again = f", attempt {attempt.number}" if attempt.number > 1 else ""
        which = _GROUPS[attempt.strategy].format(key_of(failure.path) or "one")
        text = f"{attempt.strategy}{again}: {key_of(attempt.system)} restarts {which}"
        rows.insert(0, _row(attempt.began, attempt.ended, attempt.system, "restart", text))
    return rows


_GROUPS: Final = {"one_for_all": "all", "rest_for_one": "from {} on"}


def _wait_row(failure: Failure, attempt: Attempt) -> Row:
    """The time between the sweep, if there was one, and the first start."""
    starts = [step.began for step in attempt.steps if step.what == "start"]
    until = min([*starts, attempt.ended])
    swept = [step.ended for step in attempt.steps if step.what == "stop" and step.ended <= until]
    path = failure.path or attempt.system
    text = f"{key_of(path)} waits {duration(attempt.delay)} before its restart"
    return _row(max([attempt.began, *swept]), until, path, "wait", text)


def _step_row(step: Step) -> Row:
    name = named(step.path, step.incarnation)
    if step.what == "stop":
        return _row(step.began, step.ended, step.path, "stop", f"{name} {_stopped(step)}")
    if step.error is not None:
        text = f"{name} failed to start: {brief(step.error)}"
        return _row(step.began, step.ended, step.path, "not started", text)
    text = f"{name} started{_took(step, 'in')}"
    return _row(step.began, step.ended, step.path, "start", text)


def _stopped(step: Step) -> str:
    """How a child ended that was asked to."""
    if step.stacks:
        return f"aborted, stuck{_took(step, 'for')}"
    if step.late:
        return f"aborted, {step.late}"
    if step.error is not None:
        return f"stopped, failing: {brief(step.error)}"
    if step.burden == "aborted":
        return f"aborted{_took(step, 'after')}"
    return f"stopped{_took(step, 'in')}"


def _took(step: Step, how: str) -> str:
    seconds = (step.ended - step.began) / 1e6
    return f" {how} {duration(seconds)}" if seconds >= 0.0005 else ""


def _escalation_rows(failure: Failure) -> Iterator[Row]:
    began = failure.attempts[-1].began if failure.is_refused else failure.began
    name = key_of(failure.path) or "a child"
    why = f"{name} cannot be recovered"
    if failure.is_refused:
        of_system = failure.attempts[-1].is_of_system
        why = "its system function keeps failing" if of_system else f"too many restarts of {name}"
    text = f"{key_of(failure.system)} gives up: {why}"
    yield _row(began, failure.ended, failure.system, "gives up", text)
    yield from map(_step_row, failure.stops)


def _fold(rows: Iterable[Row]) -> Iterator[Row]:
    """The first and the last of many rows with the same text."""
    for mark, run in groupby(rows, key=lambda row: row.mark):
        alike = list(run)
        if mark not in ("stop", "start") or len(alike) <= _MOST_ALIKE:
            yield from alike
            continue
        yield from alike[:3]
        rest = alike[3:-1]
        done = "stopped" if mark == "stop" else "started"
        ended = max(row.ended for row in rest)
        yield _row(rest[0].at, ended, rest[0].path, "more", f"{len(rest)} more {done}")
        yield alike[-1]
