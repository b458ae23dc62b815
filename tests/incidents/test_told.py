"""`spry-py incidents`: whole pages, word for word: each strategy, and failures in a row."""

from __future__ import annotations

from typing import Any

import tenacity
import trio

from incident_files import lasts, life_of, sheet, starts, steady, told, traced
from spry_py import (
    Child,
    DynamicSupervisor,
    RateLimited,
    open_system,
)
from traced import idle, shop

# Each strategy


def test_a_child_restarted_alone() -> None:
    tree = shop(Child("db", idle), Child("api", lasts(5.0, takes=0.3)))
    assert told(life_of(tree)) == sheet("""
━━ 1 ━━ shop/api ━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━ 2026-03-01 12:00:05 UTC ━━

  shop/api, a permanent worker, failed after 5 s with ValueError: boom. shop
  restarted it alone (one_for_one). Healthy again 300 ms after the first
  failure.

  seconds    shop                                           0 s           300 ms
    0.000    ✗ api failed: ValueError: boom                 ✗
    0.000    ▸ api#2 started in 300 ms                      ███████████████████
    0.300  ✓ healthy again                                                     ✓

  ⋯ ValueError: boom

1 incident in 9 spans: 1 healthy again
""")


def test_all_children_restarted() -> None:
    tree = shop(
        Child("db", lasts(5.0, takes=1.2)),
        Child("cache", steady(takes=0.4, stops=0.2)),
        Child("api", steady(takes=0.7, stops=0.9)),
        strategy="one_for_all",
    )
    assert told(life_of(tree)) == sheet("""
━━ 1 ━━ shop/db ━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━ 2026-03-01 12:00:06 UTC ━━

  shop/db, a permanent worker, failed after 5 s with ValueError: boom. shop
  stopped api and cache and started db, cache and api again (one_for_all).
  Healthy again 3.4 s after the first failure.

  seconds    shop                                           0 s            3.4 s
    0.000    ✗ db failed: ValueError: boom                  ✗
    0.000  ↻ one_for_all: shop restarts all                 ───────────────────
    0.000    ■ api stopped in 900 ms                        ▒▒▒▒▒▒
    0.900    ■ cache stopped in 200 ms                           ▒▒
    1.100    ▸ db#2 started in 1.2 s                              ███████
    2.300    ▸ cache#2 started in 400 ms                                ████
    2.700    ▸ api#2 started in 700 ms                                     ████
    3.400  ✓ healthy again                                                     ✓

  ⋯ ValueError: boom

1 incident in 17 spans: 1 healthy again
""")


def test_what_follows_restarted_at_the_second_attempt() -> None:
    tree = shop(
        Child("log", idle),
        Child("db", starts(None, "busy", takes=1.2)),
        Child("cache", steady(takes=0.4, stops=0.2)),
        Child("api", steady(takes=0.7, stops=0.9)),
        strategy="rest_for_one",
    )
    assert told(life_of(tree)) == sheet("""
━━ 1 ━━ shop/db ━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━ 2026-03-01 12:00:02 UTC ━━

  shop/db, a permanent worker, failed after 1 s with ValueError: boom. shop/db
  failed to start again: OSError: busy. shop stopped api and cache, which had
  been started after it, and started db, cache and api again (rest_for_one).
  Healthy again 4.6 s after the first failure.

  seconds    shop                                           0 s            4.6 s
    0.000    ✗ db failed: ValueError: boom                  ✗
    0.000  ↻ rest_for_one: shop restarts from db on         ──────────
    0.000    ■ api stopped in 900 ms                        ▒▒▒▒
    0.900    ■ cache stopped in 200 ms                         ▒▒
    1.100    ✗ db#2 failed to start: OSError: busy              █████✗
    2.300  ↻ rest_for_one, attempt 2: shop restarts from …           ──────────
    2.300    ▸ db#3 started in 1.2 s                                 ██████
    3.500    ▸ cache#2 started in 400 ms                                  ███
    3.900    ▸ api#2 started in 700 ms                                      ███
    4.600  ✓ healthy again                                                     ✓

  ⋯ ValueError: boom

1 incident in 22 spans: 1 healthy again
""")


