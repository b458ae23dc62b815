"""`spry-py incidents`, word for word: escalations, and failures without a restart."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Container
from contextlib import suppress

import trio

from incident_files import lasts, life_of, sheet, steady, told, traced
from spry_py import (
    Child,
    NeverRestart,
    NonChildFailure,
    RateLimited,
    Scope,
    SystemSupervisor,
    TooManyRestarts,
    Unrecoverable,
    open_system,
)
from traced import idle, shop, supervisor

# Up the tree


def test_an_escalation_that_the_root_cures() -> None:
    low = supervisor(
        Child("leaf", lasts(1.0, 1.0, 1.0, 1.0, takes=0.05)),
        Child("x", steady(takes=0.02, stops=0.1)),
        breaker=RateLimited(2, 60.0),
    )
    mid = supervisor(
        Child("y", steady(takes=0.1, stops=0.3)), Child("low", low), breaker=NeverRestart()
    )
    tree = supervisor(Child("z", idle), Child("mid", mid), name="top")
    assert told(life_of(tree)) == sheet("""
━━ 1 ━━ top/mid/low/leaf ━━━━━━━━━━━━━━━━━━━━━━━━━━━━ 2026-03-01 12:00:01 UTC ━━

  top/mid/low/leaf, a permanent worker, failed 4 times in 3.65 s (4 incidents,
  down for 720 ms in all), each time with ValueError: boom. top/mid/low
  restarted it alone (one_for_one), twice. The breaker of top/mid/low refused
  to restart it: top/mid/low stopped x and gave up. The breaker of top/mid
  refused to restart top/mid/low: top/mid stopped y and gave up. top restarted
  top/mid alone (one_for_one). top/mid/low restarted it alone (one_for_one).
  Healthy again 3.7 s after the first failure.

  seconds    top                                            0 s            3.7 s
               mid
                 low
    0.000        ✗ leaf failed: ValueError: boom            ✗
    0.000        ▸ leaf#2 started in 50 ms                  █
    1.050        ✗ leaf#2 failed after 1 s                  ╌╌╌╌╌✗
    1.050        ▸ leaf#3 started in 50 ms                       █
    2.100        ✗ leaf#3 failed after 1 s                       ╌╌╌╌╌✗
    2.100      ▲ low gives up: too many restarts of leaf              ▲─
    2.100        ■ x stopped in 100 ms                                ▒▒
    2.200    ▲ mid gives up: too many restarts of low                  ▲─
    2.200      ■ y stopped in 300 ms                                   ▒▒
    2.500    ▸ mid#2 started in 170 ms                                  ██
    2.500      ▸ y started in 100 ms                                    ██
    2.600      ▸ low started in 70 ms                                    █
    2.600        ▸ leaf started in 50 ms                                 █
    2.650        ▸ x started in 20 ms                                    █
    3.650        ✗ leaf failed after 1 s                                 ╌╌╌╌╌✗
    3.650        ▸ leaf#2 started in 50 ms                                    █
    3.700  ✓ healthy again                                                     ✓

  ⋯ ValueError: boom

4 incidents, shown as 1, in 44 spans: 4 healthy again
""")


def test_an_escalation_that_ends_the_tree() -> None:
    web = supervisor(Child("api", lasts(*[0.2] * 9, takes=0.1)), Child("files", steady(stops=0.5)))
    tree = shop(Child("web", web), Child("db", steady(stops=0.2)), breaker=NeverRestart())
    assert told(life_of(tree)) == sheet("""
━━ 1 ━━ shop/web/api ━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━ 2026-03-01 12:00:00 UTC ━━

  shop/web/api, a permanent worker, failed 4 times in 900 ms (4 incidents,
  down for 1 s in all), each time with ValueError: boom. shop/web restarted it
  alone (one_for_one), 3 times. The breaker of shop/web refused to restart it:
  shop/web stopped files and gave up. The breaker of shop refused to restart
  shop/web: shop stopped db and gave up. That was the end of the whole tree
  1.6 s after the first failure.

  seconds    shop                                           0 s            1.6 s
               web
    0.000      ✗ api failed: ValueError: boom               ✗
    0.000      ▸ api#2 started in 100 ms                    ██
    0.300      ✗ api#2 failed after 200 ms                   ╌╌✗
    0.300      ▸ api#3 started in 100 ms                       ██
    0.600      ✗ api#3 failed after 200 ms                      ╌╌╌✗
    0.600      ▸ api#4 started in 100 ms                           ██
    0.900      ✗ api#4 failed after 200 ms                          ╌╌✗
    0.900    ▲ web gives up: too many restarts of api                 ▲──────
    0.900      ■ files stopped in 500 ms                              ▒▒▒▒▒▒▒
    1.400  ▲ shop gives up: too many restarts of web                        ▲───
    1.400    ■ db stopped in 200 ms                                         ▒▒▒
    1.600  ■ the whole tree ended                                              ■

  ⋯ ValueError: boom

