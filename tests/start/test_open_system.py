"""Opening a tree: by `open_system`, and by a nursery."""

from __future__ import annotations

import pytest
import trio

from actors import LISTENS, Actor, cast
from spry_py import (
    Child,
    NeverRestart,
    Normal,
    Scope,
    SystemHandle,
    SystemSupervisor,
    TooManyRestarts,
    current_context,
    open_system,
)
from stories import Boom, Ledger, Record, story


@story
async def test_it_yields_the_handle_and_stops_in_order_when_left() -> None:
    record = Record()
    a, b = cast(record, "ab", cleanup=1)
    async with open_system([a.child(), b.child()]) as tree:
        assert isinstance(tree, SystemHandle)
        record("in the block")
        await trio.sleep(1)
    record("left")
    assert record.facts == [
        (0, "+a1"),
        (0, "+b1"),
        (0, "in the block"),
        (2, "-b1"),
        (3, "-a1"),
        (3, "left"),
    ]


@story
async def test_a_root_is_named_by_its_name_or_its_function_or_else_system() -> None:
    async def shop(scope: Scope) -> None:
        pass

    opened = [
        open_system(shop),
        open_system(shop, name="other"),
        open_system([]),
        open_system([], name="listed"),
        open_system(SystemSupervisor(shop)),
        open_system(SystemSupervisor(shop, name="named")),
    ]
    paths = []
    for manager in opened:
        async with manager as tree:
            paths.append(tree.path)
    assert paths == ["shop", "other", "system", "listed", "shop", "named"]


@story
async def test_a_nested_supervisor_is_called_by_its_key_not_by_its_name() -> None:
    record = Record()
    (a,) = cast(record, "a")
    sub = SystemSupervisor([a.child()], name="other")
    async with open_system([Child("sub", sub)], name="top") as tree:
        assert tree.find("sub/a").path == "top/sub/a"


@story
async def test_options_belong_to_a_bare_system() -> None:
    record = Record()
    (a,) = cast(record, "a")
    ledger = Ledger(record)
    async with open_system(
        [a.child()], name="top", strategy="one_for_one", breaker=ledger, auto_shutdown="never"
    ):
        a.die()
        await trio.sleep(1)
    assert record.order == "+a1 -a1 ?a +a2 -a2"
    for options in ({"name": "top"}, {"strategy": "one_for_one"}):
        with pytest.raises(TypeError, match="option"):
            async with open_system(SystemSupervisor([]), **options):
                record("never")


@story
async def test_leaving_by_an_exception_stops_the_tree_and_lets_it_out_bare() -> None:
    record = Record()
    a, b = cast(record, "ab", cleanup=1)
    error = Boom("of the block")
    with pytest.raises(Boom) as caught:
        async with open_system([a.child(), b.child()]):
            raise error
    assert caught.value is error
    assert record.facts == [(0, "+a1"), (0, "+b1"), (1, "-b1"), (2, "-a1")]


@story
async def test_a_group_raised_by_the_block_is_left_as_it_is() -> None:
    group = ExceptionGroup("of the block", [Boom("one"), Boom("two")])
    with pytest.raises(ExceptionGroup) as caught:
        async with open_system([]):
            raise group
    assert caught.value is group


@story
async def test_a_failing_tree_cancels_the_block_and_its_failure_comes_out() -> None:
    record = Record()
    a, b = cast(record, "ab", cleanup=1)
    error = Boom("of the tree")
    with pytest.raises(TooManyRestarts) as caught:
        async with open_system([a.child(), b.child()], breaker=NeverRestart):
            b.die(error)
            try:
                await trio.sleep_forever()
            finally:
                record("block cancelled")
    assert caught.value.__cause__ is error
    assert sorted(record.facts[2:]) == [(1, "-b1"), (2, "-a1"), (2, "block cancelled")]


@story
async def test_when_both_fail_one_flat_group_of_the_two_comes_out() -> None:
    record = Record()
    (a,) = cast(record, "a")
    ours = Boom("of the block")
    with pytest.raises(ExceptionGroup) as caught:
        async with open_system([a.child()], breaker=NeverRestart):
            a.die()
            try:
                await trio.sleep_forever()
            finally:
                raise ours
    assert {type(error) for error in caught.value.exceptions} == {TooManyRestarts, Boom}
    assert len(caught.value.exceptions) == 2
    assert ours in caught.value.exceptions


@story
async def test_a_block_that_ends_while_the_tree_is_failing_gets_the_failure() -> None:
    record = Record()
    a = Actor(record, "a", cleanup=2)
    b = Actor(record, "b")
    with pytest.raises(TooManyRestarts):
        async with open_system([a.child(), b.child()], breaker=NeverRestart):
            record.take()
            b.die()
            await trio.sleep(1)
    assert record.facts == [(0, "-b1"), (2, "-a1")]


