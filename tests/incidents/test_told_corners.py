"""`spry-py incidents`, word for word: siblings, files cut off, and ends without a failure."""

from __future__ import annotations

import functools
from typing import Any

import trio

from incident_files import (
    WHERE_WORKERS_RAISE,
    changed,
    lasts,
    life_of,
    sheet,
    shields,
    starts,
    steady,
    told,
    traced,
)
from spry_py import (
    Child,
    NeverRestart,
    open_system,
)
from traced import idle, shop, supervisor

# Siblings


def test_siblings_that_are_late_stuck_or_fail_on_the_way() -> None:
    async def fails_asked() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise OSError("disk full")

    tree = shop(
        Child("db", lasts(1.0)),
        Child("late", steady(stops=100.0), shutdown=2.0),
        Child("stuck", shields, 3.5),
        Child("bad", fails_asked),
        strategy="one_for_all",
    )
    assert told(life_of(tree)) == sheet("""
━━ 1 ━━ shop/db ━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━ 2026-03-01 12:00:01 UTC ━━

  shop/db, a permanent worker, failed after 1 s with ValueError: boom.
  shop/bad failed while it was being stopped: OSError: disk full. shop/stuck
  took 3.5 s to end although aborted: it sat in shields (shop.py,
  line 1). shop/late, asked to end, was not done within 2 s and was aborted.
  shop stopped bad, stuck and late and started db, late, stuck and bad again
  (one_for_all). Healthy again 5.5 s after the first failure.

  seconds    shop                                           0 s            5.5 s
    0.000    ✗ db failed: ValueError: boom                  ✗
    0.000  ↻ one_for_all: shop restarts all                 ───────────────────
    0.000    ■ bad stopped, failing: OSError: disk full     ▒
    0.000    ■ stuck aborted, stuck for 3.5 s               ▒▒▒▒▒▒▒▒▒▒▒▒▒
    3.500    ■ late aborted, not done within 2 s                        ▒▒▒▒▒▒▒
    5.500    ▸ db#2 started                                                   █
    5.500    ▸ late#2 started                                                 █
    5.500    ▸ stuck#2 started                                                █
    5.500    ▸ bad#2 started                                                  █
    5.500  ✓ healthy again                                                     ✓

  ⋯ ValueError: boom

1 incident in 21 spans: 1 healthy again
""")


def test_a_sibling_that_fails_while_the_others_wait_is_part_of_the_story() -> None:
    tree = shop(
        Child("db", lasts(5.0)),
        Child("cache", lasts(1.0, error="no host"), backoff=lambda _: 10.0),
        Child("api", steady(takes=0.5, stops=0.1)),
        strategy="rest_for_one",
    )
    assert told(life_of(tree)) == sheet("""
━━ 1 ━━ shop/cache ━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━ 2026-03-01 12:00:01 UTC ━━

  shop/cache, a permanent worker, failed after 1 s with ValueError: no host.
  shop/db, a permanent worker, failed after 5 s with ValueError: boom. shop
  stopped api, which had been started after it, and started db, cache and api
  again (rest_for_one), after a wait of 10 s. Healthy again 10.6 s after the
  first failure.

  seconds    shop                                           0 s           10.6 s
    0.000    ✗ cache failed: ValueError: no host            ✗
    0.000  ↻ rest_for_one: shop restarts from cache on      ───────────────────
    0.000    ■ api stopped in 100 ms                        ▒
    0.100    … cache waits 10 s before its restart          ···················
    4.000    ✗ db failed: ValueError: boom                         ✗
    4.000  ↻ rest_for_one: shop restarts from db on                ─
   10.100    ▸ db#2 started                                                   █
   10.100    ▸ cache#2 started                                                █
   10.100    ▸ api#2 started in 500 ms                                        █
   10.600  ✓ healthy again                                                     ✓

  ⋯ ValueError: no host

2 incidents, shown as 1, in 18 spans: 2 healthy again
""")


