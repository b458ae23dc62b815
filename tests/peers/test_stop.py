"""Stopping, after supervisor_SUITE: each test bears its scenario's number."""

from __future__ import annotations

import math

import pytest
import trio

from spry_py import (
    Aborted,
    Child,
    Failed,
    Normal,
    RestartType,
    SystemSupervisor,
    open_system,
)
from stories import story
from workers import RESTARTS, Crew, causes, counts, ending, listing, supervise


@story
async def test_a16_sup_stop_infinity() -> None:
    crew = Crew()
    below = SystemSupervisor([crew.slow("leaf", 1000.0, shutdown=math.inf)])
    children = [
        Child("child1", below, shutdown=math.inf),
        crew.slow("child2", 500.0, shutdown=math.inf),
    ]
    async with open_system(supervise(children, "one_for_one")) as handle:
        crew.news()
        begin = trio.current_time()
    assert crew.news() == ["child2 returned", "leaf returned"]
    assert [
        ending(handle.find(path).last_report) for path in ("child2", "child1/leaf", "child1")
    ] == [
        ("Normal", "settling", begin + 500),
        ("Normal", "settling", begin + 1500),
        ("Normal", "settling", begin + 1500),
    ]
    report = await handle.wait()
    assert (report.reason, report.burden) == (Normal(None), "settling")


@story
async def test_a17_sup_stop_timeout() -> None:
    crew = Crew()
    children = [crew.worker("child1", shutdown=1.0), crew.deaf("child2", shutdown=1.0)]
    async with open_system(supervise(children, "one_for_one")) as handle:
        crew.news()
        begin = trio.current_time()
    assert crew.news() == ["child2 aborted", "child1 returned"]
    assert [ending(handle.child(key).last_report) for key in ("child2", "child1")] == [
        ("Aborted", "aborted", begin + 1),
        ("Normal", "settling", begin + 1),
    ]
    assert (await handle.wait()).reason == Normal(None)


@story
async def test_a19_sup_stop_brutal_kill() -> None:
    crew = Crew()
    children = [crew.worker("child1", shutdown=1.0), crew.worker("child2", shutdown=0)]
    async with open_system(supervise(children, "one_for_one")) as handle:
        crew.news()
        begin = trio.current_time()
    assert crew.news() == ["child2 aborted", "child1 returned"]
    assert [ending(handle.child(key).last_report) for key in ("child2", "child1")] == [
        ("Aborted", "aborted", begin),
        ("Normal", "settling", begin),
    ]


@pytest.mark.parametrize("restart", RESTARTS)
@story
async def test_a22_sup_stop_non_shutdown_exit(restart: RestartType) -> None:
    """For declared children; every one ends with a reason of its own, none of them a crash."""
    crew = Crew()
    children = [
        crew.worker("settles", restart=restart),
        crew.sulky("sulks", restart=restart),
        crew.heedless("heedless", restart=restart),
        crew.stoic("swallows", restart=restart),
        crew.bitter("protests", restart=restart),
        crew.deaf("deaf", restart=restart, shutdown=2.0),
    ]
    async with open_system(supervise(children, "one_for_one")) as handle:
        crew.news()
        handles = [handle.child(child.key) for child in children]
        begin = trio.current_time()
    assert crew.news() == [
        "deaf aborted",
        "protests raised Crash",
        "swallows returned",
        "heedless aborted",
        "sulks raised Crash",
        "settles returned",
    ]
    assert [ending(child.last_report) for child in handles] == [
        ("Normal", "settling", begin + 2),
        ("Failed", "settling", begin + 2),
        ("Aborted", "aborted", begin + 2),
        ("Normal", "aborted", begin + 2),
        ("Failed", "aborted", begin + 2),
        ("Aborted", "aborted", begin + 2),
    ]
    report = await handle.wait()
    assert (report.reason, report.burden) == (Normal(None), "settling")


@story
async def test_a16_stop_by_the_handle_is_the_same_as_leaving() -> None:
    crew = Crew()
    children = [crew.worker("child1"), crew.worker("child2")]
    async with open_system(supervise(children, "one_for_one")) as handle:
        crew.news()
        await handle.stop()
        assert crew.news() == ["child2 returned", "child1 returned"]
        assert counts(handle) == (2, 0, 0, 2)
        assert listing(handle) == [("child1", "stopped", 1), ("child2", "stopped", 1)]
        report = await handle.wait()
        assert (report.path, report.reason, report.burden) == ("system", Normal(None), "settling")
    assert crew.news() == []


@story
async def test_a20_abort_ends_every_child_at_once() -> None:
    """For declared children: what brutal_kill is to all of them, abort is to the tree."""
    crew = Crew()
    children = [crew.worker(f"child{number}", shutdown=math.inf) for number in range(1, 11)]
    async with open_system(supervise(children, "one_for_one")) as handle:
        crew.news()
        begin = trio.current_time()
        handle.abort()
        report = await handle.wait()
    assert sorted(crew.news()) == sorted(f"child{number} aborted" for number in range(1, 11))
    assert (report.reason, report.burden, report.ended_at) == (Aborted(), "aborted", begin)
    assert {ending(handle.child(child.key).last_report) for child in children} == {
        ("Aborted", "aborted", begin)
    }


@story
async def test_a17_an_expired_subtree_is_aborted_whole() -> None:
    crew = Crew()
    below = SystemSupervisor([crew.worker("leaf1"), crew.slow("leaf2", 60.0, shutdown=math.inf)])
    children = [crew.worker("child1"), Child("child2", below, shutdown=1.0)]
    async with open_system(supervise(children, "one_for_one")) as handle:
        crew.news()
        begin = trio.current_time()
    assert sorted(crew.news()[:2]) == ["leaf1 aborted", "leaf2 aborted"]
    assert ending(handle.child("child1").last_report) == ("Normal", "settling", begin + 1)
    assert {
        ending(handle.find(path).last_report) for path in ("child2", "child2/leaf1", "child2/leaf2")
    } == {("Aborted", "aborted", begin + 1)}


@story
async def test_a22_a_child_that_raises_while_stopped_is_recorded() -> None:
    crew = Crew()
    async with open_system(supervise([crew.sulky("child1")], "one_for_one")) as handle:
        assert crew.news() == ["child1 start"]
    assert crew.news() == ["child1 raised Crash"]
    report = handle.child("child1").last_report
    assert report is not None
    assert isinstance(report.reason, Failed)
    assert [str(error) for error in causes(report.reason.exception)] == ["child1#1"]
