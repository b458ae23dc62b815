"""The trees of spans that one operation, and one incident, leave behind."""

from __future__ import annotations

from typing import Any

import pytest
import tenacity

from spans import Seen, play, recording, start, startup, teardown, term, trace_of, try_restart, wait
from spry_py import (
    AlwaysRestart,
    Child,
    ChildFailure,
    Ignore,
    NeverRestart,
    Scope,
    SpryError,
    SystemSupervisor,
    TooManyRestarts,
    Unrecoverable,
    UnrecoverableFailure,
)
from traced import (
    BEFORE_STARTED,
    Run,
    crash,
    fails,
    forever,
    idle,
    lives,
    shop,
    supervisor,
    tell,
    told,
)

# Boot and ordered stop


def test_boot_and_ordered_stop_of_a_nested_tree() -> None:
    web = supervisor(Child("pool", idle), Child("api", idle))
    spans = tell(shop(Child("db", idle), Child("web", web)), until=3.0)
    assert spans.trees() == [
        startup(
            "shop",
            start("shop/db"),
            start(
                "shop/web",
                startup("shop/web", start("shop/web/pool"), start("shop/web/api")),
                kind="supervisor",
            ),
        ),
        teardown(
            "shop",
            wait(
                "shop/web",
                teardown(
                    "shop/web",
                    wait("shop/web/api", lifetime=3.0),
                    wait("shop/web/pool", lifetime=3.0),
                ),
                reason="normal",
                burden="settling",
                lifetime=3.0,
                kind="supervisor",
            ),
            wait("shop/db", lifetime=3.0),
        ),
    ]


def test_a_tree_without_children() -> None:
    assert tell(shop()).trees() == [startup("shop"), teardown("shop")]


def test_a_child_left_out_by_ignore_is_no_error() -> None:
    spans = tell(shop(Child("a", lives((BEFORE_STARTED, Ignore()))), Child("b", idle)))
    assert spans.trees("spry.startup") == [startup("shop", start("shop/a"), start("shop/b"))]
    assert spans.trees("spry.teardown") == [teardown("shop", wait("shop/b", lifetime=10.0))]


def test_a_failed_boot_is_told_by_the_starts_on_its_way() -> None:
    inner = supervisor(Child("ok", idle), Child("bad", lives((BEFORE_STARTED, ValueError("no")))))
    with recording() as spans, pytest.raises(SpryError) as failure:
        play(lambda: forever(shop(Child("inner", inner))))
    caused = failure.value.__cause__
    assert spans.trees("spry.startup") == [
        startup(
            "shop",
            start(
                "shop/inner",
                startup(
                    "shop/inner",
                    start("shop/inner/ok"),
                    start("shop/inner/bad", raised="ValueError: no"),
                    failed="spry_py.ChildFailure",
                ),
                teardown("shop/inner", wait("shop/inner/ok", lifetime=0.0)),
                kind="supervisor",
                raised=told(caused),
            ),
            failed="spry_py.ChildFailure",
        )
    ]


def test_children_started_together_of_which_one_fails() -> None:
    async def shop(scope: Scope) -> None:
        bad = lives((BEFORE_STARTED, ValueError("no")))
        await scope.start_together(Child("a", idle), Child("b", bad))

    spans = fails(SystemSupervisor(shop), ChildFailure)
    assert spans.trees("spry.startup") == [
        startup(
            "shop",
            start("shop/a"),
            start("shop/b", raised="ValueError: no"),
            teardown("shop", wait("shop/a", lifetime=0.0)),
            failed="spry_py.ChildFailure",
        )
    ]


@pytest.mark.parametrize("declared", ["listed", "alone", "together"])
def test_each_try_of_a_first_start_belongs_to_the_startup_that_waits_for_it(declared: str) -> None:
    flaky = lives(*[(BEFORE_STARTED, ValueError("no"))] * 2)
    child = Child("a", flaky, start_attempts=3, backoff=tenacity.wait_fixed(1))

    async def shop(scope: Scope) -> None:
        await (scope.start(child) if declared == "alone" else scope.start_together(child))

    system = SystemSupervisor([child] if declared == "listed" else shop, name="shop")
    assert tell(system).trees() == [
        startup(
            "shop",
            start("shop/a", raised="ValueError: no"),
            start("shop/a#2", raised="ValueError: no"),
            start("shop/a#3"),
        ),
        teardown("shop", wait("shop/a#3", lifetime=10.0)),
    ]


# Restarts


def test_crash_and_restart_one_for_one() -> None:
    spans = tell(shop(Child("a", lives(crash())), Child("b", idle)))
    assert spans.trees("spry.term") == [
        term("shop/a", try_restart("shop", start("shop/a#2")), raised="ValueError: boom")
    ]