def test_a_child_of_a_dynamic_supervisor() -> None:
    async def story() -> None:
        pool = DynamicSupervisor(breaker=RateLimited(1, 60.0))
        async with open_system(shop(Child("pool", pool))) as tree:
            handle: Any = tree.child("pool").value
            await handle.start_child(Child("job-1", lasts(1.0, 2.0, takes=0.2)))
            await handle.start_child(Child("job-2", steady(stops=0.3)))
            await trio.sleep(20)

    assert told(traced(story)) == sheet("""
━━ 1 ━━ shop/pool/job-1 ━━━━━━━━━━━━━━━━━━━━━━━━━━━━━ 2026-03-01 12:00:01 UTC ━━

  shop/pool/job-1, a permanent worker, failed twice in 2.2 s (2 incidents,
  down for 500 ms in all), each time with ValueError: boom. shop/pool
  restarted it alone (one_for_one). The breaker of shop/pool refused to
  restart it: shop/pool stopped job-2 and gave up. shop restarted shop/pool
  alone (one_for_one). Healthy again 2.5 s after the first failure.

  seconds    shop                                           0 s            2.5 s
               pool
    0.000      ✗ job-1 failed: ValueError: boom             ✗
    0.000      ▸ job-1#2 started in 200 ms                  ██
    2.200      ✗ job-1#2 failed after 2 s                    ╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌✗
    2.200    ▲ pool gives up: too many restarts of job-1                    ▲──
    2.200      ■ job-2 stopped in 300 ms                                    ▒▒▒
    2.500    ▸ pool#2 started                                                 █
    2.500  ✓ healthy again                                                     ✓

  ⋯ ValueError: boom

2 incidents, shown as 1, in 17 spans: 2 healthy again
""")


# Again and again


def test_a_child_that_keeps_failing_and_waits_longer_each_time() -> None:
    wait = tenacity.wait_incrementing(0.5, 1.0)
    tree = shop(Child("api", lasts(5.0, 1.0, 0.5, takes=0.3), backoff=wait))
    assert told(life_of(tree)) == sheet("""
━━ 1 ━━ shop/api ━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━ 2026-03-01 12:00:05 UTC ━━

  shop/api, a permanent worker, failed 3 times in 4.1 s (3 incidents, down for
  5.4 s in all), each time with ValueError: boom. shop restarted it alone
  (one_for_one), 3 times, after waits of 500 ms, 1.5 s and 2.5 s. Healthy
  again 6.9 s after the first failure.

  seconds    shop                                           0 s            6.9 s
    0.000    ✗ api failed: ValueError: boom                 ✗
    0.000    … api waits 500 ms before its restart          ··
    0.500    ▸ api#2 started in 300 ms                       ██
    1.800    ✗ api#2 failed after 1 s                         ╌╌✗
    1.800    … api waits 1.5 s before its restart               ······
    3.300    ▸ api#3 started in 300 ms                               █
    4.100    ✗ api#3 failed after 500 ms                             ╌╌✗
    4.100    … api waits 2.5 s before its restart                      ········
    6.600    ▸ api#4 started in 300 ms                                        █
    6.900  ✓ healthy again                                                     ✓

  ⋯ ValueError: boom

3 incidents, shown as 1, in 13 spans: 3 healthy again
""")