def test_a_subsystem_swept_along_while_a_child_of_it_waits() -> None:
    web = supervisor(Child("api", lasts(1.0), backoff=lambda _: 100.0))
    tree = shop(Child("db", lasts(3.0)), Child("web", web), strategy="one_for_all")
    assert told(life_of(tree, until=5.0)) == sheet("""
━━ 1 ━━ shop/web/api ━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━ 2026-03-01 12:00:01 UTC ━━

  shop/web/api, a permanent worker, failed after 1 s with ValueError: boom.
  Not restarted: shop/web was stopped 2 s after the first failure.

  seconds    shop/web                                       0 s              2 s
    0.000    ✗ api failed: ValueError: boom                 ✗
    0.000    … api waits 100 s before its restart           ···················
    2.000  ■ stopped before it was restarted                                   ■

  ⋯ ValueError: boom

━━ 2 ━━ shop/db ━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━ 2026-03-01 12:00:03 UTC ━━

  shop/db, a permanent worker, failed after 3 s with ValueError: boom. shop
  stopped web and started db and web again (one_for_all). Healthy again at
  once.

  seconds    shop                                           0 s     under 0.1 ms
    0.000    ✗ db failed: ValueError: boom                  ✗
    0.000  ↻ one_for_all: shop restarts all                 ─
    0.000    ■ web stopped                                  ▒
    0.000    ▸ db#2 started                                 █
    0.000    ▸ web#2 started                                █
    0.000      ▸ api started                                █
    0.000  ✓ healthy again                                  ✓

  ⋯ ValueError: boom

2 incidents in 22 spans: 1 healthy again, 1 stopped meanwhile
""")


def test_subsystems_that_go_along_are_shown_with_all_they_hold() -> None:
    web = supervisor(Child("api", steady(takes=0.2, stops=0.1)), Child("files", idle))
    mail = supervisor(Child("smtp", steady(takes=0.3, stops=0.4)))
    children = Child("db", lasts(1.0)), Child("web", web), Child("mail", mail)
    assert told(life_of(shop(*children, strategy="rest_for_one"))) == sheet("""
━━ 1 ━━ shop/db ━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━ 2026-03-01 12:00:01 UTC ━━

  shop/db, a permanent worker, failed after 1 s with ValueError: boom. shop
  stopped mail and web, which had been started after it, and started db, web
  and mail again (rest_for_one). Healthy again 1 s after the first failure.

  seconds    shop                                           0 s              1 s
    0.000    ✗ db failed: ValueError: boom                  ✗
    0.000  ↻ rest_for_one: shop restarts from db on         ───────────────────
    0.000    ■ mail stopped in 400 ms                       ▒▒▒▒▒▒▒▒
    0.000      ■ smtp stopped in 400 ms                     ▒▒▒▒▒▒▒▒
    0.400    ■ web stopped in 100 ms                               ▒▒▒
    0.400      ■ files aborted                                     ▒
    0.400      ■ api stopped in 100 ms                             ▒▒▒
    0.500    ▸ db#2 started                                          █
    0.500    ▸ web#2 started in 200 ms                               █████
    0.500      ▸ api started in 200 ms                               █████
    0.700      ▸ files started                                           █
    0.700    ▸ mail#2 started in 300 ms                                  ██████
    0.700      ▸ smtp started in 300 ms                                  ██████
    1.000  ✓ healthy again                                                     ✓

  ⋯ ValueError: boom

1 incident in 37 spans: 1 healthy again
""")


# Cut off


def test_a_file_that_ends_while_a_child_fails_to_start() -> None:
    tree = shop(
        Child("db", starts(None, "busy", "busy", takes=0.2), backoff=lambda _: 1.0),
        Child("api", steady(stops=0.5)),
        strategy="one_for_all",
    )
    assert told(life_of(tree)[:10]) == sheet("""
━━ 1 ━━ shop/db ━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━ 2026-03-01 12:00:01 UTC ━━

  shop/db failed; its own span, which is written when all is over, is missing.
  shop/db failed to start again, after a wait of 1 s: OSError: busy. Still
  open when the spans end.

  seconds    shop                                           0 s            2.9 s
    0.000    ✗ db failed before this                        ✗
    0.000  ↻ one_for_all: shop restarts all                 ────────────
    0.000    ■ api stopped in 500 ms                        ▒▒▒▒
    0.500    … db waits 1 s before its restart                 ·······
    1.500    ✗ db#2 failed to start: OSError: busy                   ██✗
    2.700    ✗ db#3 failed to start: OSError: busy                           █✗
    2.900  ? still open when the spans end                                     ?

1 incident in 10 spans: 1 still open
""")


