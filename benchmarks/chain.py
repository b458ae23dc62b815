"""A chain of supervisors as deep as nested nurseries cannot go: up, a crash at its leaf, down."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator

import trio

from spry_py import Child, NeverRestart, RateLimited, Scope, SystemSupervisor, open_system

from .harness import Crash, Options, Row, clock

DEPTH = 1_000
PATIENCE = 120.0

Breaker = Callable[[], NeverRestart] | RateLimited


class Leaf:
    """The only worker of the chain; its first incarnation crashes on command."""

    def __init__(self) -> None:
        self.starts = 0
        self.crash = trio.Event()
        self.back = trio.Event()

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        task_status.started()
        self.starts += 1
        if self.starts > 1:
            self.back.set()
            await trio.sleep_forever()
        await self.crash.wait()
        raise Crash


def link(leaf: Leaf, below: int, breaker: Breaker) -> Callable[[Scope], Awaitable[None]]:
    async def system(scope: Scope) -> None:
        if below == 0:
            await scope.start(Child("leaf", leaf.run))
        else:
            inner = SystemSupervisor(link(leaf, below - 1, breaker), breaker=breaker)
            await scope.start(Child("link", inner))

    return system


async def chain(breaker: Breaker) -> tuple[float, float, float]:
    """Seconds for up, for crash and recovery, and for down."""
    leaf = Leaf()
    with trio.fail_after(PATIENCE):
        began = clock()
        async with open_system(link(leaf, DEPTH - 1, breaker), breaker=RateLimited()):
            up = clock()
            leaf.crash.set()
            await leaf.back.wait()
            back = clock()
        return up - began, back - up, clock() - back


def row(figure: str, breaker: Breaker) -> Row:
    try:
        up, back, down = trio.run(chain, breaker)
    except Exception as exception:
        return Row(figure, "no", "", "", "yes", False, f"{type(exception).__name__}: {exception}")
    note = f"up {up:.2f} s, recovered in {back:.3f} s, down {down:.2f} s"
    return Row(figure, "yes", "", "", "yes", True, note)


def rows(_options: Options) -> Iterator[Row]:
    yield row(f"chain {DEPTH:,} deep, cured at the leaf", RateLimited())
    yield row(f"chain {DEPTH:,} deep, escalates to the root", NeverRestart)
