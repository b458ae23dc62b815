"""Starts that do not come about: left out, failed, caught or not."""

from __future__ import annotations

import pytest
import trio

from actors import STAYS, Actor, cast, no_start
from spry_py import (
    Child,
    ChildFailure,
    Ignore,
    NonChildFailure,
    Scope,
    SystemSupervisor,
    open_system,
)
from stories import Boom, Record, story


@story
async def test_ignore_leaves_a_child_out_and_keeps_its_specification() -> None:
    record = Record()
    a, b = cast(record, "ab")

    async def shy(*, task_status: trio.TaskStatus[str]) -> None:
        await trio.sleep(1)
        raise Ignore

    async def system(scope: Scope) -> None:
        await scope.start(a.child())
        record(f"got {await scope.start(Child('shy', shy))}")
        record(f"got {await scope.start(Child('shyer', shy, restart='temporary'))}")
        await scope.start(b.child())

    async with open_system(system) as tree:
        infos = [(info.key, info.status, info.value) for info in tree.which_children()]
        assert infos == [("a", "running", "a#1"), ("shy", "ignored", None), ("b", "running", "b#1")]
        counts = tree.count_children()
        assert (counts.specs, counts.active, counts.supervisors, counts.workers) == (3, 2, 0, 3)
    assert record.facts == [
        (0, "+a1"),
        (1, "got None"),
        (2, "got None"),
        (2, "+b1"),
        (2, "-b1"),
        (2, "-a1"),
    ]


@story
async def test_ignore_before_the_first_checkpoint_of_a_plain_function_leaves_it_out() -> None:
    async def shy() -> None:
        raise Ignore

    async with open_system([Child("shy", shy)]) as tree:
        assert tree.child("shy").status == "ignored"
        assert tree.child("shy").value is None


@story
async def test_an_ignored_child_is_tried_again_by_a_replay() -> None:
    record = Record()
    (a,) = cast(record, "a")
    tries = 0

    async def shy(*, task_status: trio.TaskStatus[str]) -> None:
        nonlocal tries
        tries += 1
        record(f"shy{tries}")
        if tries == 1:
            raise Ignore
        task_status.started("here")
        await trio.sleep_forever()

    async with open_system([a.child(), Child("shy", shy)], strategy="rest_for_one") as tree:
        a.die()
        await trio.sleep(1)
        assert tree.child("shy").value == "here"
    assert record.order == "+a1 shy1 -a1 +a2 shy2 -a2"


@story
async def test_ignore_after_started_is_a_failure_like_any_other() -> None:
    record = Record()
    (a,) = cast(record, "a")
    async with open_system([a.child()]) as tree:
        a.die(Ignore())
        await trio.sleep(1)
        report = tree.child("a").last_report
        assert report is not None
        assert isinstance(report.exception, Ignore)
    assert record.order == "+a1 -a1 +a2 -a2"


@story
async def test_a_system_may_catch_a_failed_start_and_go_on_without_that_child() -> None:
    record = Record()
    a, c = cast(record, "ac")
    b = Actor(record, "b", [no_start], [no_start], STAYS)

    async def system(scope: Scope) -> None:
        await scope.start(a.child())
        try:
            await scope.start(b.child())
        except ChildFailure as failure:
            record(f"without {failure.path}: {failure.__cause__}")
        await scope.start(c.child())

    async with open_system(system, name="top") as tree:
        assert [info.key for info in tree.which_children()] == ["a", "c"]
        await trio.sleep(10)
    told = "without top/b: no start of b1"
    assert record.order == f"+a1 !b1 {told} +c1 -c1 -a1"


@story
async def test_a_failed_start_that_nobody_catches_fails_the_parent_in_turn() -> None:
    record = Record()
    a, b, d = cast(record, "abd", cleanup=1)
    c = Actor(record, "c", [no_start], [no_start], STAYS)
    sub = SystemSupervisor([b.child(), c.child(), d.child()])
    with pytest.raises(ChildFailure) as caught:
        async with open_system([a.child(), Child("sub", sub), d.child()], name="top"):
            record("never")
    paths = []
    error: BaseException | None = caught.value
    while isinstance(error, ChildFailure):
        paths.append((error.key, error.path))
        error = error.__cause__
    assert paths == [("sub", "top/sub"), ("c", "top/sub/c")]
    assert isinstance(error, Boom)
    assert record.facts == [(0, "+a1"), (0, "+b1"), (0, "!c1"), (1, "-b1"), (2, "-a1")]


@story
async def test_another_exception_of_the_system_function_fails_its_start() -> None:
    record = Record()
    a, b = cast(record, "ab")
    error = Boom("in the system")

    async def system(scope: Scope) -> None:
        await scope.start(a.child())
        await scope.start(b.child())
        raise error

    with pytest.raises(NonChildFailure) as caught:
        async with open_system(system):
            record("never")
    assert caught.value.__cause__ is error
    assert record.order == "+a1 +b1 -b1 -a1"


@story
async def test_a_nested_system_function_that_raises_fails_its_parents_start() -> None:
    record = Record()
    a, b = cast(record, "ab")
    error = Boom("in the system")

    async def sub(scope: Scope) -> None:
        await scope.start(b.child())
        raise error

    with pytest.raises(ChildFailure) as caught:
        async with open_system([a.child(), Child("sub", SystemSupervisor(sub))], name="top"):
            record("never")
    assert caught.value.path == "top/sub"
    assert isinstance(caught.value.__cause__, NonChildFailure)
    assert caught.value.__cause__.__cause__ is error
    assert record.order == "+a1 +b1 -b1 -a1"


@story
async def test_a_first_start_is_never_retried() -> None:
    record = Record()
    a = Actor(record, "a", [no_start], STAYS)
    with pytest.raises(ChildFailure):
        async with open_system([a.child()], strategy="one_for_one"):
            record("never")
    assert record.order == "!a1"
