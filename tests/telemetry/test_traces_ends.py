"""How stops, interruptions and exits are traced, and what reaches the children."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
from opentelemetry import trace

from spans import (
    Recorder,
    Seen,
    play,
    recording,
    start,
    startup,
    teardown,
    term,
    trace_of,
    try_restart,
    wait,
)
from spry_py import Child, SystemSupervisor, cancel_on_settle, current_context, open_system
from traced import BEFORE_STARTED, crash, forever, idle, lives, shop, supervisor, tell, told


async def settles() -> None:
    with cancel_on_settle():
        await trio.sleep_forever()


def asked_then(after: Callable[[], Awaitable[Any]]) -> Callable[[], Awaitable[None]]:
    """A child that listens, and answers being asked in its own way."""

    async def child() -> None:
        await current_context().settled()
        await after()

    return child


async def raises() -> None:
    raise OSError("disk full")


def stops(tree: SystemSupervisor, until: float = 1.0) -> tuple[Seen, ...]:
    (only,) = tell(tree, until).trees("spry.teardown")
    assert only[:5] == teardown("shop", late=only.status == "error")[:5]
    return only.children


# What becomes of a child that is asked to end


def test_a_child_that_settles() -> None:
    assert stops(shop(Child("a", settles))) == (wait("shop/a", reason="normal", burden="settling"),)


def test_a_child_that_fails_while_settling_is_recorded_and_nothing_else() -> None:
    assert stops(shop(Child("a", asked_then(raises)))) == (
        wait("shop/a", reason="failed", burden="settling", raised="OSError: disk full"),
    )


def test_a_child_that_outlives_its_time_makes_the_teardown_an_error() -> None:
    child = Child("a", asked_then(trio.sleep_forever), shutdown=2.5)
    spans = tell(shop(child), until=1.0)
    assert spans.trees("spry.teardown") == [
        teardown("shop", wait("shop/a", lifetime=3.5), late=True)
    ]


def test_a_child_that_fails_after_its_abort() -> None:
    async def bad_clean_up() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise OSError("disk full")

    assert stops(shop(Child("a", bad_clean_up))) == (
        wait("shop/a", reason="failed", burden="aborted", raised="OSError: disk full"),
    )


def test_a_stuck_child_is_told_on_the_span_that_waits_for_it() -> None:
    async def shields_itself() -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(5)

    (waited,) = stops(shop(Child("a", shields_itself)))
    assert waited[:4] == wait("shop/a", lifetime=6.0)[:4]
    assert len(waited.events) == 2
    for event in waited.events:
        assert "shields_itself" in "\n".join(event)


def test_the_clean_up_of_a_child_that_ended_is_not_waited_for_again() -> None:
    child = Child("a", lives((1.0, None)), restart="transient")
    assert stops(shop(child, Child("b", idle)), until=2.0) == (wait("shop/b", lifetime=2.0),)


@pytest.mark.parametrize(
    ("options", "name"),
    [({"run_timeout": 1.0}, "RunTimeout"), ({"heartbeat": 1.0}, "Unresponsive")],
)
def test_an_end_by_a_limit_is_a_failure_of_that_name(options: dict[str, Any], name: str) -> None:
    async def beats_once() -> None:
        current_context().heartbeat()
        await trio.sleep_forever()

    child = Child("a", beats_once, restart="temporary", **options)
    (seen,) = tell(shop(child, Child("b", idle))).trees("spry.term")
    assert seen.attributes["error.type"].endswith(name)
    assert seen.events[0][1] == seen.attributes["error.type"]
    assert (seen.status, seen.attributes["spry.child.lifetime"]) == ("error", 1.0)


@pytest.mark.parametrize(
    ("group", "expected"),
    [
        (ExceptionGroup("one", [ValueError("x")]), "ValueError"),
        (ExceptionGroup("two", [ValueError("x"), OSError("y")]), "ExceptionGroup"),
    ],
)
def test_one_leaf_of_a_group_gives_its_own_type(group: Exception, expected: str) -> None:
    child = Child("a", lives((1.0, group)), restart="temporary")
    (seen,) = tell(shop(child, Child("b", idle))).trees("spry.term")
    assert seen.attributes["error.type"] == expected
    assert [event[1] for event in seen.events] == [expected]


def test_a_subsystem_that_outlives_its_time_is_recorded_aborted_with_all_it_had() -> None:
    inner = supervisor(Child("x", idle), Child("deaf", asked_then(trio.sleep_forever)))
    spans = tell(shop(Child("inner", inner, shutdown=2.0)), until=1.0)
    below = teardown(
        "shop/inner",
        wait("shop/inner/deaf", lifetime=3.0),
        wait("shop/inner/x", lifetime=3.0),
    )
    waited = wait("shop/inner", below, lifetime=3.0, kind="supervisor")
    assert spans.trees("spry.teardown") == [teardown("shop", waited, late=True)]
    assert spans.named("spry.term") == []


@pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
def test_a_sibling_that_fails_while_it_is_swept_along(strategy: Any) -> None:
    first = [raises, trio.sleep_forever]

    async def fails_once() -> None:
        try:
            await trio.sleep_forever()
        finally:
            await first.pop(0)()

    children = Child("a", lives(crash())), Child("b", fails_once)
    (seen,) = tell(shop(*children, strategy=strategy)).trees("spry.term")
    attempt = seen.children[0]
    swept = wait("shop/b", reason="failed", burden="aborted", raised="OSError: disk full")
    again = startup("shop", start("shop/a#2"), start("shop/b#2"), replaces="shop#1")
    assert attempt == try_restart("shop", teardown("shop", swept), again, strategy=strategy)


def test_ends_seen_together_are_one_restart_told_by_the_trace_of_one() -> None:
    children = Child("a", lives(crash())), Child("b", lives(crash()))
    terms = tell(shop(*children, strategy="one_for_all")).trees("spry.term")
    again = startup("shop", start("shop/a#2"), start("shop/b#2"), replaces="shop#1")
    cure = try_restart("shop", again, strategy="one_for_all")
    terms.sort(key=lambda seen: str(seen.attributes["spry.child.path"]))
    assert [seen._replace(children=()) for seen in terms] == [
        term("shop/a", raised="ValueError: boom"),
        term("shop/b", raised="ValueError: boom"),
    ]
    assert [below for seen in terms for below in seen.children] == [cure]


def test_what_an_error_says() -> None:
    def spoken(tree: SystemSupervisor) -> list[tuple[str, str | None]]:
        said = [(span.name, span.status.description) for span in tell(tree, 1.5).begun]
        return [(name, text) for name, text in said if text]

    deaf = Child("deaf", asked_then(trio.sleep_forever), shutdown=2.0)
    assert spoken(shop(deaf)) == [
        ("spry.teardown", "'shop/deaf' did not finish within its 2 s: aborting it"),
    ]
    busy = Child("a", lives(crash(), (BEFORE_STARTED, OSError("busy"))))
    assert spoken(shop(busy)) == [
        ("spry.term", "ValueError: boom"),
        ("spry.try_restart", "OSError: busy"),
        ("spry.child.start", "OSError: busy"),
    ]


def test_a_failed_attempt_has_no_termination_of_its_own() -> None:
    child = Child("a", lives(crash(), (BEFORE_STARTED, OSError("busy"))))
    spans = tell(shop(child))
    assert len(spans.named("spry.term")) == 1
    recorded = [(span.name, len(span.events)) for span in spans.begun if span.events]
    assert recorded == [("spry.term", 1), ("spry.child.start", 1)]


def test_boots_of_two_trees_are_two_traces() -> None:
    async def story() -> None:
        for _ in range(2):
            async with open_system(shop(Child("a", idle))):
                await trio.sleep(1)

    with recording() as spans:
        play(story)
    assert spans.trees("spry.startup") == [startup("shop", start("shop/a"))] * 2
    assert len({trace_of(span) for span in spans.begun}) == 4


# A root that is stopped from inside, from outside, and too early


def test_stop_is_traced_below_its_caller() -> None:
    async def story() -> None:
        async with open_system(shop(Child("a", idle))) as tree:
            await trio.sleep(1)
            with trace.get_tracer("host").start_as_current_span("closing time"):
                await tree.stop()

    with recording() as spans:
        play(story)
    (host,) = spans.trees("closing time")
    assert host.children == (teardown("shop", wait("shop/a")),)
    assert len(spans.trees()) == 2


def test_abort_of_the_root() -> None:
    async def story() -> None:
        async with open_system(shop(Child("a", settles))) as tree:
            await trio.sleep(1)
            tree.abort()
            await tree.wait()

    with recording() as spans:
        play(story)
    assert [tree.children for tree in spans.trees("spry.teardown")] == [(wait("shop/a"),)]
    assert spans.named("spry.term") == []


def test_a_nested_system_that_is_aborted_by_its_own_handle() -> None:
    async def story() -> None:
        async with open_system(shop(Child("inner", supervisor(Child("a", settles))))) as tree:
            await trio.sleep(1)
            tree.child("inner").value.abort()
            await trio.sleep(1)

    with recording() as spans:
        play(story)
    again = startup("shop/inner#2", start("shop/inner/a", system=2), replaces="shop/inner#1")
    cure = try_restart("shop", start("shop/inner#2", again, kind="supervisor"))
    assert spans.trees()[1:3] == [
        teardown("shop/inner", wait("shop/inner/a")),
        term("shop/inner", cure, reason="aborted", kind="supervisor"),
    ]


def test_a_root_cancelled_from_outside_stops_in_order() -> None:
    inner = supervisor(Child("b", settles), Child("c", settles))

    async def story() -> None:
        with trio.move_on_after(1):
            await forever(shop(Child("a", settles), Child("inner", inner)))

    with recording() as spans:
        play(story)
    settled: dict[str, Any] = {"reason": "normal", "burden": "settling"}
    below = teardown("shop/inner", wait("shop/inner/c", **settled), wait("shop/inner/b", **settled))
    assert spans.trees("spry.teardown") == [
        teardown(
            "shop",
            wait("shop/inner", below, kind="supervisor", **settled),
            wait("shop/a", **settled),
        )
    ]
    assert spans.named("spry.term") == []


def test_an_interrupted_start_is_no_error() -> None:
    async def slow(*, task_status: trio.TaskStatus[None]) -> None:
        await trio.sleep_forever()

    async def story() -> None:
        with trio.move_on_after(1):
            await forever(shop(Child("a", idle), Child("slow", slow), Child("never", idle)))

    with recording() as spans:
        play(story)
    assert {span.status.status_code.name for span in spans.begun} == {"UNSET"}
    assert [event for span in spans.begun for event in span.events] == []
    (boot,) = spans.trees("spry.startup")
    assert boot.children[:2] == (start("shop/a"), start("shop/slow"))
    assert "shop/never" not in str(spans.trees())


def test_a_stop_during_a_backoff_ends_the_attempt_without_an_error() -> None:
    child = Child("a", lives(crash()), backoff=lambda _: 1000.0)
    (seen,) = tell(shop(child, Child("b", idle)), until=5.0).trees("spry.term")
    assert seen[:5] == term("shop/a", raised="ValueError: boom")[:5]
    assert [(below.name, below.status) for below in seen.children] == [
        ("spry.try_restart", "unset")
    ]


@pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
@pytest.mark.parametrize(("until", "delay"), [(2.0, 0.0), (6.0, 1000.0)], ids=["sweep", "wait"])
def test_a_stop_during_a_group_restart_ends_the_incident(
    strategy: Any, until: float, delay: float
) -> None:
    late = asked_then(functools.partial(trio.sleep, 3))
    children = Child("a", lives(crash()), backoff=lambda _: delay), Child("b", late)
    (seen,) = tell(shop(*children, strategy=strategy), until).trees("spry.term")
    swept = teardown("shop", wait("shop/b", reason="normal", burden="settling", lifetime=4.0))
    attempt = try_restart("shop", swept, strategy=strategy, delay=delay)
    assert seen == term("shop/a", attempt, raised="ValueError: boom")


def test_a_boot_that_is_aborted_half_way_is_no_error() -> None:
    async def slow(*, task_status: trio.TaskStatus[None]) -> None:
        await trio.sleep_forever()

    async def story() -> None:
        inner = supervisor(Child("a", idle), Child("slow", slow))
        with trio.move_on_after(1):
            await forever(shop(Child("inner", inner, shutdown=0)))

    with recording() as spans:
        play(story)
    assert {span.status.status_code.name for span in spans.begun} == {"UNSET"}
    ended = [seen.attributes["spry.child.path"] for seen in every(spans, "wait_for_termination")]
    assert sorted(ended) == ["shop/inner", "shop/inner/a", "shop/inner/slow"]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3)])
def test_an_exit_exception_is_a_failure_that_asks_for_no_restart(error: BaseException) -> None:
    tree = shop(Child("a", settles), Child("b", lives((1.0, error))), Child("c", settles))
    with recording() as spans, pytest.raises(type(error)) as failure:
        play(lambda: forever(tree))
    assert failure.value is error
    (seen,) = spans.trees("spry.term")
    assert seen[:5] == term("shop/b", wanted=False, raised=told(error))[:5]
    ended = [seen.attributes["spry.child.path"] for seen in every(spans, "wait_for_termination")]
    assert ended == ["shop/c", "shop/a"]


@pytest.mark.parametrize("is_added", [False, True], ids=["declared", "added"])
def test_an_exit_ends_the_restart_under_way_and_nothing_begins_below_it(is_added: bool) -> None:
    async def flaky(*, task_status: trio.TaskStatus[None]) -> None:
        if current_context().incarnation == 2:
            await trio.sleep_forever()
        task_status.started()
        await trio.sleep(1)
        raise ValueError("boom")

    a, b = Child("a", lives((3.0, SystemExit(3)))), Child("b", flaky)
    tree = shop(a, *([] if is_added else [b]), strategy="rest_for_one")

    async def story() -> None:
        async with open_system(tree) as handle:
            if is_added:
                await handle.start_child(b)
            await trio.sleep_forever()

    with recording() as spans, pytest.raises(SystemExit):
        play(story)
    (attempt,) = every(spans, "try_restart")
    begun = start("shop/b#2")
    if is_added:
        assert attempt == try_restart("shop", begun, strategy="rest_for_one")
    else:
        assert attempt.children[0].children[0] == begun
    (end,) = every(spans, "wait_for_termination")
    assert end == wait("shop/b#2", lifetime=0.0)


def every(spans: Recorder, name: str) -> list[Seen]:
    return [seen for tree in spans.trees() for seen in flat(tree) if seen.name == f"spry.{name}"]


def flat(tree: Seen) -> list[Seen]:
    return [tree, *(seen for child in tree.children for seen in flat(child))]