def test_every_crash_is_a_trace_of_its_own() -> None:
    spans = tell(shop(Child("a", lives(crash(1.0), crash(2.0)))))
    assert spans.trees("spry.term") == [
        term("shop/a", try_restart("shop", start("shop/a#2")), raised="ValueError: boom"),
        term(
            "shop/a#2",
            try_restart("shop", start("shop/a#3")),
            lifetime=2.0,
            raised="ValueError: boom",
        ),
    ]


def test_a_permanent_child_that_returned_is_restarted_without_an_error() -> None:
    spans = tell(shop(Child("a", lives((1.5, None)))))
    assert spans.trees("spry.term") == [
        term("shop/a", try_restart("shop", start("shop/a#2")), reason="normal", lifetime=1.5)
    ]


def test_backoff_is_told_as_delay() -> None:
    child = Child("a", lives(crash(1.0), crash(1.0)), backoff=tenacity.wait_incrementing(0.5, 2.0))
    spans = tell(shop(child), until=20.0)
    assert [tree.children for tree in spans.trees("spry.term")] == [
        (try_restart("shop", start("shop/a#2"), delay=0.5),),
        (try_restart("shop", start("shop/a#3"), delay=2.5),),
    ]


def test_failing_attempts_stand_side_by_side_under_one_termination() -> None:
    busy = (BEFORE_STARTED, OSError("busy")), (BEFORE_STARTED, OSError("busy"))
    child = Child("a", lives(crash(), *busy))
    spans = tell(shop(child, breaker=AlwaysRestart()))
    assert spans.trees("spry.term") == [
        term(
            "shop/a",
            try_restart("shop", start("shop/a#2", raised="OSError: busy"), failed="OSError"),
            try_restart(
                "shop", start("shop/a#3", raised="OSError: busy"), failed="OSError", attempt=2
            ),
            try_restart("shop", start("shop/a#4"), attempt=3),
            raised="ValueError: boom",
        )
    ]


def test_refusal_tears_down_under_the_termination() -> None:
    tree = shop(Child("a", lives(crash())), Child("b", idle), breaker=NeverRestart())
    assert fails(tree, TooManyRestarts).trees("spry.term") == [
        term(
            "shop/a",
            try_restart("shop", allowed=False),
            teardown("shop", wait("shop/b")),
            raised="ValueError: boom",
        )
    ]


def test_one_for_all_sweeps_and_replays_within_one_attempt() -> None:
    children = Child("a", idle), Child("b", lives(crash())), Child("c", idle)
    assert tell(shop(*children, strategy="one_for_all")).trees("spry.term") == [
        term(
            "shop/b",
            try_restart(
                "shop",
                teardown("shop", wait("shop/c"), wait("shop/a")),
                startup(
                    "shop",
                    start("shop/a#2"),
                    start("shop/b#2"),
                    start("shop/c#2"),
                    replaces="shop#1",
                ),
                strategy="one_for_all",
            ),
            raised="ValueError: boom",
        )
    ]


def test_rest_for_one_replays_what_came_after() -> None:
    children = Child("a", idle), Child("b", lives(crash())), Child("c", idle)
    assert tell(shop(*children, strategy="rest_for_one")).trees("spry.term") == [
        term(
            "shop/b",
            try_restart(
                "shop",
                teardown("shop", wait("shop/c")),
                startup("shop", start("shop/b#2"), start("shop/c#2"), replaces="shop#1"),
                strategy="rest_for_one",
            ),
            raised="ValueError: boom",
        )
    ]


def test_a_failed_replay_tears_down_what_it_started_and_tries_again() -> None:
    second = lives(crash(), (BEFORE_STARTED, OSError("busy")))
    children = Child("a", idle), Child("b", second)
    tree = shop(*children, strategy="one_for_all", breaker=AlwaysRestart())
    assert tell(tree).trees("spry.term") == [
        term(
            "shop/b",
            try_restart(
                "shop",
                teardown("shop", wait("shop/a")),
                startup(
                    "shop",
                    start("shop/a#2"),
                    start("shop/b#2", raised="OSError: busy"),
                    replaces="shop#1",
                    failed="spry_py.ChildFailure",
                ),
                teardown("shop", wait("shop/a#2", lifetime=0.0)),
                strategy="one_for_all",
                failed="spry_py.ChildFailure",
            ),
            try_restart(
                "shop",
                startup("shop", start("shop/a#3"), start("shop/b#3"), replaces="shop#1"),
                strategy="one_for_all",
                attempt=2,
            ),
            raised="ValueError: boom",
        )
    ]


# Ends that are not restarted


@pytest.mark.parametrize(
    ("restart", "run", "reason"),
    [
        ("temporary", (1.0, ValueError("boom")), "failed"),
        ("temporary", (1.0, None), "normal"),
        ("transient", (1.0, None), "normal"),
    ],
)
def test_an_end_that_asks_for_no_restart(restart: Any, run: Run, reason: str) -> None:
    spans = tell(shop(Child("a", lives(run), restart=restart), Child("b", idle)))
    raised = "ValueError: boom" if reason == "failed" else None
    assert spans.trees("spry.term") == [
        term("shop/a", reason=reason, wanted=False, restart=restart, raised=raised)
    ]


