"""Ends of single children and what is kept of them, after supervisor_SUITE, by number."""

from __future__ import annotations

import gc
import logging
import weakref

import pytest
import trio

from spry_py import Child, RestartType, Scope, Strategy, SystemSupervisor, open_system
from stories import story
from workers import (
    ORDERS,
    STRATEGIES,
    Crash,
    Crew,
    Listing,
    Parcel,
    counts,
    die,
    listing,
    subsystem,
    supervise,
)

Counts = tuple[int, int, int, int]


async def lone(restart: RestartType, *orders: str) -> tuple[list[str], Listing, Counts]:
    """What becomes of the only child of a system: the facts, what is listed, the counts."""
    crew = Crew()
    children = [crew.worker("child1", restart=restart)]
    facts: list[str] = []
    async with open_system(supervise(children, "one_for_one")) as handle:
        for order in orders:
            facts += await crew.tell("child1", ORDERS[order])
        return facts, listing(handle), counts(handle)


@story
async def test_a45_permanent_normal() -> None:
    assert await lone("permanent", "stop") == (
        ["child1 start", "child1 returned", "child1 start #2"],
        [("child1", "running", 2)],
        (1, 1, 0, 1),
    )


@story
async def test_a46_transient_normal() -> None:
    assert await lone("transient", "stop") == (
        ["child1 start", "child1 returned"],
        [("child1", "done", 1)],
        (1, 0, 0, 1),
    )


@story
async def test_a47_temporary_normal() -> None:
    assert await lone("temporary", "stop") == (
        ["child1 start", "child1 returned"],
        [],
        (0, 0, 0, 0),
    )


@story
async def test_a48_permanent_shutdown() -> None:
    assert await lone("permanent", "stop", "stop") == (
        [
            "child1 start",
            "child1 returned",
            "child1 start #2",
            "child1 returned",
            "child1 start #3",
        ],
        [("child1", "running", 3)],
        (1, 1, 0, 1),
    )


@story
async def test_a52_permanent_abnormal() -> None:
    assert await lone("permanent", "die") == (
        ["child1 start", "child1 raised Crash", "child1 start #2"],
        [("child1", "running", 2)],
        (1, 1, 0, 1),
    )


@story
async def test_a53_transient_abnormal() -> None:
    assert await lone("transient", "die") == (
        ["child1 start", "child1 raised Crash", "child1 start #2"],
        [("child1", "running", 2)],
        (1, 1, 0, 1),
    )


@story
async def test_a54_temporary_abnormal() -> None:
    assert await lone("temporary", "die") == (
        ["child1 start", "child1 raised Crash"],
        [],
        (0, 0, 0, 0),
    )


@pytest.mark.parametrize("strategy", STRATEGIES)
@story
async def test_a57_nonsignificant_temporary(strategy: Strategy) -> None:
    """For declared children under `never`: nothing that such a child does ends its supervisor."""
    crew = Crew()
    below = SystemSupervisor([crew.worker("leaf")])
    children = [
        crew.worker("child1"),
        crew.worker("stops", restart="temporary"),
        crew.worker("dies", restart="temporary"),
        Child("aborted", below, restart="temporary"),
    ]
    async with open_system(supervise(children, strategy, restarts=0)) as handle:
        crew.news()
        assert await crew.tell("stops", None) == ["stops returned"]
        assert await crew.tell("dies", die) == ["dies raised Crash"]
        subsystem(handle, "aborted").abort()
        await trio.sleep(1)
        assert crew.news() == ["leaf aborted"]
        assert listing(handle) == [("child1", "running", 1)]


@pytest.mark.parametrize("strategy", STRATEGIES)
@story
async def test_a58_nonsignificant_transient(strategy: Strategy) -> None:
    """For declared children under `never`: what ends normally by itself is done, no more."""
    crew = Crew()
    children = [crew.worker("child1"), crew.worker("child2", restart="transient")]
    async with open_system(supervise(children, strategy, restarts=1)) as handle:
        crew.news()
        assert (await crew.tell("child2", die))[-1] == "child2 start #2"
        crew.news()
        assert await crew.tell("child2", None) == ["child2 returned"]
        await trio.sleep(1)
        assert [(info.key, info.status) for info in handle.which_children()] == [
            ("child1", "running"),
            ("child2", "done"),
        ]


@pytest.mark.parametrize("order", ["stop", "die"])
@pytest.mark.parametrize("strategy", STRATEGIES)
@story
async def test_a39_a75_an_ended_temporary_child_leaves_nothing_behind(
    strategy: Strategy, order: str, caplog: pytest.LogCaptureFixture
) -> None:
    # A log record that pytest keeps would hold the traceback of the crash, and all its frames.
    caplog.set_level(logging.CRITICAL, "spry_py")
    crew = Crew()
    parcels: list[weakref.ref[Parcel]] = []

    async def system(scope: Scope) -> None:
        parcel = Parcel()
        parcels.append(weakref.ref(parcel))
        await scope.start(crew.worker("child1", given=[parcel], restart="temporary"))

    async with open_system(system, strategy=strategy):
        crew.news()
        gc.collect()
        assert parcels[0]() is not None
        await crew.tell("child1", ORDERS[order])
        gc.collect()
        assert parcels[0]() is None


@pytest.mark.parametrize("restart", ["permanent", "transient"])
@story
async def test_a75_a_child_that_is_restarted_keeps_its_arguments(restart: RestartType) -> None:
    crew = Crew()
    parcel = Parcel()
    children = [crew.worker("child1", given=[parcel], restart=restart)]
    async with open_system(supervise(children, "one_for_one")):
        assert crew.news() == [f"child1 start({parcel})"]
        assert await crew.tell("child1", die) == [
            "child1 raised Crash",
            f"child1 start({parcel}) #2",
        ]


def story_of_a_crash(records: list[logging.LogRecord]) -> list[tuple[str, str, bool]]:
    """Level, logger, and whether the record carries an exception."""
    return [(record.levelname, record.name, bool(record.exc_info)) for record in records]


def test_a44_a89_a90_log_records(caplog: pytest.LogCaptureFixture) -> None:
    """One record per fact: a single line of bounded length, however long the reason."""

    @story
    async def long_winded() -> None:
        crew = Crew()
        async with open_system(supervise([crew.worker("child1")], "one_for_one")):
            await crew.tell("child1", Crash("a long reason\n" * 1000))

    with caplog.at_level(logging.INFO, "spry_py"):
        long_winded()
    records = [record for record in caplog.records if record.name.startswith("spry_py.")]
    assert story_of_a_crash(records) == [
        ("INFO", "spry_py.system.child1", False),
        ("INFO", "spry_py.system", False),
        ("ERROR", "spry_py.system.child1", True),
        ("WARNING", "spry_py.system.child1", False),
        ("INFO", "spry_py.system.child1", False),
        ("INFO", "spry_py.system.child1", False),
        ("INFO", "spry_py.system", False),
    ]
    for record in records:
        message = record.getMessage()
        assert "\n" not in message
        assert len(message) < 400
        assert record.name.removeprefix("spry_py.").replace(".", "/") in message
