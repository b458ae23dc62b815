"""Uptime: watches real TCP and HTTP endpoints, as one supervision tree.

    spry-py run examples.uptime:uptime --for 8                  a demonstration: servers that fail
    spry-py run examples.uptime:uptime -- TARGETS [DATABASE]    the endpoints in the file TARGETS

The tree, in start order (it stops in the reverse order):

    uptime            rest_for_one: what comes later uses what comes earlier
    ├─ store          SQLite in a worker thread; its started value is given to those that use it
    ├─ servers        only in the demonstration: one healthy, one flapping, one that dies for good
    ├─ probes         one_for_one: no target ever disturbs another
    │  └─ NAME        one subsystem per target, with its own backoff and its own breaker
    │     └─ check    asks the endpoint again and again
    └─ report         prints a table now and then, and a last time when it is asked to finish

If the store fails, all that follow are stopped and the system function runs again: the store is
opened anew, and what used the old one receives the new one. If a probe fails, only that probe is
started again; see `probe` for what counts as a failure, and for what becomes of a target that fails
too often.
"""

import sys

from spry_py import Child, Scope, SystemSupervisor

from .probe import probes
from .report import keep_reporting
from .servers import local_servers, targets_of
from .store import Store, keep_store
from .targets import Target, read_targets

IN_MEMORY = ":memory:"
USAGE = "usage: spry-py run examples.uptime:uptime [--for SECONDS] [-- TARGETS [DATABASE]]"


async def observe(scope: Scope, targets: list[Target], store: Store, report_every: float) -> None:
    """The part that real endpoints and the demonstration have in common."""
    await scope.start(Child("probes", probes(targets, store)))
    await scope.start(Child("report", keep_reporting, store, targets, report_every))


def watching(targets: list[Target], database: str = IN_MEMORY) -> SystemSupervisor:
    """The tree for endpoints that run elsewhere."""

    async def system(scope: Scope) -> None:
        store = await scope.start(Child("store", keep_store, database))
        await observe(scope, targets, store, report_every=10.0)

    return SystemSupervisor(system, name="uptime", strategy="rest_for_one")


def demonstration(pace: float = 0.4) -> SystemSupervisor:
    """The tree with three servers of its own, each checked every `pace` seconds."""

    async def system(scope: Scope) -> None:
        store = await scope.start(Child("store", keep_store, IN_MEMORY))
        servers = await scope.start(Child("servers", local_servers(pace)))
        await observe(scope, targets_of(servers, pace), store, report_every=5 * pace)

    return SystemSupervisor(system, name="uptime", strategy="rest_for_one")


def uptime(*arguments: str) -> SystemSupervisor:
    """The tree for `[TARGETS [DATABASE]]`, both of them names of files.

    A line of TARGETS that cannot be used is printed on stderr, and the others are watched. Without
    DATABASE the counts are kept in memory. Raises `OSError` if TARGETS cannot be read, and
    `ValueError` if it names no target, or if there are too many arguments.
    """
    if not arguments:
        return demonstration()
    path, *database = arguments
    if len(database) > 1:
        raise ValueError(f"{len(arguments)} arguments where at most 2 are allowed; {USAGE}")
    targets, bad_lines = read_targets(path)
    for bad in bad_lines:
        print(f"{path}:{bad.number}: {bad.reason}", file=sys.stderr, flush=True)
    if not targets:
        raise ValueError(f"{path}: no target to watch")
    return watching(targets, *database)