4 incidents, shown as 1, in 23 spans: 3 healthy again, 1 ended the tree
""")


def test_a_failure_that_no_restart_would_cure() -> None:
    tree = shop(
        Child("api", lasts(1.0), recoverable=lambda error: False),
        Child("db", steady(stops=0.5)),
    )
    assert told(life_of(tree)) == sheet("""
━━ 1 ━━ shop/api ━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━ 2026-03-01 12:00:01 UTC ━━

  shop/api, a permanent worker, failed after 1 s with ValueError: boom.
  shop/api cannot be recovered by a restart: shop stopped db and gave up. That
  was the end of the whole tree 500 ms after the first failure.

  seconds    shop                                           0 s           500 ms
    0.000    ✗ api failed: ValueError: boom                 ✗
    0.000  ▲ shop gives up: api cannot be recovered         ▲───────────────────
    0.000    ■ db stopped in 500 ms                         ▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒
    0.500  ■ the whole tree ended                                              ■

  ⋯ ValueError: boom

1 incident in 6 spans: 1 ended the tree
""")


# Not restarted


def test_a_child_that_is_discarded_and_one_that_is_temporary() -> None:
    async def gives_up() -> None:
        await trio.sleep(1)
        raise Unrecoverable("no disk")

    tree = shop(
        Child("api", gives_up, on_unrecoverable="discard"),
        Child("job", lasts(3.0), restart="temporary"),
        Child("db", idle),
    )
    assert told(life_of(tree)) == sheet("""
━━ 1 ━━ shop/api ━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━ 2026-03-01 12:00:01 UTC ━━

  shop/api, a permanent worker, failed after 1 s with Unrecoverable: no disk.
  Not restarted, since a restart would not help: shop goes on without it.

  seconds    shop                                           0 s     under 0.1 ms
    0.000    ✗ api failed: Unrecoverable: no disk           ✗
    0.000  ■ not restarted: not recoverable                 ■

    File "shop.py", line 1, in gives_up
      raise Unrecoverable("no disk")
  spry_py.Unrecoverable: no disk

━━ 2 ━━ shop/job ━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━ 2026-03-01 12:00:03 UTC ━━

  shop/job, a temporary worker, failed after 3 s with ValueError: boom. Not
  restarted, since it is temporary: shop goes on without it.

  seconds    shop                                           0 s     under 0.1 ms
    0.000    ✗ job failed: ValueError: boom                 ✗
    0.000  ■ not restarted: temporary                       ■

  ⋯ ValueError: boom

2 incidents in 8 spans: 2 not restarted
""")


def test_a_tree_that_is_stopped_while_a_child_waits() -> None:
    tree = shop(Child("api", lasts(1.0), backoff=lambda _: 1000.0), Child("db", idle))
    assert told(life_of(tree)) == sheet("""
━━ 1 ━━ shop/api ━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━ 2026-03-01 12:00:01 UTC ━━

  shop/api, a permanent worker, failed after 1 s with ValueError: boom. Not
  restarted: shop was stopped 29 s after the first failure.

  seconds    shop                                           0 s             29 s
    0.000    ✗ api failed: ValueError: boom                 ✗
    0.000    … api waits 16 min 40 s before its restart     ···················
   29.000  ■ stopped before it was restarted                                   ■

  ⋯ ValueError: boom

1 incident in 7 spans: 1 stopped meanwhile
""")


def test_a_tree_that_is_stopped_while_siblings_are_being_stopped() -> None:
    tree = shop(Child("db", lasts(1.0)), Child("api", steady(stops=3.0)), strategy="one_for_all")
    assert told(life_of(tree, until=2.0)) == sheet("""
━━ 1 ━━ shop/db ━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━ 2026-03-01 12:00:01 UTC ━━

  shop/db, a permanent worker, failed after 1 s with ValueError: boom. Not
  restarted: shop was stopped 3 s after the first failure.

  seconds    shop                                           0 s              3 s
    0.000    ✗ db failed: ValueError: boom                  ✗
    0.000  ↻ one_for_all: shop restarts all                 ───────────────────
    0.000    ■ api stopped in 3 s                           ▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒
    3.000  ■ stopped before it was restarted                                   ■

  ⋯ ValueError: boom

1 incident in 8 spans: 1 stopped meanwhile
""")


def test_a_restart_that_a_caller_calls_off() -> None:
    async def story() -> None:
        child = Child("api", lasts(1.0), backoff=lambda _: 1000.0)
        async with open_system(shop(child, Child("db", idle))) as tree:
            await trio.sleep(5)
            await tree.terminate_child("api")
            await trio.sleep(5)

    assert told(traced(story)) == sheet("""
