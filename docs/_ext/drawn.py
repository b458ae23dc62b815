"""Pictures of recorded runs, as SVG. Nothing here knows Sphinx, and nothing is drawn by hand.

The colours are those of the page around a picture, so that it is good in light and in dark.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from html import escape
from io import StringIO
from typing import Any, Final

import tenacity
import trio
from rich.console import Console

from recorded import Fails, Recorded, escalation, record, replay, stop
from spry_py import (
    AlwaysRestart,
    Backoff,
    Child,
    RateLimited,
    Snapshot,
    Streak,
    SystemHandle,
    SystemSupervisor,
    events,
)
from spry_py.observer.screen import Screen
from spry_py.observer.tree import node_of

ROW: Final = 30
BAR: Final = 14
LEFT: Final = 150
WIDTH: Final = 760
MARK: Final = 4
STYLE: Final = """
.spry text { font: 13px var(--font-stack, sans-serif); fill: var(--color-foreground-primary, #222) }
.spry .faint { fill: var(--color-foreground-muted, #777); font-size: 11px }
.spry .grid { stroke: var(--color-foreground-border, #aaa); stroke-width: 0.5 }
.spry .starting { fill: #8ab4f8 } .spry .running { fill: #34a065 } .spry .stopping { fill: #e0a030 }
.spry .aborting { fill: #d06020 }
.spry .waiting { stroke: #d05050; stroke-dasharray: 3 3; fill: none }
.spry .bad { fill: #d05050; font-weight: bold }
"""


@dataclass
class Lane:
    """One path over time: what it was when, and when it failed."""

    path: str
    parts: list[tuple[float, float, str]] = field(default_factory=list)
    failures: list[float] = field(default_factory=list)
    state: str = ""
    since: float = 0.0

    def turn(self, at: float, state: str) -> None:
        # most children end in the moment in which they are aborted: that shows as a mark
        if self.state and (at > self.since or self.state == "aborting"):
            self.parts.append((self.since, at, self.state))
        self.state, self.since = state, at


# What a path is from an event on; "" when it is down.
STATES: Final[Mapping[type[events.Event], str]] = {
    events.ChildStarting: "starting",
    events.ChildStarted: "running",
    events.ChildSettling: "stopping",
    events.ChildAborted: "aborting",
    events.ChildTerminated: "",
    events.ChildStartFailed: "",
    events.RestartScheduled: "waiting",
    events.SystemStarted: "running",
    events.SystemTeardown: "stopping",
    events.SystemStopped: "",
}


def lanes_of(recorded: Recorded) -> list[Lane]:
    """One for each path, parents first."""
    root = min((event.path for event in recorded.events), key=len)
    lanes = {root: Lane(root, state="starting", since=recorded.events[0].at)}
    for event in recorded.events:
        lane = lanes.setdefault(event.path, Lane(event.path))
        state = STATES.get(type(event))
        if state is not None:
            lane.turn(event.at, state)
        if is_failure(event):
            lane.failures.append(event.at)
    return sorted(lanes.values(), key=lambda lane: order_of(lane.path, list(lanes)))


def is_failure(event: events.Event) -> bool:
    if isinstance(event, events.ChildTerminated | events.ChildStartFailed):
        return event.report.failed
    return False


def order_of(path: str, paths: list[str]) -> list[int]:
    """Of a tree: by the first moment of each path on the way down."""
    keys = path.split("/")
    ways = ["/".join(keys[: depth + 1]) for depth in range(len(keys))]
    return [paths.index(way) if way in paths else -1 for way in ways]


def svg(width: float, height: float, title: str, body: Iterable[str]) -> str:
    """A whole picture, which a screen reader reads the title of."""
    lines = "\n".join(body)
    return (
        f'<svg class="spry" role="img" aria-label="{escape(title)}" viewBox="0 0 {width} {height}" '
        f'style="width: 100%; max-width: {width}px" xmlns="http://www.w3.org/2000/svg">'
        f"<title>{escape(title)}</title><style>{STYLE}</style>\n{lines}\n</svg>"
    )


def text(x: float, y: float, words: str, more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" {more}>{escape(words)}</text>'


def timeline(recorded: Recorded, title: str) -> str:
    lanes = lanes_of(recorded)
    first, last = recorded.events[0].at, recorded.events[-1].at
    scale = (WIDTH - LEFT - 20) / (last - first)

    def x(at: float) -> float:
        return LEFT + (at - first) * scale

    def body() -> Iterator[str]:
        bottom = ROW * len(lanes) + 14
        for second in range(math.ceil(last - first) + 1):
            if x(first + second) <= WIDTH:
                line = x(first + second)
                yield f'<line class="grid" x1="{line:.1f}" x2="{line:.1f}" y1="0" y2="{bottom}"/>'
                yield text(line + 3, bottom + 12, f"{second} s", 'class="faint"')
        for number, lane in enumerate(lanes):
            yield from drawn_lane(lane, ROW * number + 20, x)
        yield from legend(lanes, bottom + 34)

    return svg(WIDTH, ROW * len(lanes) + 64, title, body())


def drawn_lane(lane: Lane, y: float, x: Callable[[float], float]) -> Iterator[str]:
    depth = lane.path.count("/")
    yield text(8 + 16 * depth, y + 11, lane.path.rpartition("/")[2] or lane.path)
    for begin, end, state in lane.parts:
        if state == "waiting":
            yield (f'<path class="waiting" d="M{x(begin):.1f} {y + BAR / 2}H{x(end):.1f}"/>')
        elif state:
            width = max(x(end) - x(begin), MARK)
            yield (
                f'<rect class="{state}" x="{x(begin):.1f}" y="{y}" width="{width:.1f}" '
                f'height="{BAR}" rx="2"/>'
            )
    for at in lane.failures:
        yield text(x(at) - 4, y + 12, "✗", 'class="bad"')


LEGEND: Final = (
    ("starting", "starting"),
    ("running", "running"),
    ("stopping", "asked to finish"),
    ("aborting", "aborted"),
)


def legend(lanes: list[Lane], y: float) -> Iterator[str]:
    """What the colours mean that are in the picture."""
    seen = {state for lane in lanes for _, _, state in lane.parts}
    shown = [(state, words) for state, words in LEGEND if state in seen]
    for number, (state, words) in enumerate(shown):
        x = LEFT + 140 * number
        yield f'<rect class="{state}" x="{x}" y="{y - 9}" width="12" height="10" rx="2"/>'
        yield text(x + 17, y, words, 'class="faint"')
    if any(lane.failures for lane in lanes):
        yield text(LEFT + 140 * len(shown), y, "✗ failed", 'class="faint"')


# What an outage is survived with

# the first try of a connection fails so many seconds after it was begun
TRY: Final = 0.01
HOUR: Final = 3600.0
EXPONENTIAL: Final = tenacity.wait_exponential(multiplier=0.1, max=30)
SETTINGS: Final[tuple[tuple[str, Any, Any], ...]] = (
    ("no backoff, RateLimited(3, 10.0): the defaults", None, RateLimited()),
    ("no backoff, RateLimited(100, 10.0)", None, RateLimited(100, 10.0)),
    ("wait_fixed(1), RateLimited(3, 10.0)", tenacity.wait_fixed(1), RateLimited()),
    ("wait_exponential(0.1, max=30), RateLimited(3, 10.0)", EXPONENTIAL, RateLimited()),
    ("wait_exponential(0.1, max=30), Streak(10)", EXPONENTIAL, Streak(10)),
    ("wait_fixed(4), RateLimited(3, 10.0)", tenacity.wait_fixed(4), RateLimited()),
    ("wait_exponential(0.1, max=30), AlwaysRestart()", EXPONENTIAL, AlwaysRestart()),
)


class Outage:
    """A child that connects, and loses its connection once; no later try meets a server."""

    def __init__(self) -> None:
        self.tries = 0

    async def __call__(self, *, task_status: trio.TaskStatus[None]) -> None:
        self.tries += 1
        if self.tries == 1:
            task_status.started()
            await trio.sleep(100)
        else:
            await trio.sleep(TRY)
        raise ConnectionRefusedError("no server")


def survived(backoff: Any, breaker: Any) -> float:
    """How long the outage lasts until the supervisor gives up; an hour at most."""
    waits = Backoff(backoff) if backoff is not None else None
    children = [Child("db", Outage(), backoff=waits)]
    tree = SystemSupervisor(children, name="shop", strategy="one_for_one", breaker=breaker)
    recorded = record(tree, HOUR + 100)
    ends = (event.at for event in recorded.events if isinstance(event, events.Escalated))
    return next(ends, HOUR + 100) - 100


def length(seconds: float) -> str:
    if seconds >= HOUR:
        return "1 h or more"
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def outages() -> list[tuple[str, float]]:
    return [(name, survived(backoff, breaker)) for name, backoff, breaker in SETTINGS]


def chart_of_outages() -> str:
    """Bars on a logarithmic scale, from 10 ms to an hour."""
    left, low = 330, math.log10(0.01)
    scale = (WIDTH - left - 100) / (math.log10(HOUR) - low)

    def x(seconds: float) -> float:
        return left + (math.log10(seconds) - low) * scale

    found = outages()

    def body() -> Iterator[str]:
        bottom = ROW * len(found) + 6
        for seconds, words in ((0.01, "10 ms"), (1, "1 s"), (60, "1 min"), (HOUR, "1 h")):
            place = f'x1="{x(seconds):.1f}" x2="{x(seconds):.1f}"'
            yield f'<line class="grid" {place} y1="0" y2="{bottom}"/>'
            yield text(x(seconds) + 3, bottom + 12, words, 'class="faint"')
        for number, (name, seconds) in enumerate(found):
            y = ROW * number + 8
            state = "running" if seconds >= HOUR else "stopping"
            yield text(0, y + 11, name, 'class="faint"')
            width = x(min(seconds, HOUR)) - left
            size = f'width="{width:.1f}" height="{BAR}" rx="2"'
            yield f'<rect class="{state}" x="{left}" y="{y}" {size}/>'
            yield text(left + width + 5, y + 11, length(seconds))

    title = "; ".join(f"{name}: {length(seconds)}" for name, seconds in found)
    return svg(WIDTH, ROW * len(found) + 30, f"The longest outage survived. {title}", body())


# The terminal


def screen_of_top() -> str:
    """What `spry-py top` shows of the escalation, while its second `feed` runs."""
    found: list[tuple[Snapshot, float]] = []

    async def look(handle: SystemHandle) -> None:
        async with handle.follow() as (snapshot, _):
            found.append((snapshot, trio.current_time()))

    feed = Fails(1.0, times=2, up=0.2)
    market = SystemSupervisor(
        [Child("cache", trio.sleep_forever), Child("feed", feed)],
        name="market",
        strategy="one_for_one",
    )
    children = [Child("db", trio.sleep_forever), Child("market", market)]
    record(SystemSupervisor(children, name="shop", strategy="one_for_one"), 4.0, look)
    ((snapshot, now),) = found
    screen = Screen()
    screen.take("about", {"program": "shop", "pid": 4711, "actions": ["restart", "terminate"]})
    screen.take("tree", {"now": now, "nodes": list(nodes_of(snapshot, snapshot.path))})
    console = Console(record=True, width=96, file=StringIO(), force_terminal=True)
    for line in screen.lines(96, len(screen.nodes) + 3):
        console.print(line)
    return console.export_svg(title="spry-py top", unique_id="spry-top")


def nodes_of(snapshot: Snapshot, path: str) -> Iterator[dict[str, Any]]:
    yield node_of(snapshot, path, ahead=0.0) | {"host": None}
    for child in snapshot.children:
        yield from nodes_of(child, child.path)


PICTURES: Final[Mapping[str, Callable[[], str]]] = {
    "stop": lambda: timeline(stop(), "A stop, in reverse order of the start, child by child"),
    "replay": lambda: timeline(replay(), "db fails; web and api stop; db, api and web start again"),
    "escalation": lambda: timeline(
        escalation(), "feed fails a fourth time; market stops cache and fails; shop restarts market"
    ),
    "outages": chart_of_outages,
    "top": screen_of_top,
}
