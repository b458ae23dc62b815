"""Supervisors that end with their children: `auto_shutdown` and `significant`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import pytest
import tenacity
import trio

from actors import LISTENS, STAYS, Actor, cast
from spry_py import (
    Child,
    Ignore,
    NeverRestart,
    NonChildFailure,
    Normal,
    Scope,
    Strategy,
    SystemHandle,
    SystemSupervisor,
    TerminationReport,
    TooManyRestarts,
    open_system,
)
from stories import Record, story
from workers import STRATEGIES

TWO = tenacity.wait_fixed(2)
Mode = Literal["any_significant", "all_significant", "when_empty"]


def significant(actor: Actor, **options: Any) -> Child[Any]:
    return actor.child(**{"restart": "transient", "significant": True, **options})


def cast_of(record: Record, keys: str) -> Iterator[Actor]:
    """Actors that listen, so that those stopped say so at once."""
    return cast(record, keys, LISTENS)


async def end_of(handle: SystemHandle) -> TerminationReport:
    """The end of a tree that ends by itself, within ten seconds."""
    with trio.fail_after(10):
        return await handle.wait()


async def is_alive(handle: SystemHandle) -> bool:
    """Whether the tree still runs ten seconds later."""
    await trio.sleep(10)
    return handle.status == "running"


@pytest.mark.parametrize("strategy", STRATEGIES)
@story
async def test_any_significant_end_ends_the_supervisor_in_reverse(strategy: Strategy) -> None:
    record = Record()
    a, b, c = cast_of(record, "abc")
    children = [a.child(), significant(b), significant(c)]
    async with open_system(children, strategy=strategy, auto_shutdown="any_significant") as tree:
        b.stop()
        assert (await end_of(tree)).reason == Normal(None)
        assert record.order == "+a1 +b1 +c1 -b1 -c1 -a1"
        assert [info.status for info in tree.which_children()] == ["stopped", "done", "stopped"]


@story
async def test_all_significant_waits_for_the_last_of_them() -> None:
    record = Record()
    a, b, c = cast_of(record, "abc")
    children = [a.child(), significant(b), significant(c)]
    async with open_system(children, auto_shutdown="all_significant") as tree:
        c.stop()
        assert await is_alive(tree)
        b.stop()
        assert (await end_of(tree)).reason == Normal(None)
        assert record.order == "+a1 +b1 +c1 -c1 -b1 -a1"


@pytest.mark.parametrize("mode", ["any_significant", "all_significant"])
@story
async def test_what_is_not_significant_ends_nothing(mode: Mode) -> None:
    record = Record()
    a, b, c, d = cast_of(record, "abcd")
    children = [
        significant(a),
        b.child(restart="transient"),
        c.child(restart="temporary"),
        d.child(restart="temporary"),
    ]
    async with open_system(children, auto_shutdown=mode) as tree:
        b.stop()
        c.stop()
        d.die()
        assert await is_alive(tree)
        assert [(info.key, info.status) for info in tree.which_children()] == [
            ("a", "running"),
            ("b", "done"),
        ]


@story
async def test_a_significant_transient_child_that_fails_is_restarted() -> None:
    record = Record()
    a, b = cast_of(record, "ab")
    children = [a.child(), significant(b, backoff=TWO)]
    async with open_system(
        children, strategy="one_for_one", auto_shutdown="any_significant"
    ) as tree:
        b.die()
        assert await is_alive(tree)
        b.stop()
        assert (await end_of(tree)).reason == Normal(None)
        assert record.order == "+a1 +b1 -b1 +b2 -b2 -a1"


@pytest.mark.parametrize("order", ["stop", "die"])
@story
async def test_a_significant_temporary_child_ends_it_however_it_ends(order: str) -> None:
    record = Record()
    a, b = cast_of(record, "ab")
    children = [a.child(), significant(b, restart="temporary")]
    async with open_system(children, auto_shutdown="any_significant") as tree:
        b.stop() if order == "stop" else b.die()
        assert (await end_of(tree)).reason == Normal(None)
        assert record.order == "+a1 +b1 -b1 -a1"


@story
async def test_one_that_waits_to_be_restarted_has_not_ended() -> None:
    record = Record()
    a, b, c = cast_of(record, "abc")
    children = [a.child(), significant(b), significant(c, backoff=TWO)]
    async with open_system(
        children, strategy="one_for_one", auto_shutdown="all_significant"
    ) as tree:
        c.die()
        await trio.sleep(1)
        b.stop()
        assert await is_alive(tree)
        assert record.take_order() == "+a1 +b1 +c1 -c1 -b1 +c2"
        c.stop()
        assert (await end_of(tree)).reason == Normal(None)


@story
async def test_a_significant_child_that_is_discarded_has_ended() -> None:
    record = Record()
    a, b = cast_of(record, "ab")
    children = [a.child(), significant(b, breaker=NeverRestart, on_unrecoverable="discard")]
    async with open_system(children, auto_shutdown="any_significant") as tree:
        b.die()
        assert (await end_of(tree)).reason == Normal(None)
        assert record.order == "+a1 +b1 -b1 -a1"


@story
async def test_a_subsystem_stopped_by_its_own_handle_has_ended_by_itself() -> None:
    record = Record()
    a, b = cast_of(record, "ab")
    sub = Child("sub", SystemSupervisor([b.child()]), restart="transient", significant=True)
    async with open_system([a.child(), sub], auto_shutdown="any_significant") as tree:
        inner = tree.child("sub").value
        assert isinstance(inner, SystemHandle)
        await inner.stop()
        assert (await end_of(tree)).reason == Normal(None)
        assert record.order == "+a1 +b1 -b1 -a1"


@pytest.mark.parametrize("mode", ["any_significant", "all_significant"])
@story
async def test_being_swept_along_by_a_sibling_ends_nothing(mode: Mode) -> None:
    """A temporary one that goes down with a sibling is gone, but was asked to."""
    record = Record()
    a, b, c = cast_of(record, "abc")
    children = [a.child(), significant(b, restart="temporary"), c.child()]
    async with open_system(children, strategy="one_for_all", auto_shutdown=mode) as tree:
        a.die()
        assert await is_alive(tree)
        assert record.order == "+a1 +b1 +c1 -a1 -c1 -b1 +a2 +c2"


@story
async def test_those_left_are_asked_to_end_each_with_its_time() -> None:
    record = Record()
    a = Actor(record, "a", LISTENS, cleanup=3)
    b, c = cast_of(record, "bc")
    children = [a.child(), significant(b), c.child()]
    async with open_system(children, auto_shutdown="any_significant") as tree:
        b.stop()
        await end_of(tree)
        assert record.facts[3:] == [(0, "-b1"), (0, "-c1"), (3, "-a1")]


@story
async def test_a_parent_sees_a_normal_end_and_restarts_by_type() -> None:
    record = Record()
    a, b = cast_of(record, "ab")

    def sub(actor: Actor) -> SystemSupervisor:
        return SystemSupervisor([significant(actor)], auto_shutdown="any_significant")

    children = [Child("p", sub(a)), Child("t", sub(b), restart="transient")]
    async with open_system(children, strategy="one_for_one") as tree:
        a.stop()
        b.stop()
        assert await is_alive(tree)
        assert [(info.key, info.status, info.incarnation) for info in tree.which_children()] == [
            ("p", "running", 2),
            ("t", "done", 1),
        ]
        report = tree.child("t").last_report
        assert report is not None
        assert (report.reason, report.burden) == (Normal(None), "none")
    assert sorted(record.order.split()) == ["+a1", "+a2", "+b1", "-a1", "-a2", "-b1"]


@story
async def test_an_end_during_the_startup_is_decided_when_it_is_over() -> None:
    record = Record()
    a, b = Actor(record, "a", LISTENS), Actor(record, "b", [2, *LISTENS])

    async def system(scope: Scope) -> None:
        await scope.start(significant(a))
        a.stop()
        await scope.start(b.child())

    async with open_system(system, auto_shutdown="any_significant") as tree:
        assert (await end_of(tree)).reason == Normal(None)
        assert sorted(record.facts[:3]) == [(0, "+a1"), (0, "-a1"), (0, "~b1")]
        assert record.facts[3:] == [(2, "+b1"), (2, "-b1")]


@story
async def test_a_restart_that_is_refused_still_escalates() -> None:
    record = Record()
    a, b = cast_of(record, "ab")
    children = [a.child(), significant(b)]
    with pytest.raises(TooManyRestarts):
        async with open_system(children, breaker=NeverRestart, auto_shutdown="any_significant"):
            b.die()
            await trio.sleep_forever()
    assert record.order == "+a1 +b1 -b1 -a1"


# when_empty


@story
async def test_when_empty_ends_when_nothing_is_left() -> None:
    record = Record()
    a, b = cast_of(record, "ab")
    children = [a.child(restart="temporary"), b.child(restart="transient")]
    async with open_system(children, auto_shutdown="when_empty") as tree:
        a.die()
        assert await is_alive(tree)
        b.stop()
        assert (await end_of(tree)).reason == Normal(None)
        assert record.order == "+a1 +b1 -a1 -b1"


@story
async def test_when_empty_counts_those_that_wait_to_be_restarted() -> None:
    record = Record()
    a, b = cast_of(record, "ab")
    children = [a.child(restart="temporary"), b.child(restart="transient", backoff=TWO)]
    async with open_system(children, strategy="one_for_one", auto_shutdown="when_empty") as tree:
        b.die()
        await trio.sleep(1)
        a.stop()
        assert await is_alive(tree)
        b.stop()
        assert (await end_of(tree)).reason == Normal(None)


@story
async def test_when_empty_ends_at_once_if_nothing_was_declared() -> None:
    async with open_system([], auto_shutdown="when_empty") as tree:
        assert (await end_of(tree)).reason == Normal(None)


@story
async def test_when_empty_a_subsystem_that_has_ended_empties_its_parent() -> None:
    record = Record()
    (a,) = cast_of(record, "a")
    inner = SystemSupervisor([a.child(restart="temporary")], auto_shutdown="when_empty")
    children = [Child("sub", inner, restart="transient")]
    async with open_system(children, auto_shutdown="when_empty") as tree:
        a.stop()
        assert (await end_of(tree)).reason == Normal(None)


@story
async def test_when_empty_those_left_out_do_not_count() -> None:
    record = Record()
    shy = Actor(record, "a", [Ignore], STAYS)
    async with open_system([shy.child()], auto_shutdown="when_empty") as tree:
        assert (await end_of(tree)).reason == Normal(None)
        assert record.order == "/a1"


@pytest.mark.parametrize("strategy", STRATEGIES)
@story
async def test_when_empty_one_left_out_of_a_restart_does_not_count(strategy: Strategy) -> None:
    record = Record()
    shy = Actor(record, "a", STAYS, [Ignore], STAYS)
    async with open_system([shy.child()], strategy=strategy, auto_shutdown="when_empty") as tree:
        shy.die()
        assert (await end_of(tree)).reason == Normal(None)
        assert record.order == "+a1 -a1 /a2"


# What is refused


@pytest.mark.parametrize("mode", ["never", "when_empty"])
def test_a_significant_child_in_a_list_is_refused_where_it_is_written(mode: Any) -> None:
    record = Record()
    (a,) = cast_of(record, "a")
    with pytest.raises(ValueError, match="significant"):
        SystemSupervisor([significant(a)], auto_shutdown=mode)


@pytest.mark.parametrize("mode", ["never", "when_empty"])
@story
async def test_a_significant_child_is_refused_where_it_is_started(mode: Any) -> None:
    record = Record()
    (a,) = cast_of(record, "a")

    async def system(scope: Scope) -> None:
        with pytest.raises(ValueError, match="significant"):
            await scope.start_together(significant(a))
        await scope.start(significant(a))

    with pytest.raises(NonChildFailure) as caught:
        async with open_system(system, auto_shutdown=mode):
            raise AssertionError("a system with a child that is refused has not started")
    assert isinstance(caught.value.__cause__, ValueError)
    assert record.order == ""


@story
async def test_when_empty_a_call_that_takes_the_last_one_down_ends_it() -> None:
    record = Record()
    (a,) = cast(record, "a")
    async with open_system([a.child()], auto_shutdown="when_empty") as tree:
        await trio.sleep(1)
        await tree.terminate_child("a")
        with trio.fail_after(1):
            report = await tree.wait()
    assert (record.facts, report.reason) == ([(0, "+a1"), (1, "-a1")], Normal(None))