━━ 1 ━━ shop/api ━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━ 2026-03-01 12:00:01 UTC ━━

  shop/api, a permanent worker, failed after 1 s with ValueError: boom. Not
  restarted: it was called off 4 s after the first failure.

  seconds    shop                                           0 s              4 s
    0.000    ✗ api failed: ValueError: boom                 ✗
    0.000    … api waits 16 min 40 s before its restart     ···················
    4.000  ■ restart called off                                                ■

  ⋯ ValueError: boom

1 incident in 7 spans: 1 stopped meanwhile
""")


def test_a_subsystem_that_gives_up_while_it_is_being_stopped() -> None:
    web = supervisor(
        Child("api", lasts(1.0)), Child("files", steady(stops=3.0)), breaker=NeverRestart()
    )
    assert told(life_of(shop(Child("web", web)), until=2.0)) == sheet("""
━━ 1 ━━ shop/web/api ━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━ 2026-03-01 12:00:01 UTC ━━

  shop/web/api, a permanent worker, failed after 1 s with ValueError: boom.
  The breaker of shop/web refused to restart it: shop/web stopped files and
  gave up. Not restarted: the supervisor of shop/web was being stopped 3 s
  after the first failure.

  seconds    shop                                           0 s              3 s
               web
    0.000      ✗ api failed: ValueError: boom               ✗
    0.000    ▲ web gives up: too many restarts of api       ▲───────────────────
    0.000      ■ files stopped in 3 s                       ▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒
    3.000  ■ stopped before it was restarted                                   ■

  ⋯ ValueError: boom

1 incident in 11 spans: 1 stopped meanwhile
""")


def test_an_exit_exception_ends_the_program() -> None:
    async def leaves() -> None:
        await trio.sleep(1)
        raise KeyboardInterrupt

    assert told(life_of(shop(Child("api", leaves), Child("db", idle)))) == sheet("""
━━ 1 ━━ shop/api ━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━ 2026-03-01 12:00:01 UTC ━━

  shop/api, a permanent worker, failed after 1 s with KeyboardInterrupt. That
  asked the whole program to end.

  seconds    shop                                           0 s     under 0.1 ms
    0.000    ✗ api failed: KeyboardInterrupt                ✗
    0.000  ■ the program was asked to end                   ■

    File "shop.py", line 1, in leaves
      raise KeyboardInterrupt
  KeyboardInterrupt

1 incident in 6 spans: 1 ended the tree
""")


# The system function


def forgetful(problem: str, good: Container[int] = (1,)) -> Callable[[Scope], Awaitable[None]]:
    """A system function something is wrong with, but for some of its runs."""
    runs = 0

    async def system(scope: Scope) -> None:
        nonlocal runs
        runs += 1
        if runs not in good and problem == "raises":
            raise LookupError("no config")
        await scope.start(Child("db", lasts(1.0)))
        if runs not in good and problem == "uses a key twice":
            await scope.start(Child("db", idle))

    return system


def test_a_system_function_that_is_not_run_again_is_named_for_what_it_failed_with() -> None:
    system = forgetful("raises")
    tree = SystemSupervisor(system, name="shop", breaker=RateLimited(2, 60.0))
    assert told(life_of(tree)) == sheet("""
━━ 1 ━━ shop/db ━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━ 2026-03-01 12:00:01 UTC ━━

  shop/db, a permanent worker, failed after 1 s with ValueError: boom. The
  system function of shop failed, twice: LookupError: no config. The breaker
  of shop refused to run its system function again: shop gave up. That was the
  end of the whole tree.

  seconds    shop                                           0 s     under 0.1 ms
    0.000    ✗ db failed: ValueError: boom                  ✗
    0.000  ↻ one_for_all: shop restarts all                 ─
    0.000  ↻ one_for_all, attempt 2: shop restarts all      ─
    0.000  ▲ shop gives up: its system function keeps fai…  ▲
    0.000  ■ the whole tree ended                           ■

  ⋯ ValueError: boom

1 incident in 9 spans: 1 ended the tree
""")


def test_one_that_comes_to_itself_is_told_as_well() -> None:
    system = forgetful("uses a key twice", good=(1, 3))
    tree = SystemSupervisor(system, name="shop", breaker=RateLimited(2, 60.0))
    assert told(life_of(tree)) == sheet("""