def test_starts_that_fail_and_are_refused_in_the_end() -> None:
    tree = shop(
        Child("api", starts(None, "busy", "gone", "gone", takes=0.1)),
        Child("log", steady(stops=0.2)),
        breaker=RateLimited(2, 60.0),
    )
    assert told(life_of(tree)) == sheet("""
━━ 1 ━━ shop/api ━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━ 2026-03-01 12:00:01 UTC ━━

  shop/api, a permanent worker, failed after 1 s with ValueError: boom.
  shop/api failed to start again, twice: OSError: gone. The breaker of shop
  refused to restart it: shop stopped log and gave up. That was the end of the
  whole tree 400 ms after the first failure.

  seconds    shop                                           0 s           400 ms
    0.000    ✗ api failed: ValueError: boom                 ✗
    0.000    ✗ api#2 failed to start: OSError: busy         ████✗
    0.100    ✗ api#3 failed to start: OSError: gone             █████✗
    0.200  ▲ shop gives up: too many restarts of api                 ▲──────────
    0.200    ■ log stopped in 200 ms                                 ▒▒▒▒▒▒▒▒▒▒
    0.400  ■ the whole tree ended                                              ■

  ⋯ ValueError: boom

1 incident in 11 spans: 1 ended the tree
""")


def test_of_many_failures_the_first_and_the_last_are_shown() -> None:
    tree = shop(Child("api", lasts(*[0.5] * 40, takes=0.05)), breaker=RateLimited(99, 1.0))
    assert told(life_of(tree)) == sheet("""
━━ 1 ━━ shop/api ━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━ 2026-03-01 12:00:00 UTC ━━

  shop/api, a permanent worker, failed 40 times in 21.5 s (40 incidents, down
  for 2 s in all), each time with ValueError: boom. shop restarted it alone
  (one_for_one), 40 times. Healthy again 21.5 s after the first failure.

  seconds    shop                                           0 s           21.5 s
    0.000    ✗ api failed: ValueError: boom                 ✗
    0.000    ▸ api#2 started in 50 ms                       █
    0.550    ✗ api#2 failed after 500 ms                    ✗
    0.550    ▸ api#3 started in 50 ms                       █
    1.100    ✗ api#3 failed after 500 ms                    ✗
    1.100    ▸ api#4 started in 50 ms                       ██
    1.650    ⋮ 34 more failures like these                   ┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄
   20.350    ✗ api#38 failed after 500 ms                                    ✗
   20.350    ▸ api#39 started in 50 ms                                       ██
   20.900    ✗ api#39 failed after 500 ms                                     ✗
   20.900    ▸ api#40 started in 50 ms                                        █
   21.450    ✗ api#40 failed after 500 ms                                     ✗
   21.450    ▸ api#41 started in 50 ms                                        █
   21.500  ✓ healthy again                                                     ✓

  ⋯ ValueError: boom

40 incidents, shown as 1, in 124 spans: 40 healthy again
""")


def test_of_many_children_the_first_and_the_last_are_shown() -> None:
    workers = [Child(f"w{number}", steady(takes=0.1, stops=0.1)) for number in range(20)]
    tree = shop(Child("db", lasts(1.0)), *workers, strategy="one_for_all")
    assert told(life_of(tree)) == sheet("""
━━ 1 ━━ shop/db ━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━ 2026-03-01 12:00:02 UTC ━━

  shop/db, a permanent worker, failed after 1 s with ValueError: boom. shop
  stopped w19, w18, w17, w16 and 16 more and started db, w0, w1, w2 and 17
  more again (one_for_all). Healthy again 4 s after the first failure.

  seconds    shop                                           0 s              4 s
    0.000    ✗ db failed: ValueError: boom                  ✗
    0.000  ↻ one_for_all: shop restarts all                 ───────────────────
    0.000    ■ w19 stopped in 100 ms                        ▒
    0.100    ■ w18 stopped in 100 ms                        ▒
    0.200    ■ w17 stopped in 100 ms                        ▒▒
    0.300    ⋮ 16 more stopped                               ┄┄┄┄┄┄┄┄┄
    1.900    ■ w0 stopped in 100 ms                                  ▒
    2.000    ▸ db#2 started                                          █
    2.000    ▸ w0#2 started in 100 ms                                █
    2.100    ▸ w1#2 started in 100 ms                                ██
    2.200    ⋮ 17 more started                                        ┄┄┄┄┄┄┄┄┄
    3.900    ▸ w19#2 started in 100 ms                                        █
    4.000  ✓ healthy again                                                     ✓

  ⋯ ValueError: boom

1 incident in 89 spans: 1 healthy again
""")