def test_an_unrecoverable_failure_escalates_without_an_attempt() -> None:
    error = Unrecoverable("no disk")
    tree = shop(Child("a", lives((1.0, error))), Child("b", idle))
    assert fails(tree, UnrecoverableFailure).trees("spry.term") == [
        term("shop/a", teardown("shop", wait("shop/b")), wanted=False, raised=told(error))
    ]


def test_a_discarded_failure_ends_its_child_alone() -> None:
    error = Unrecoverable("no disk")
    child = Child("a", lives((1.0, error)), on_unrecoverable="discard")
    assert tell(shop(child, Child("b", idle))).trees("spry.term") == [
        term("shop/a", wanted=False, raised=told(error))
    ]


# Escalation


def escalating() -> tuple[SystemSupervisor, list[BaseException]]:
    """top > mid > low > leaf: the leaf crashes, two levels refuse, the top restarts `mid`."""
    seen: list[BaseException] = []

    async def remember(report: Any) -> None:
        seen.append(report.exception)

    leaf = Child("leaf", lives(crash()))
    low = supervisor(leaf, Child("x", idle), breaker=NeverRestart())
    mid = supervisor(
        Child("y", idle), Child("low", low, on_termination=remember), breaker=NeverRestart
    )
    top = Child("z", idle), Child("mid", mid, on_termination=remember)
    return supervisor(*top, name="top"), seen


def escalated(errors: list[BaseException]) -> Seen:
    low, mid = map(told, errors)
    return term(
        "top/mid/low/leaf",
        try_restart("top/mid/low", allowed=False),
        teardown("top/mid/low", wait("top/mid/low/x")),
        term(
            "top/mid/low",
            try_restart("top/mid", allowed=False),
            teardown("top/mid", wait("top/mid/y")),
            term("top/mid", cured(), kind="supervisor", raised=mid),
            kind="supervisor",
            raised=low,
        ),
        raised="ValueError: boom",
    )


def cured() -> Seen:
    low = startup("top/mid/low", start("top/mid/low/leaf"), start("top/mid/low/x"))
    mid = startup(
        "top/mid#2",
        start("top/mid/y", system=2),
        start("top/mid/low", low, system=2, kind="supervisor"),
        replaces="top/mid#1",
    )
    return try_restart("top", start("top/mid#2", mid, kind="supervisor"))


def test_an_escalation_over_two_levels_is_one_trace() -> None:
    tree, errors = escalating()
    spans = tell(tree)
    assert [type(error) for error in errors] == [TooManyRestarts, TooManyRestarts]
    assert spans.trees("spry.term") == [escalated(errors)]


def test_an_attempt_that_fails_inside_a_subsystem_stays_in_the_trace() -> None:
    flaky = lives(crash(), (BEFORE_STARTED, OSError("busy")))
    inner = supervisor(Child("x", idle), Child("y", flaky), breaker=NeverRestart())
    (seen,) = tell(shop(Child("s", inner), breaker=AlwaysRestart())).trees("spry.term")
    failed, cured = seen.children[-1].children
    first = startup(
        "shop/s#2",
        start("shop/s/x", system=2),
        start("shop/s/y", system=2, raised="OSError: busy"),
        replaces="shop/s#1",
        failed="spry_py.ChildFailure",
    )
    below = teardown("shop/s#2", wait("shop/s/x", system=2, lifetime=0.0))
    text = "spry_py.ChildFailure: child 'shop/s/y' failed to start: OSError: busy"
    attempt = start("shop/s#2", first, below, kind="supervisor", raised=text)
    assert failed == try_restart("shop", attempt, failed="spry_py.ChildFailure")
    second = startup(
        "shop/s#3", start("shop/s/x", system=3), start("shop/s/y", system=3), replaces="shop/s#2"
    )
    again = start("shop/s#3", second, kind="supervisor")
    assert cured == try_restart("shop", again, attempt=2)


def test_the_last_start_belongs_to_the_trace_of_the_leaf() -> None:
    tree, _ = escalating()
    spans = tell(tree)
    first, last = spans.named("spry.term")[0], spans.named("spry.child.start")[-1]
    assert trace_of(first) == trace_of(last)


def test_a_worker_in_the_place_of_a_supervisor_has_incidents_of_its_own() -> None:
    inner = supervisor(Child("leaf", lives(crash())), breaker=NeverRestart())
    parts = [inner, worker := lives(crash(2.0))]

    async def system(scope: Scope) -> None:
        await scope.start(Child("part", parts.pop(0) if parts else worker))

    tree = SystemSupervisor(system, name="top", strategy="one_for_all")
    first, second = tell(tree).trees("spry.term")
    assert first.attributes["spry.child.path"] == "top/part/leaf"
    assert first.children[-1].name == "spry.term"
    assert (second.name, second.attributes["spry.child.path"]) == ("spry.term", "top/part")
