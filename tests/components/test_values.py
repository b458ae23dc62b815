"""What may be said about a component, and what may be asked of it."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from spry_py import (
    Child,
    DynamicSupervisor,
    NeverRestart,
    SystemHandle,
    SystemSupervisor,
    open_system,
)
from spry_py.components import Component, component
from stories import Record, story
from things import (
    Thing,
    Things,
    boom,
    finish,
    stay,
)


@story
async def test_what_makes_the_object_fails_as_a_start() -> None:
    def broken() -> Thing:
        raise boom(1)

    async with open_system(DynamicSupervisor()) as pool:
        for make, said in [
            (broken, "number 1"),
            (object, "object must have an async method run(self)"),
        ]:
            with pytest.raises(Exception, match=said.replace("(", r"\(").replace(")", r"\)")):
                await pool.start_child(component("thing", make))  # type: ignore[arg-type]
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
        ("breaker must not be None", TypeError, Thing, {"breaker": None}),
        ("breaker must be a breaker factory", TypeError, Thing, {"breaker": 7}),
        ("shutdown must be 0 or more seconds", ValueError, Thing, {"shutdown": -1}),
        ("cleanup_timeout must be 0 or", ValueError, Thing, {"cleanup_timeout": -1}),
        ("cleanup_timeout must be a number", TypeError, Thing, {"cleanup_timeout": None}),
        ("restart must be one of", ValueError, Thing, {"restart": "always"}),
        ("on_unrecoverable must be one of", ValueError, Thing, {"on_unrecoverable": "no"}),
        ("significant must be False", ValueError, Thing, {"significant": True}),
        ("heartbeat must be more than 0", ValueError, Thing, {"heartbeat": 0}),
    ]
    for said, kind, make, options in refused:
        with pytest.raises(kind, match=said):
            component("thing", make, **options)
    with pytest.raises(ValueError, match="key must be non-empty and without '/'"):
        component("a/b", Thing)


def test_equal_if_all_is_equal() -> None:
    record = Record()
    same = component("a", Thing, record, recoverable=bool, shutdown=3)
    assert same == component("a", Thing, record, recoverable=bool, shutdown=3)
    assert hash(same) == hash(component("a", Thing, record, recoverable=bool, shutdown=3))
    for other in [
        component("a", Thing, record, recoverable=bool),
        component("a", Thing, record, recoverable=int, shutdown=3),
        component("a", Thing, Record(), recoverable=bool, shutdown=3),
        component("b", Thing, record, recoverable=bool, shutdown=3),
        component("a", Thing, record, recoverable=bool, shutdown=3, cleanup_timeout=1),
    ]:
        assert same != other


@story
async def test_a_replay_leaves_one_alone_that_is_said_in_the_same_words() -> None:
    things = Things()
    make = things.make(stay)

    async def system(scope: Any) -> None:
        await scope.start(component("thing", make))

    async with open_system(system) as tree:
        await tree.replay()
        value = tree.child("thing").value
        assert isinstance(value, SystemHandle)
        await value.replay()
    assert things.record.order == "+thing1.1 -thing1.1 cleanup 1"


@story
async def test_only_a_component_that_runs_is_one() -> None:
    things = Things()
    gone = component("thing", things.make(finish(1)), restart="transient")
    below = SystemSupervisor([Child("object", trio.sleep_forever)])
    async with open_system([gone, Child("below", below)], breaker=NeverRestart) as tree:
        former = tree.child("thing").value
        await tree.child("thing").wait()
        for handle in (former, tree.child("below").value, tree):
            assert isinstance(handle, SystemHandle)
            with pytest.raises(TypeError, match="is no component, or it is not running"):
                Component.of(handle)
