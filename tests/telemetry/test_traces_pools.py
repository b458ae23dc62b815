"""Incidents among children that come and go and among partitions, over all levels."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import trio

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
from spry_py import (
    AlwaysRestart,
    Child,
    DynamicSupervisor,
    NeverRestart,
    PartitionSupervisor,
    SpryError,
    SystemHandle,
    TerminationReport,
    Unrecoverable,
    current_context,
    open_system,
)
from traced import BEFORE_STARTED, crash, idle, lives, shop, told

BOOM = "ValueError: boom"
Story = Callable[[Any], Awaitable[object]]


def incidents(tree: Any, story: Story) -> list[Seen]:
    """The traces of what went wrong."""
    return recorded(tree, story).trees("spry.term")


def recorded(tree: Any, story: Story) -> Recorder:
    async def opened() -> None:
        try:
            async with open_system(tree) as handle:
                await story(handle)
                await trio.sleep(10)
        except SpryError:
            pass

    with recording() as spans:
        play(opened)
    return spans


class Reports:
    """What an `on_termination` was told."""

    def __init__(self) -> None:
        self.raised: list[str] = []

    async def hook(self, report: TerminationReport) -> None:
        self.raised.append(told(report.exception))


def inner(handle: Any, path: str) -> SystemHandle:
    value = handle.find(path).value
    assert isinstance(value, SystemHandle)
    return value


# Children that come and go


def test_a_crash_its_failed_restart_and_the_next_one() -> None:
    async def story(pool: Any) -> None:
        refused = BEFORE_STARTED, OSError("no")
        await pool.start_child(Child("a", lives(crash(), refused), backoff=lambda _: 0.5))

    failed = try_restart(
        "pool", start("pool/a#2", raised="OSError: no"), delay=0.5, failed="OSError"
    )
    cured = try_restart("pool", start("pool/a#3"), attempt=2, delay=0.5)
    assert incidents(DynamicSupervisor(name="pool"), story) == [
        term("pool/a", failed, cured, raised=BOOM)
    ]


def test_a_root_that_gives_up_stops_all_at_the_same_time_below_the_incident() -> None:
    async def slow() -> None:
        await current_context().settled()
        await trio.sleep(2)

    async def story(pool: Any) -> None:
        await pool.start_child(Child("a", lives(crash())))
        await pool.start_child(Child("b", slow))
        await pool.start_child(Child("c", slow))

    settled: Any = {"reason": "normal", "burden": "settling", "lifetime": 3.0}
    assert incidents(DynamicSupervisor(name="pool", breaker=NeverRestart()), story) == [
        term(
            "pool/a",
            try_restart("pool", allowed=False),
            teardown("pool", wait("pool/b", **settled), wait("pool/c", **settled)),
            raised=BOOM,
        )
    ]


def test_what_cannot_be_recovered_and_what_is_discarded() -> None:
    async def story(pool: Any) -> None:
        hopeless = lives((1.0, Unrecoverable("no")))
        await pool.start_child(Child("a", hopeless, on_unrecoverable="discard"))
        await trio.sleep(1.5)
        await pool.start_child(Child("b", lives((1.0, Unrecoverable("no")))))

    raised = "spry_py.Unrecoverable: no"
    assert incidents(DynamicSupervisor(name="pool"), story) == [
        term("pool/a", wanted=False, raised=raised),
        term("pool/b", teardown("pool"), wanted=False, raised=raised),
    ]


def test_pools_within_pools_tell_one_incident_over_all_levels() -> None:
    reports = Reports()

    def pool() -> DynamicSupervisor:
        return DynamicSupervisor(breaker=NeverRestart())

    async def story(handle: Any) -> None:
        outer = inner(handle, "outer")
        await outer.start_child(Child("deep", pool(), on_termination=reports.hook))
        await outer.start_child(Child("other", idle))
        await inner(handle, "outer/deep").start_child(Child("leaf", lives(crash())))

    tree = shop(Child("outer", pool(), on_termination=reports.hook))
    told = incidents(tree, story)
    deep, outer = reports.raised
    cured = try_restart("shop", start("shop/outer#2", kind="supervisor"))
    assert told == [
        term(
            "shop/outer/deep/leaf",
            try_restart("shop/outer/deep", allowed=False),
            teardown("shop/outer/deep"),
            term(
                "shop/outer/deep",
                try_restart("shop/outer", allowed=False),
                teardown("shop/outer", wait("shop/outer/other")),
                term("shop/outer", cured, kind="supervisor", raised=outer),
                kind="supervisor",
                raised=deep,
            ),
            raised=BOOM,
        )
    ]


def test_a_pool_added_by_call_whose_own_time_is_over() -> None:
    async def story(pool: Any) -> None:
        await pool.start_child(Child("deep", DynamicSupervisor(), run_timeout=2.0))
        await inner(pool, "deep").start_child(Child("a", idle))

    spans = recorded(DynamicSupervisor(name="pool", breaker=NeverRestart()), story)
    text = "spry_py.RunTimeout: child 'pool/deep' ran longer than 2 s"
    assert spans.trees("spry.term", "spry.teardown") == [
        teardown("pool/deep", wait("pool/deep/a", lifetime=2.0)),
        term(
            "pool/deep",
            try_restart("pool", allowed=False),
            teardown("pool"),
            kind="supervisor",
            lifetime=2.0,
            raised=text,
        ),
    ]


def test_two_incidents_at_the_same_time_are_two_traces() -> None:
    async def story(pool: Any) -> None:
        for key in "ab":
            await pool.start_child(Child(key, lives(crash())))

    told = incidents(DynamicSupervisor(name="pool", breaker=AlwaysRestart), story)
    assert sorted(told, key=lambda seen: str(seen.attributes["spry.child.key"])) == [
        term(f"pool/{key}", try_restart("pool", start(f"pool/{key}#2")), raised=BOOM)
        for key in "ab"
    ]


def test_one_that_waits_for_its_turn_to_be_restarted_stays_in_its_incident() -> None:
    async def story(pool: Any) -> None:
        async with trio.open_nursery() as nursery:
            await pool.start_child(Child("a", lives(crash())))
            nursery.start_soon(
                pool.start_child, Child("b", lives((2.0, None)), restart="temporary")
            )

    assert incidents(DynamicSupervisor(name="pool", max_running=1), story) == [
        term("pool/a", try_restart("pool", start("pool/a#2")), raised=BOOM),
        term("pool/b", reason="normal", wanted=False, restart="temporary", lifetime=2.0),
    ]


# Partitions


def parts(*fates: Any, **options: Any) -> PartitionSupervisor:
    return PartitionSupervisor(
        lambda index: Child("any", fates[index]), partitions=len(fates), **options
    )


async def nothing(_: object) -> None:
    """Nobody calls."""


def test_a_partition_is_restarted_alone() -> None:
    assert incidents(parts(idle, lives(crash()), idle, name="parts"), nothing) == [
        term("parts/1", try_restart("parts", start("parts/1#2")), raised=BOOM)
    ]


def test_partitions_that_give_up_are_cured_by_the_level_above() -> None:
    reports = Reports()
    shared = parts(idle, lives(crash()), breaker=NeverRestart())
    told = incidents(shop(Child("parts", shared, on_termination=reports.hook)), nothing)
    again = startup(
        "shop/parts#2",
        start("shop/parts/0", system=2),
        start("shop/parts/1", system=2),
        replaces="shop/parts#1",
    )
    (raised,) = reports.raised
    assert told == [
        term(
            "shop/parts/1",
            try_restart("shop/parts", allowed=False),
            teardown("shop/parts", wait("shop/parts/0")),
            term(
                "shop/parts",
                try_restart("shop", start("shop/parts#2", again, kind="supervisor")),
                kind="supervisor",
                raised=raised,
            ),
            raised=BOOM,
        )
    ]


def test_partitions_whose_boot_fails() -> None:
    refusing = lives((BEFORE_STARTED, OSError("no")))
    assert recorded(parts(idle, refusing, idle, name="parts"), nothing).trees() == [
        startup(
            "parts",
            start("parts/0"),
            start("parts/1", raised="OSError: no"),
            failed="spry_py.ChildFailure",
        ),
        teardown("parts", wait("parts/0", lifetime=0.0)),
    ]


def test_a_pool_in_a_partition_in_a_system_is_one_trace() -> None:
    async def story(handle: Any) -> None:
        await inner(handle, "parts/1").start_child(Child("leaf", lives(crash())))

    pools = PartitionSupervisor(
        lambda _: Child("any", DynamicSupervisor(breaker=NeverRestart())),
        partitions=2,
        breaker=NeverRestart(),
    )
    spans = recorded(shop(Child("parts", pools)), story)
    ends = {trace_of(span) for span in spans.named("spry.term")}
    starts = [span for span in spans.named("spry.child.start") if trace_of(span) in ends]
    paths = [str((span.attributes or {})["spry.child.path"]) for span in starts]
    assert len(ends) == 1
    assert paths == ["shop/parts", "shop/parts/0", "shop/parts/1"]
