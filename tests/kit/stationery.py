"""The story of a shop whose desk crashes, and what has to be told of it in the end.

Spans are written in the words of `spans`, metrics and log records as they arrive at a collector.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from otlp_records import Point, Record, Span
from spans import Seen, start, startup, teardown, term, try_restart, wait

# `desk` crashes, is restarted, crashes again, and takes its shop with it; the new shop stays up.
# It does nothing before all startups are over, so that the story is the same each time.
SHOP = """
import logging, pathlib, sys, threading
import trio, trio.testing
from spry_py import Child, RateLimited, SystemSupervisor, cancel_on_settle, open_system, run
from spry_py import telemetry

# In one piece: threads of the exporters write to the same pipe.
def say(*words):
    sys.stdout.write(" ".join(map(str, (">", *words))) + "\\n")

once = lambda: RateLimited(1, 3600.0)()
crashes = [ValueError("no paper"), ValueError("no ink")]
ready = trio.Event()

async def desk():
    with cancel_on_settle():
        say("desk up")
        await trio.testing.wait_all_tasks_blocked()
        if crashes:
            raise crashes.pop(0)
        say("ready")
        ready.set()
        await trio.sleep_forever()
    say("desk down")

async def steady():
    await trio.sleep_forever()

def monitor(desk=desk, breaker=once):
    shop = SystemSupervisor([Child("desk", desk)], strategy="one_for_one", breaker=once)
    children = [Child("steady", steady), Child("shop", shop)]
    return SystemSupervisor(children, name="monitor", strategy="one_for_one", breaker=breaker)
"""
SHOP_SAYS = ["> desk up", "> desk up", "> desk up", "> ready", "> desk down"]

# The same, and the second shop is no better: then the whole tree fails.
FAILS = f"""{SHOP}
crashes += [ValueError("no desk"), ValueError("no shop")]
"""
FAILS_SAYS = ["> desk up"] * 4

# A child that takes its time, and one that cannot be ended at all.
SLOW = f"""{SHOP}
async def slow():
    with cancel_on_settle():
        await trio.testing.wait_all_tasks_blocked()
        say("ready")
        await trio.sleep_forever()
    say("closing")
    await close()

async def close():
    await trio.sleep_forever()

say(run([Child("slow", slow, shutdown=3600)], name="shop", traces="otlp").reason)
"""
STUCK = SLOW.replace(
    "    await trio.sleep_forever()\n\nsay(",
    """
    try:
        await trio.sleep_forever()
    finally:
        say("aborted")
        with trio.CancelScope(shield=True):
            await trio.sleep_forever()