━━ 1 ━━ shop/db ━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━ 2026-03-01 12:00:01 UTC ━━

  shop/db, a permanent worker, failed twice in 1 s (2 incidents, down for
  under 0.1 ms in all), each time with ValueError: boom. The system function
  of shop failed: ReusedKey: the key 'db' is used twice: 'shop/db' has already
  been started in this startup; give each child of a system a key of its own.
  shop stopped db and started db again (one_for_all). The breaker of shop
  refused to restart it: shop gave up. That was the end of the whole tree 1 s
  after the first failure.

  seconds    shop                                           0 s              1 s
    0.000    ✗ db failed: ValueError: boom                  ✗
    0.000  ↻ one_for_all: shop restarts all                 ─
    0.000    ▸ db#2 started                                 █
    0.000    ■ db#2 aborted                                 ▒
    0.000  ↻ one_for_all, attempt 2: shop restarts all      ─
    0.000    ▸ db#3 started                                 █
    1.000    ✗ db#3 failed after 1 s                        ╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌✗
    1.000  ▲ shop gives up: too many restarts of db                           ▲─
    1.000  ■ the whole tree ended                                              ■

  ⋯ ValueError: boom

2 incidents, shown as 1, in 14 spans: 1 healthy again, 1 ended the tree
""")


def test_one_below_that_fails_again_and_again_is_a_failed_start_there() -> None:
    shop = SystemSupervisor(forgetful("raises"), breaker=RateLimited(1, 60.0))
    tree = supervisor(Child("mail", steady()), Child("shop", shop), name="mall")
    assert told(life_of(tree)) == sheet("""
━━ 1 ━━ mall/shop/db ━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━ 2026-03-01 12:00:01 UTC ━━

  mall/shop/db, a permanent worker, failed after 1 s with ValueError: boom.
  The system function of mall/shop failed: LookupError: no config. The breaker
  of mall/shop refused to run its system function again: mall/shop gave up.
  mall/shop failed to start again, 3 times: NonChildFailure: the system
  function of 'mall/shop' failed: LookupError: no config. The breaker of mall
  refused to restart mall/shop: mall stopped mail and gave up. That was the
  end of the whole tree.

  seconds    mall                                           0 s     under 0.1 ms
               shop
    0.000      ✗ db failed: ValueError: boom                ✗
    0.000    ↻ one_for_all: shop restarts all               ─
    0.000    ▲ shop gives up: its system function keeps f…  ▲
    0.000    ✗ shop#2 failed to start: NonChildFailure: t…  ✗
    0.000    ✗ shop#3 failed to start: NonChildFailure: t…  ✗
    0.000    ✗ shop#4 failed to start: NonChildFailure: t…  ✗
    0.000  ▲ mall gives up: too many restarts of shop       ▲
    0.000    ■ mail stopped                                 ▒
    0.000  ■ the whole tree ended                           ■

  ⋯ ValueError: boom

1 incident in 26 spans: 1 ended the tree
""")


# A reload


def reloaded(system: Callable[[Scope], Awaitable[None]], breaker: RateLimited) -> str:
    async def story() -> None:
        tree = SystemSupervisor(system, name="shop", breaker=breaker)
        with suppress(TooManyRestarts):
            async with open_system(tree) as handle:
                with suppress(NonChildFailure):
                    await handle.replay()
                await trio.sleep(5)

    return told(traced(story))


def changing(good: Container[int]) -> Callable[[Scope], Awaitable[None]]:
    """A system function that fails, but for some of its runs, when it has changed something."""
    runs = 0

    async def system(scope: Scope) -> None:
        nonlocal runs
        runs += 1
        await scope.start(Child("db", idle))
        if runs not in good:
            await scope.start(Child("new", idle))
            raise LookupError("no config")

    return system


def test_a_reload_that_is_the_end_of_a_tree() -> None:
    assert reloaded(changing(good=(1,)), RateLimited(0, 60.0)) == sheet("""
━━ 1 ━━ shop ━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━ 2026-03-01 12:00:00 UTC ━━

  A restart of shop that a caller asked for failed half-way. The breaker of
  shop refused to run its system function again: shop gave up. That was the
  end of the whole tree.

  seconds    shop                                           0 s     under 0.1 ms
    0.000  ✗ a restart by a call failed before this         ✗
    0.000  ▲ shop gives up: its system function keeps fai…  ▲
    0.000  ■ the whole tree ended                           ■

1 incident in 9 spans: 1 ended the tree
""")


def test_a_reload_that_fails_once() -> None:
    assert reloaded(changing(good=(1, 3)), RateLimited(1, 60.0)) == sheet("""
━━ 1 ━━ shop ━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━ 2026-03-01 12:00:00 UTC ━━

  A restart of shop that a caller asked for failed half-way. shop started db
  again (one_for_all). Healthy again at once.

  seconds    shop                                           0 s     under 0.1 ms
    0.000  ✗ a restart by a call failed before this         ✗
    0.000  ↻ one_for_all: shop restarts all                 ─
    0.000    ▸ db#2 started                                 █
    0.000  ✓ healthy again                                  ✓

1 incident in 12 spans: 1 healthy again
""")
