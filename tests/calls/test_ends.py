"""`terminate_child`, `restart_child` and `delete_child` on a supervisor that runs."""

from __future__ import annotations

import pytest
import trio

from actors import LISTENS, STAYS, Actor, cast, no_start
from callers import Desk, answer, listed
from spry_py import (
    Aborted,
    Child,
    ChildFailure,
    ChildNotFound,
    Ignore,
    Normal,
    Strategy,
    SystemSupervisor,
    cancel_on_settle,
    open_system,
)
from stories import Boom, Ledger, Record, story
from workers import STRATEGIES

# terminate_child


@pytest.mark.parametrize("strategy", STRATEGIES)
@story
async def test_terminate_child_ends_that_child_alone_within_its_time(strategy: Strategy) -> None:
    record = Record()
    a, c = cast(record, "ac", LISTENS)
    b = Actor(record, "b", LISTENS, cleanup=2)
    ledger = Ledger(record)
    children = [a.child(), b.child(), c.child()]
    async with open_system(children, strategy=strategy, breaker=ledger) as tree:
        await tree.terminate_child("b")
        report = tree.child("b").last_report
        assert report is not None
        assert (report.reason, report.burden) == (Normal(None), "settling")
        assert listed(tree) == "a=running b=stopped c=running"
        await trio.sleep(10)
    assert record.facts[3:] == [(2, "-b1"), (12, "-c1"), (12, "-a1")]


@story
async def test_terminate_child_aborts_one_that_does_not_settle() -> None:
    record = Record()
    (heedless,) = cast(record, "h")
    async with open_system([heedless.child(), Child("d", deaf, shutdown=4)]) as tree:
        await tree.terminate_child("d")
        assert trio.current_time() == 4
        await tree.terminate_child("h")
        assert trio.current_time() == 4
        assert [
            (info.key, info.last_report.reason, info.last_report.burden)
            for info in tree.which_children()
            if info.last_report is not None
        ] == [("h", Aborted(), "aborted"), ("d", Aborted(), "aborted")]


async def deaf(*, task_status: trio.TaskStatus[None]) -> None:
    with cancel_on_settle():
        pass
    task_status.started()
    await trio.sleep_forever()


@story
async def test_a_terminated_temporary_child_is_forgotten() -> None:
    record = Record()
    a, b = cast(record, "ab")
    children = [a.child(restart="temporary"), b.child()]
    async with open_system(children, strategy="one_for_one") as tree:
        await tree.terminate_child("a")
        assert listed(tree) == "b=running"
        assert await answer(tree.terminate_child("a")) == "ChildNotFound"
        assert await answer(tree.start_child(a.child())) == "ok"
        assert listed(tree) == "b=running a=running"


@story
async def test_a_subsystem_is_terminated_in_reverse() -> None:
    record = Record()
    a, b, c = cast(record, "abc", LISTENS)
    sub = Child("sub", SystemSupervisor([a.child(), b.child()]))
    async with open_system([sub, c.child()], strategy="one_for_one") as tree:
        await tree.terminate_child("sub")
        assert record.take_order() == "+a1 +b1 +c1 -b1 -a1"
        handle = await tree.restart_child("sub")
        assert handle.incarnation == 2
        assert record.take_order() == "+a2 +b2"
        assert tree.find("sub/a").value == "a#2"


@story
async def test_one_that_fails_while_it_is_terminated_is_neither_restarted_nor_escalated() -> None:
    record = Record()

    async def sulky(*, task_status: trio.TaskStatus[None]) -> None:
        task_status.started()
        try:
            await trio.sleep_forever()
        finally:
            raise Boom("not like this")

    ledger = Ledger(record)
    async with open_system([Child("s", sulky)], breaker=ledger) as tree:
        await tree.terminate_child("s")
        await trio.sleep(5)
        report = tree.child("s").last_report
        assert report is not None
        assert (type(report.exception), report.burden) == (Boom, "aborted")
        assert listed(tree) == "s=stopped"
    assert record.facts == []