@story
async def test_a_tree_that_ends_normal_does_not_cancel_the_block() -> None:
    record = Record()
    a, b = cast(record, "ab", cleanup=1)
    async with open_system([a.child(), b.child()], name="top") as tree:
        await trio.sleep(1)
        await tree.stop()
        report = await tree.wait()
        await trio.sleep(5)
        record("block goes on")
    assert record.facts[2:] == [(2, "-b1"), (3, "-a1"), (8, "block goes on")]
    assert isinstance(report.reason, Normal)
    assert (report.key, report.path, report.incarnation) == ("top", "top", 1)
    assert (report.burden, report.started_at, report.ended_at) == ("settling", 0, 3)


@story
async def test_abort_cancels_everything_at_once() -> None:
    record = Record()
    a, b = cast(record, "ab", LISTENS)
    async with open_system([a.child(shutdown=50), b.child(shutdown=50)]) as tree:
        await trio.sleep(1)
        tree.abort()
        report = await tree.wait()
        record("aborted")
    assert sorted(record.facts[2:4]) == [(1, "-a1"), (1, "-b1")]
    assert record.facts[4:] == [(1, "aborted")]
    assert report.burden == "aborted"


@story
async def test_an_abort_after_a_stop_hastens_it() -> None:
    record = Record()
    a, b = cast(record, "ab")

    async def patient() -> None:
        await current_context().settled()
        await trio.sleep(40)

    children = [a.child(), Child("patient", patient, shutdown=50), b.child()]
    async with trio.open_nursery() as nursery, open_system(children) as tree:
        record.take()
        nursery.start_soon(tree.stop)
        await trio.sleep(2)
        tree.abort()
        await tree.wait()
    assert record.facts == [(0, "-b1"), (2, "-a1")]


@story
async def test_stop_may_be_called_again_and_by_many() -> None:
    record = Record()
    a, b = cast(record, "ab", cleanup=1)
    async with open_system([a.child(), b.child()]) as tree:
        record.take()
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(tree.stop)
        record("stopped")
        await tree.stop()
        tree.abort()
    assert record.facts == [(1, "-b1"), (2, "-a1"), (2, "stopped")]


@story
async def test_a_cancelled_stop_is_not_taken_back() -> None:
    record = Record()
    a, b = cast(record, "ab", cleanup=2)
    async with open_system([a.child(), b.child()]) as tree:
        record.take()
        with trio.move_on_after(1) as scope:
            await tree.stop()
        assert scope.cancelled_caught
        await tree.wait()
        record("ended")
    assert record.facts == [(2, "-b1"), (4, "-a1"), (4, "ended")]


@story
async def test_a_supervisor_is_a_function_for_any_nursery() -> None:
    record = Record()
    a, b = cast(record, "ab")
    async with trio.open_nursery() as nursery:
        handle = await nursery.start(SystemSupervisor([a.child(), b.child()], name="top"))
        assert isinstance(handle, SystemHandle)
        assert [info.path for info in handle.which_children()] == ["top/a", "top/b"]
        await handle.stop()
    assert record.order == "+a1 +b1 -b1 -a1"


@story
async def test_an_embedded_tree_that_escalates_fails_its_nursery() -> None:
    record = Record()
    (a,) = cast(record, "a")
    with pytest.raises(ExceptionGroup) as caught:
        async with trio.open_nursery() as nursery:
            await nursery.start(SystemSupervisor([a.child()], breaker=NeverRestart))
            a.die()
    assert [type(error) for error in caught.value.exceptions] == [TooManyRestarts]


@story
async def test_one_supervisor_may_run_in_two_places_at_once() -> None:
    record = Record()
    (a,) = cast(record, "a")

    async def child() -> None:
        await trio.sleep_forever()

    one = SystemSupervisor([Child("x", child)])
    children = [Child("left", one), Child("right", one), a.child()]
    async with open_system(children, name="top") as tree:
        assert tree.find("left/x").path == "top/left/x"
        assert tree.find("right/x").path == "top/right/x"


@story
async def test_one_supervisor_may_be_opened_again() -> None:
    record = Record()
    (a,) = cast(record, "a")
    supervisor = SystemSupervisor([a.child()])
    for _ in range(2):
        async with open_system(supervisor):
            pass
    assert record.order == "+a1 -a1 +a2 -a2"


@story
async def test_trees_side_by_side_do_not_know_of_each_other() -> None:
    record = Record()
    a, b = cast(record, "ab")
    async with open_system([a.child()]) as one, open_system([b.child()]) as other:
        await one.stop()
        assert other.child("b").status == "running"
        record("one is gone")
    assert record.order == "+a1 +b1 -a1 one is gone -b1"


@story
async def test_an_empty_tree_stands_until_it_is_left() -> None:
    async with open_system([]) as tree:
        await trio.sleep(5)
        assert tree.which_children() == []
