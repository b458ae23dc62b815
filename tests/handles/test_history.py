"""`history`: what has happened in a tree, as text, from the first who asked for it on."""

from __future__ import annotations

import gc
import logging
import sys
import weakref
from typing import Any, NoReturn

import pytest
import trio

from actors import STAYS, Actor, cast, no_start
from spry_py import (
    AlwaysRestart,
    Child,
    HistoryEntry,
    NeverRestart,
    SystemSupervisor,
    open_system,
)
from spry_py._handles.history import LONGEST, MOST_KEPT
from spry_py.testing import Step
from stories import Boom, Record, story, story_with_threads
from stubborn import the_stubborn_part


def texts(entries: tuple[HistoryEntry, ...]) -> list[str]:
    """Each entry's path and first line."""
    return [f"{path} {text.splitlines()[0]}" for _, path, text in entries]


def no_table() -> NoReturn:
    raise ValueError("no such table")


@story
async def test_it_begins_with_the_first_who_asks_and_goes_on_without_them() -> None:
    a, b = cast(Record(), "ab")
    sub = Child("sub", SystemSupervisor([b.child()], breaker=NeverRestart))
    options: Any = {"name": "top", "strategy": "one_for_one"}
    async with open_system([a.child(), sub], **options) as tree:
        a.die()
        await trio.sleep(1)
        async with tree.follow():
            pass
        assert tree.history() == ()
        async with tree.follow(history=True):
            assert tree.history() == ()
        a.go_on(no_table)
        await trio.sleep(1)
        b.die()
        await trio.sleep(1)
        entries = tree.child("a").history()
        assert texts(entries) == [
            "top/a incarnation 2 failed: ValueError: no such table",
            "top/a incident 1 begins",
            "top/a will be restarted now",
            "top/a incarnation 3 is starting",
            "top/a incarnation 3 is up",
            "top/a incident 1 is over: cured",
        ]
        failed = entries[0].text
        assert 'raise ValueError("no such table")\nValueError: no such table' in failed
        assert "Traceback (most recent call last):" in failed
        gives_up = (
            "TooManyRestarts: too many restarts: 'top/sub/b' was restarted 0 times and may not be "
            "again; root cause: Boom: b1"
        )
        assert texts(tree.find("sub").history()) == [
            "top/sub/b incarnation 1 failed: Boom: b1",
            "top/sub/b incident 2 begins",
            "top/sub/b may not be restarted any more",
            f"top/sub gives up: {gives_up}",
            "top/sub begins to stop its children",
            "top/sub has stopped",
            f"top/sub incarnation 1 failed: {gives_up}",
            "top/sub will be restarted now",
            "top/sub incarnation 2 is starting",
            "top/sub/b incarnation 1 is starting",
            "top/sub/b incarnation 1 is up",
            "top/sub is up with all that it declares",
            "top/sub incarnation 2 is up",
            "top/sub/b incident 2 is over: cured",
        ]
        times = [entry.time for entry in tree.history()]
        assert times == sorted(times)
        assert len(times) == 6 + 14
    assert texts(tree.history())[-1] == "top has stopped"


@story
async def test_each_kind_of_fact_has_its_words() -> None:
    clings: list[Step] = ["start", "wait", lambda: the_stubborn_part(12)]
    a = Actor(Record(), "a", STAYS, [no_start], clings)
    child = a.child(shutdown=2, recoverable=lambda _: a.runs < 2, on_unrecoverable="discard")
    options: Any = {"name": "top", "strategy": "one_for_one"}
    async with open_system([child], **options) as tree:
        async with tree.follow(history=True):
            pass
        a.die()
        await trio.sleep(20)
        await tree.restart_child("a")
        await trio.sleep(1)
    words = texts(tree.history())
    assert [word.removeprefix("top/a ") for word in words] == [
        "incarnation 1 failed: Boom: a1",
        "incident 1 begins",
        "will be restarted now",
        "incarnation 2 is starting",
        "incarnation 2 failed to start: Boom: no start of a2",
        "is not recoverable: going on without it",
        "incident 1 is over: dropped",
        "incarnation 3 is starting",
        "incarnation 3 is up",
        "top begins to stop its children",
        "is asked to finish (stop)",
        "is aborted (stop)",
        "does not end although it was aborted; it sits at",
        "does not end although it was aborted; it sits at",
        "does not end although it was aborted; it sits at",
        "incarnation 3 ended (normal) while aborted",
        "top has stopped",
    ]


def test_it_keeps_text_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    # pytest keeps log records, with their exceptions
    monkeypatch.setattr(logging.getLogger("spry_py"), "propagate", False)
    monkeypatch.setattr(logging.getLogger("spry_py"), "handlers", [logging.NullHandler()])
    tell_of_what_is_over()


@story
async def tell_of_what_is_over() -> None:
    class Thing(Boom):
        pass

    things: list[weakref.ref[Any]] = []

    async def crashes(thing: Thing, *, task_status: trio.TaskStatus[Thing]) -> None:
        task_status.started(thing)
        await trio.sleep(1)
        raise thing

    async def pool(scope: Any) -> None:
        thing = Thing("argument, value and exception")
        things.append(weakref.ref(thing))
        await scope.start(Child("a", crashes, thing, restart="temporary"))

    async with open_system(pool, name="top") as tree:
        async with tree.follow(history=True):
            pass
        await trio.sleep(2)
        assert "Thing: argument, value and exception" in tree.history()[0].text
        gc.collect()
        assert [ref() for ref in things] == [None]


@story
async def test_it_is_bounded() -> None:
    a = Actor(Record(), "a")
    options: Any = {"name": "top", "strategy": "one_for_one", "breaker": AlwaysRestart()}
    async with open_system([a.child()], **options) as tree:
        async with tree.follow(history=True):
            pass
        a.die(Boom("x" * 2 * LONGEST))
        await trio.sleep(1)
        assert len(tree.history()[0].text) == LONGEST
        for _ in range(200):
            a.die()
            await trio.sleep(1)
        assert len(tree.history()) == MOST_KEPT
        assert texts(tree.history())[-1] == "top/a incident 201 is over: cured"


def test_an_exception_without_words_harms_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", heard.append)
    tell_of_odd_exceptions()
    assert heard == []


@story
async def tell_of_odd_exceptions() -> None:
    class Odd(Exception):
        def __str__(self) -> str:
            raise ZeroDivisionError

    a = Actor(Record(), "a")
    async with open_system([a.child()], name="top", strategy="one_for_one") as tree:
        async with tree.follow(history=True):
            pass
        a.die(Odd())
        await trio.sleep(1)
        assert len(tree.history()) == 6
        assert "Odd" in tree.history()[0].text
        assert tree.child("a").status == "running"


@story_with_threads
async def test_it_is_readable_from_other_threads_and_after_the_end() -> None:
    a = Actor(Record(), "a")
    async with open_system([a.child()], name="top", strategy="one_for_one") as tree:
        async with tree.follow(history=True):
            pass
        a.die()
        await tree.child("a").wait_incarnation(2)
        seen = await trio.to_thread.run_sync(tree.history)
        assert len(seen) >= 5
    assert tree.history()[: len(seen)] == seen
    assert texts(tree.history())[-1] == "top has stopped"
