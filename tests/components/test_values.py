"""What may be said about a component, and what may be asked of it."""

from __future__ import annotations

import math
from typing import Any

import pytest
import tenacity
import trio

from spry_py import (
    Child,
    DynamicSupervisor,
    NeverRestart,
    SystemHandle,
    SystemSupervisor,
    TerminationReport,
    open_system,
)
from spry_py.components import Component, component
from stories import Record, story
from things import (
    Plain,
    Thing,
    Things,
    boom,
    fail,
    finish,
    stay,
)


@story
async def test_what_makes_the_object_fails_as_a_start() -> None:
    def broken() -> Thing:
        raise boom(1)

    async with open_system(DynamicSupervisor()) as pool:
        makers: list[tuple[Any, str]] = [
            (broken, "number 1"),
            (object, "object must have an async method run(self)"),
        ]
        for make, said in makers:
            with pytest.raises(Exception, match=said.replace("(", r"\(").replace(")", r"\)")):
                await pool.start_child(Child("thing", component(make)))
        assert pool.which_children() == []


def test_bad_values_are_refused_where_they_are_written() -> None:
    class NoRun:
        pass

    class SyncRun:
        def run(self) -> None: ...

    class SyncCleanup:
        async def run(self) -> None: ...
        def cleanup(self) -> None: ...

    refused: list[tuple[str, type[Exception], Any, dict[str, Any]]] = [
        ("NoRun must have an async method run", TypeError, NoRun, {}),
        ("SyncRun.run must be an async function", TypeError, SyncRun, {}),
        ("SyncCleanup.cleanup must be an async function", TypeError, SyncCleanup, {}),
        ("make must be a class, or a function", TypeError, 7, {}),
        ("make must not be None", TypeError, None, {}),
        ("breaker must be a breaker factory", TypeError, Thing, {"breaker": 7}),
        ("shutdown must be 0 or more seconds", ValueError, Thing, {"shutdown": -1}),
        ("restart must be one of", ValueError, Thing, {"restart": "always"}),
        ("on_unrecoverable must be one of", ValueError, Thing, {"on_unrecoverable": "no"}),
        ("significant must be False", ValueError, Thing, {"significant": True}),
        ("heartbeat must be more than 0", ValueError, Thing, {"heartbeat": 0}),
    ]
    for said, kind, make, options in refused:
        with pytest.raises(kind, match=said):
            Child("thing", component(make), **options)
    with pytest.raises(ValueError, match="key must be non-empty and without '/'"):
        Child("a/b", component(Plain, Record()))
    with pytest.raises(ValueError, match="cleanup_timeout must be 0 or"):
        component(Plain, Record(), cleanup_timeout=-1)
    with pytest.raises(TypeError, match="cleanup_timeout must be a number"):
        component(Plain, Record(), cleanup_timeout=None)  # type: ignore[arg-type]


def test_equal_if_all_is_equal() -> None:
    record = Record()
    same = Child("a", component(Plain, record), recoverable=bool, shutdown=3)
    assert same == Child("a", component(Plain, record), recoverable=bool, shutdown=3)
    assert hash(same) == hash(Child("a", component(Plain, record), recoverable=bool, shutdown=3))
    for other in [
        Child("a", component(Plain, record), recoverable=bool),
        Child("a", component(Plain, record), recoverable=int, shutdown=3),
        Child("a", component(Plain, Record()), recoverable=bool, shutdown=3),
        Child("b", component(Plain, record), recoverable=bool, shutdown=3),
        Child("a", component(Plain, record, cleanup_timeout=1), recoverable=bool, shutdown=3),
    ]:
        assert same != other


def test_the_child_has_its_options_as_any_other() -> None:
    start = component(Plain, Record())
    child = Child("a", start, restart="transient", run_timeout=60)
    assert (child.kind, child.shutdown, child.restart, child.run_timeout) == (
        "supervisor",
        5.0,
        "transient",
        60,
    )
    other = child.replace(key="b", shutdown=9)
    assert (other.start, other.shutdown, other.run_timeout) == (start, 9, 60)
    assert repr(start).startswith("component(Plain, ")


@pytest.mark.parametrize("way", ["open_system", "nursery.start", "defaults"])
@story
async def test_it_runs_wherever_a_supervisor_does(way: str) -> None:
    record = Record()
    start = component(Plain, record)
    if way == "open_system":
        async with open_system(start) as opened:
            assert (opened.path, Component.of(opened).status.status) == ("Plain", "running")
    elif way == "nursery.start":
        async with trio.open_nursery() as nursery:
            handle = await nursery.start(start)
            assert Component.of(handle).path == "Plain"
            await handle.stop()
    else:
        # how it is stopped is said where it is declared, as for any supervisor
        children = [Child("a", start, run_timeout=math.inf)]
        async with open_system(children, defaults={"run_timeout": 0.1}) as tree:
            await trio.sleep(0.5)
            assert tree.find("a/run").status == "running"
    assert record.order == "runs"


@story
async def test_on_termination_hears_of_the_whole_component() -> None:
    heard: list[tuple[str, bool]] = []

    async def hear(report: TerminationReport) -> None:
        heard.append((report.path, report.failed))

    things = Things()
    make = things.make(fail(boom(1)), finish(1))
    thing = Child("thing", component(make), restart="transient", on_termination=hear)
    async with open_system([thing], name="top") as tree:
        await tree.child("thing").wait()
    assert heard == [("top/thing", False)]


@story
async def test_its_first_start_is_tried_as_often_as_its_child_says() -> None:
    things = Things()
    tries = iter([boom(1), None])

    async def start(_: Thing) -> object:
        error = next(tries)
        if error is not None:
            raise error
        return "up"

    make = things.make(stay, start=start)
    thing = Child("thing", component(make), start_attempts=3, backoff=tenacity.wait_fixed(2))
    async with open_system([thing]) as tree:
        assert trio.current_time() == 2
        assert Component.of(tree.child("thing").value).value == "up"


@story
async def test_a_replay_leaves_one_alone_that_is_said_in_the_same_words() -> None:
    things = Things()
    make = things.make(stay)

    async def system(scope: Any) -> None:
        await scope.start(Child("thing", component(make)))

    async with open_system(system) as tree:
        await tree.replay()
        value = tree.child("thing").value
        assert isinstance(value, SystemHandle)
        await value.replay()
    assert things.record.order == "+thing1.1 -thing1.1 cleanup 1"


@story
async def test_only_a_component_that_runs_is_one() -> None:
    things = Things()
    gone = Child("thing", component(things.make(finish(1))), restart="transient")
    below = SystemSupervisor([Child("object", trio.sleep_forever)])
    async with open_system([gone, Child("below", below)], breaker=NeverRestart) as tree:
        former = tree.child("thing").value
        await tree.child("thing").wait()
        for handle in (former, tree.child("below").value, tree):
            assert isinstance(handle, SystemHandle)
            with pytest.raises(TypeError, match="is no component, or it is not running"):
                Component.of(handle)