def test_a_file_that_ends_in_the_middle_of_an_escalation() -> None:
    web = supervisor(
        Child("api", lasts(1.0)), Child("files", steady(stops=0.5)), breaker=NeverRestart()
    )
    tree = shop(Child("web", web), Child("db", steady(stops=0.2)), strategy="one_for_all")
    assert told(life_of(tree)[:9]) == sheet("""
━━ 1 ━━ shop/web/api ━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━ 2026-03-01 12:00:01 UTC ━━

  shop/web/api failed; its own span, which is written when all is over, is
  missing. The breaker of shop/web refused to restart it: shop/web stopped
  files and gave up. Still open when the spans end.

  seconds    shop                                           0 s           500 ms
               web
    0.000      ✗ api failed before this                     ✗
    0.000    ▲ web gives up: too many restarts of api       ▲───────────────────
    0.000      ■ files stopped in 500 ms                    ▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒
    0.500  ? still open when the spans end                                     ?

1 incident in 9 spans: 1 still open
""")


def test_exceptions_that_went_to_the_log_alone_are_told_by_the_status() -> None:
    lines = life_of(shop(Child("api", lasts(5.0, takes=0.3))))
    page = told(lines)
    assert WHERE_WORKERS_RAISE in page
    assert told(changed(line, events=[]) for line in lines) == page.replace(WHERE_WORKERS_RAISE, "")


# No failures


def test_a_permanent_child_that_returns_is_restarted() -> None:
    tree = shop(Child("api", functools.partial(trio.sleep, 3)))
    assert told(life_of(tree, until=8.0)) == sheet("""
━━ 1 ━━ shop/api ━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━ 2026-03-01 12:00:03 UTC ━━

  shop/api, a permanent worker, ended by itself twice in 3 s (2 incidents,
  down for under 0.1 ms in all). shop restarted it alone (one_for_one), twice.
  Healthy again 3 s after the first end.

  seconds    shop                                           0 s              3 s
    0.000    ✗ api ended by itself                          ✗
    0.000    ▸ api#2 started                                █
    3.000    ✗ api#2 ended by itself after 3 s              ╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌✗
    3.000    ▸ api#3 started                                                  █
    3.000  ✓ healthy again                                                     ✓

2 incidents, shown as 1, in 10 spans: 2 healthy again
""")


def test_a_subsystem_aborted_by_its_own_handle() -> None:
    async def story() -> None:
        async with open_system(shop(Child("web", supervisor(Child("api", steady(0.2)))))) as tree:
            await trio.sleep(1)
            handle: Any = tree.child("web").value
            handle.abort()
            await trio.sleep(1)

    assert told(traced(story)) == sheet("""
━━ 1 ━━ shop/web ━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━ 2026-03-01 12:00:01 UTC ━━

  shop/web, a permanent supervisor, ended by itself after 1 s. shop restarted
  it alone (one_for_one). Healthy again 200 ms after the first end.

  seconds    shop                                           0 s           200 ms
    0.000    ✗ web ended by itself                          ✗
    0.000    ▸ web#2 started in 200 ms                      ███████████████████
    0.000      ▸ api started in 200 ms                      ███████████████████
    0.200  ✓ healthy again                                                     ✓

1 incident in 15 spans: 1 healthy again
""")


def test_ends_that_need_no_restart_are_no_incidents() -> None:
    job = functools.partial(trio.sleep, 3)
    children = Child("a", job, restart="transient"), Child("b", job, restart="temporary")
    assert told(life_of(shop(*children, Child("db", idle)))) == "no incidents in 8 spans"