say(""",
)
STUCK_SAYS = ["> ready", "> closing", "> aborted"]


# Traces

BOOT = startup(
    "monitor",
    start("monitor/steady"),
    start("monitor/shop", startup("monitor/shop", start("monitor/shop/desk")), kind="supervisor"),
)
CRASH = term(
    "monitor/shop/desk",
    try_restart("monitor/shop", start("monitor/shop/desk#2")),
    raised="ValueError: no paper",
)


def gave_up(path: str, cause: str) -> str:
    return (
        f"spry_py.TooManyRestarts: too many restarts: {path!r} was restarted 1 time and may not be "
        f"again; root cause: {cause}"
    )


# One incident is one trace, from the leaf to the restart of its supervisor.
ESCALATION = term(
    "monitor/shop/desk#2",
    try_restart("monitor/shop", allowed=False),
    teardown("monitor/shop"),
    term(
        "monitor/shop",
        try_restart(
            "monitor",
            start(
                "monitor/shop#2",
                startup(
                    "monitor/shop#2",
                    start("monitor/shop/desk", system=2),
                    replaces="monitor/shop#1",
                ),
                kind="supervisor",
            ),
        ),
        kind="supervisor",
        raised=gave_up("monitor/shop/desk", "ValueError: no ink"),
    ),
    raised="ValueError: no ink",
)
END = teardown(
    "monitor",
    wait(
        "monitor/shop#2",
        teardown(
            "monitor/shop#2",
            wait("monitor/shop/desk", reason="normal", burden="settling", system=2),
        ),
        kind="supervisor",
        reason="normal",
        burden="settling",
    ),
    wait("monitor/steady"),
)
SHOP_TRACES: list[Seen] = [BOOT, CRASH, ESCALATION, END]

# The second shop fails in the same way, and then nobody is left to decide.
SECOND_CRASH = term(
    "monitor/shop/desk",
    try_restart("monitor/shop#2", start("monitor/shop/desk#2", system=2)),
    system=2,
    raised="ValueError: no desk",
)
FAILURE = term(
    "monitor/shop/desk#2",
    try_restart("monitor/shop#2", allowed=False),
    teardown("monitor/shop#2"),
    term(
        "monitor/shop#2",
        try_restart("monitor", allowed=False),
        teardown("monitor", wait("monitor/steady")),
        kind="supervisor",
        raised=gave_up("monitor/shop/desk", "ValueError: no shop"),
    ),
    system=2,
    raised="ValueError: no shop",
)
FAILS_TRACES: list[Seen] = [BOOT, CRASH, ESCALATION, SECOND_CRASH, FAILURE]


# Metrics, summed up at the end of `SHOP`

DESK = ("monitor/shop", "desk")
THE_SHOP = ("monitor", "shop")
STEADY = ("monitor", "steady")
lives = {DESK: 3, THE_SHOP: 2, STEADY: 1}
SHOP_METRICS = {
    ("spry.child.count", "up-down counter", "{child}"): {DESK: 0, THE_SHOP: 0, STEADY: 0},
    ("spry.child.terminations", "counter", "{termination}"): {
        (*DESK, "failed", "ValueError"): 2,
        (*DESK, "normal"): 1,
        (*THE_SHOP, "failed", "spry_py.TooManyRestarts"): 1,
        (*THE_SHOP, "normal"): 1,
        (*STEADY, "aborted"): 1,
    },
    ("spry.child.restarts", "counter", "{restart}"): {DESK: 1, THE_SHOP: 1},
    ("spry.system.escalations", "counter", "{escalation}"): {("monitor/shop",): 1},
    ("spry.child.lifetime", "histogram", "s"): lives,
    ("spry.child.start.duration", "histogram", "s"): lives,
    ("spry.child.shutdown.duration", "histogram", "s"): {DESK: 1, THE_SHOP: 1, STEADY: 1},
    ("spry.system.startup.duration", "histogram", "s"): {("monitor",): 1, ("monitor/shop",): 2},
    ("spry.system.teardown.duration", "histogram", "s"): {
        ("monitor",): 1,
        ("monitor/shop",): 2,
    },
    ("spry.restart.delay", "histogram", "s"): {DESK: 1, THE_SHOP: 1},
}


def totals(points: list[Point]) -> dict[tuple[str, ...], dict[tuple[Any, ...], float]]:
    """The last value of each series; of a histogram, how many it has counted."""
    found: dict[tuple[str, ...], dict[tuple[Any, ...], float]] = {}
    for point in points:
        value = point.points if point.kind == "histogram" else point.value
        series = found.setdefault((point.name, point.kind, point.unit), {})
        series[tuple(point.attributes[name] for name in sorted(point.attributes, key=_rank))] = (
            value
        )
    return found


def _rank(name: str) -> int:
    ranks = ("spry.system.path", "spry.child.key", "spry.termination.reason", "error.type")
    return ranks.index(name)


# Log records: level, text, and the span that the record belongs to

GAVE_UP = (
    "too many restarts: 'monitor/shop/desk' was restarted 1 time and may not be again; "
    "root cause: ValueError: no ink"
)
SHOP_LOGS = [
    ("INFO", "monitor/steady started", "spry.child.start"),
    ("INFO", "monitor/shop/desk started", "spry.child.start"),
    ("INFO", "monitor/shop started", "spry.child.start"),
    ("INFO", "monitor started", None),
    ("ERROR", "monitor/shop/desk failed: ValueError: no paper", "spry.term"),
    ("WARNING", "monitor/shop/desk will be restarted now", "spry.try_restart"),
    ("INFO", "monitor/shop/desk started (incarnation 2)", "spry.child.start"),
    ("ERROR", "monitor/shop/desk failed: ValueError: no ink", "spry.term"),
    ("WARNING", "monitor/shop/desk may not be restarted any more", "spry.try_restart"),
    ("ERROR", f"monitor/shop gives up: {GAVE_UP}", "spry.term"),
    ("ERROR", f"monitor/shop failed: TooManyRestarts: {GAVE_UP}", "spry.term"),
    ("WARNING", "monitor/shop will be restarted now", "spry.try_restart"),
    ("INFO", "monitor/shop/desk started", "spry.child.start"),
    ("INFO", "monitor/shop started (incarnation 2)", "spry.child.start"),
    ("INFO", "monitor/shop/desk stopped (settling)", "spry.wait_for_termination"),
    ("INFO", "monitor/shop stopped (settling)", "spry.wait_for_termination"),
    ("INFO", "monitor/steady stopped (aborted)", "spry.wait_for_termination"),
    ("INFO", "monitor stopped", None),
]
# Who asks `logging` for nothing gets warnings and errors.
SHOP_WARNINGS = [record for record in SHOP_LOGS if record[0] != "INFO"]
SEVERITIES = {"INFO": 9, "WARNING": 13, "ERROR": 17}


def log_of(records: Iterable[Record], spans: Iterable[Span]) -> list[tuple[str, str, str | None]]:
    names = {(span.trace_id, span.span_id): span.name for span in spans}
    return [_told(record, names) for record in records]


def _told(record: Record, names: dict[tuple[str, str], str]) -> tuple[str, str, str | None]:
    where = (record.trace_id, record.span_id)
    assert record.severity[0] == SEVERITIES[record.severity[1]]
    return record.severity[1], record.body, names[where] if any(where) else None