@story
async def test_two_who_terminate_one_child_both_see_its_end() -> None:
    record = Record()
    b = Actor(record, "b", LISTENS, cleanup=2)
    async with open_system([b.child()]) as tree, trio.open_nursery() as nursery:
        desk = Desk(record, nursery)
        desk.call("first", tree.terminate_child, "b")
        await trio.sleep(1)
        assert listed(tree) == "b=stopping"
        desk.call("second", tree.terminate_child, "b")
        await trio.sleep(2)
        assert sorted(record.take()[1:]) == [(2, "-b1"), (2, "first:ok"), (2, "second:ok")]


# restart_child and delete_child


@pytest.mark.parametrize("strategy", STRATEGIES)
@story
async def test_restart_child_starts_that_child_alone_in_its_old_place(strategy: Strategy) -> None:
    record = Record()
    a, b, c = cast(record, "abc", LISTENS)
    children = [a.child("x"), b.child("y"), c.child("z")]
    async with open_system(children, strategy=strategy, breaker=Ledger(record)) as tree:
        await tree.terminate_child("b")
        handle = await tree.restart_child("b")
        assert (handle.path, handle.value, handle.incarnation) == ("system/b", "b#2", 2)
        assert listed(tree) == "a=running b=running c=running"
    assert record.order == "+a1(x) +b1(y) +c1(z) -b1 +b2(y) -c1 -b2 -a1"


@pytest.mark.parametrize("strategy", STRATEGIES)
@story
async def test_a_restart_by_call_that_fails_keeps_the_child(strategy: Strategy) -> None:
    record = Record()
    a, b = Actor(record, "a"), Actor(record, "b", STAYS, [no_start], STAYS)
    ledger = Ledger(record)
    async with open_system([a.child(), b.child()], strategy=strategy, breaker=ledger) as tree:
        await tree.terminate_child("b")
        with pytest.raises(ChildFailure) as caught:
            await tree.restart_child("b")
        assert isinstance(caught.value.__cause__, Boom)
        await trio.sleep(5)
        assert listed(tree) == "a=running b=stopped"
        assert (await tree.restart_child("b")).value == "b#3"
    assert record.order == "+a1 +b1 -b1 !b2 +b3 -b3 -a1"


@story
async def test_a_restart_by_call_may_be_left_out() -> None:
    record = Record()
    c = Actor(record, "c", STAYS, [Ignore], [Ignore], STAYS)
    async with open_system([c.child()]) as tree:
        await tree.terminate_child("c")
        handle = await tree.restart_child("c")
        assert (handle.status, handle.value) == ("ignored", None)
        assert (await tree.restart_child("c")).status == "ignored"
        assert (await tree.restart_child("c")).value == "c#4"
    assert record.order == "+c1 -c1 /c2 /c3 +c4 -c4"


@story
async def test_one_that_is_restarted_by_call_is_supervised_again() -> None:
    record = Record()
    a, b = cast(record, "ab", LISTENS)
    children = [a.child(restart="transient"), b.child()]
    async with open_system(children, strategy="one_for_one", breaker=Ledger(record)) as tree:
        a.stop()
        await trio.sleep(1)
        await tree.restart_child("a")
        record.take()
        a.die()
        await trio.sleep(1)
        assert record.take_order() == "-a2 ?a +a3"
        assert listed(tree) == "a=running b=running"


@story
async def test_a_deleted_child_is_forgotten_and_its_key_is_free() -> None:
    record = Record()
    a, b = cast(record, "ab")
    async with open_system([a.child(), b.child()], strategy="one_for_one") as tree:
        await tree.terminate_child("a")
        await tree.delete_child("a")
        with pytest.raises(ChildNotFound):
            tree.child("a")
        assert await answer(tree.delete_child("a")) == "ChildNotFound"
        handle = await tree.start_child(a.child("new"))
        assert handle.value == "a#2"
        assert listed(tree) == "b=running a=running"
    assert record.order == "+a1 +b1 -a1 +a2(new) -a2 -b1"


@story
async def test_an_ignored_start_is_no_failure() -> None:
    async def never(*, task_status: trio.TaskStatus[None]) -> None:
        raise Ignore

    async with open_system([]) as tree:
        handle = await tree.start_child(Child("n", never, restart="temporary"))
        assert (handle.key, handle.value) == ("n", None)
        assert await handle.wait_started() is None
        assert listed(tree) == ""
