"""Probe: the subsystem that watches one target.

Which failures are data, and which are crashes?

- A check that comes out "down" is data, whatever the reason: an error status, silence, a refused
  connection. It is recorded, and the next check follows: this is what the probe is for.
- No connection at all, `UNREACHED_LIMIT` times in a row, is a crash. There is nothing left to
  measure, and to go on at full speed is of no use: the probe raises `Unreachable`, and how long to
  wait before a fresh start is the supervisor's business.
- Anything else is a mistake in this program, or trouble with the store: a crash, too.

A crashed probe is started again after a growing pause. When that happens too often, the breaker of
the target's own subsystem refuses, the subsystem ends as failed, and it is for `probes` to decide.
It gives the target a new subsystem after a longer pause, and does so for ever, since an endpoint
that was down all night may be up in the morning: its breaker never refuses. So a target that stays
away is asked less and less often, and the other targets notice nothing of it.
"""

import time
from typing import Protocol

import trio
from tenacity import wait_exponential

from spry_py import AlwaysRestart, Backoff, Child, RateLimited, SystemHandle, SystemSupervisor

from .check import Check, Connect, check
from .targets import Target

UNREACHED_LIMIT = 3
RESTARTS = 2
LONGEST_PAUSE = 60.0


class Records(Protocol):
    """The part of the store that a probe uses."""

    async def record(self, name: str, check: Check) -> None: ...


class Unreachable(Exception):
    """No connection, several times in a row."""


def probes(
    targets: list[Target], records: Records, connect: Connect = trio.open_tcp_stream
) -> SystemSupervisor:
    """One subsystem per target, none of which ever stops another."""
    children = [probe(target, records, connect) for target in targets]
    return SystemSupervisor(children, strategy="one_for_one", breaker=AlwaysRestart())


def probe(target: Target, records: Records, connect: Connect) -> Child[SystemHandle]:
    """The subsystem of one target; it gives up at the third crash within `window` seconds."""
    within = window(target)
    wait = wait_exponential(multiplier=target.every, max=LONGEST_PAUSE)
    check_again = Backoff(wait, reset_after=within)
    subsystem = SystemSupervisor(
        [Child("check", watch, target, records, connect, backoff=check_again)],
        strategy="one_for_one",
        breaker=RateLimited(RESTARTS, within),
    )
    return Child(target.name, subsystem, backoff=pause_between_subsystems(target))


def window(target: Target) -> float:
    """Seconds in which a check that never connects surely uses up its restarts, pauses included."""
    lives = (RESTARTS + 1) * UNREACHED_LIMIT * (target.every + target.timeout)
    pauses = min(3.0 * target.every, RESTARTS * LONGEST_PAUSE)
    return lives + pauses


def pause_between_subsystems(target: Target) -> Backoff:
    """A subsystem has recovered once it has outlived its window; until then pauses grow."""
    wait = wait_exponential(multiplier=4.0 * target.every, max=max(LONGEST_PAUSE, target.every))
    return Backoff(wait, reset_after=2.0 * window(target))


async def watch(target: Target, records: Records, connect: Connect) -> None:
    """Check and record for ever; raises `Unreachable`."""
    was_up: bool | None = None
    unreached = 0
    while True:
        result = await check(target, connect)
        await records.record(target.name, result)
        if result.up is not was_up:
            tell(target, result)
        was_up = result.up
        unreached = 0 if result.reached else unreached + 1
        if unreached == UNREACHED_LIMIT:
            raise Unreachable(f"no connection {unreached} times in a row: {result.error}")
        await trio.sleep(target.every)


def tell(target: Target, result: Check) -> None:
    state = "up" if result.up else f"down: {result.error}"
    print(f"{time.strftime('%H:%M:%S')} {target.name} is {state}", flush=True)
