"""Seen from outside: handles, lists, counts, pictures."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import tenacity
import trio

from actors import LISTENS, STAYS, Actor, cast
from spry_py import (
    Aborted,
    Child,
    ChildCounts,
    ChildHandle,
    ChildNotFound,
    DynamicSupervisor,
    NeverRestart,
    SystemHandle,
    SystemSupervisor,
    open_system,
)
from stories import Record, story

TWO = tenacity.wait_fixed(2)


def seen(handle: ChildHandle) -> tuple[Any, ...]:
    return handle.status, handle.value, handle.incarnation, handle.restarts


@story
async def test_a_handle_follows_its_path_over_restarts() -> None:
    record = Record()
    (a,) = cast(record, "a")
    async with open_system([a.child(backoff=TWO)], name="top") as tree:
        handle = tree.child("a")
        assert (handle.key, handle.path, handle.kind) == ("a", "top/a", "worker")
        assert handle.last_report is None
        assert seen(handle) == ("running", "a#1", 1, 0)
        a.die()
        await trio.sleep(1)
        assert handle.status == "restarting"
        assert handle.last_report is not None
        assert (handle.last_report.incarnation, handle.last_report.failed) == (1, True)
        await trio.sleep(2)
        assert seen(handle) == ("running", "a#2", 2, 1)
        assert handle.last_report.incarnation == 1
        record.take()
    assert handle.status == "stopped"
    assert (handle.last_report.incarnation, handle.last_report.reason) == (2, Aborted())


@story
async def test_a_handle_follows_its_path_over_restarts_of_its_supervisor() -> None:
    record = Record()
    a, b = cast(record, "ab")
    sub = Child("sub", SystemSupervisor([a.child(), b.child()], breaker=NeverRestart))
    async with open_system([sub], name="top") as tree:
        handle, outer = tree.find("sub/a"), tree.child("sub")
        inner = outer.value
        assert isinstance(inner, SystemHandle)
        assert (outer.kind, outer.incarnation) == ("supervisor", 1)
        b.die()
        await trio.sleep(1)
        assert seen(handle) == ("running", "a#2", 1, 0)
        assert (outer.incarnation, outer.restarts, outer.status) == (2, 1, "running")
        assert inner.path == "top/sub"
        assert inner.child("a").value == "a#2"
        assert tree.find("sub/a").path == handle.path == "top/sub/a"


@story
async def test_between_incarnations_queries_answer_from_the_last_one() -> None:
    record = Record()
    a, b = cast(record, "ab")
    sub = SystemSupervisor([a.child(), b.child()], breaker=NeverRestart)
    async with open_system([Child("sub", sub, backoff=TWO)], name="top") as tree:
        inner, handle = tree.child("sub").value, tree.find("sub/a")
        b.die()
        await trio.sleep(1)
        assert tree.child("sub").status == "restarting"
        assert [info.key for info in inner.which_children()] == ["a", "b"]
        assert [info.status for info in inner.which_children()] == ["stopped", "stopped"]
        assert handle.status == "stopped"
        assert handle.last_report is not None
        await trio.sleep(2)
        assert [info.status for info in inner.which_children()] == ["running", "running"]
        assert handle.value == "a#2"


@story
async def test_a_status_for_every_moment() -> None:
    record = Record()
    a = Actor(record, "a", LISTENS, cleanup=2)
    b = Actor(record, "b", [2, *STAYS])
    c = Actor(record, "c")
    children = [
        a.child(),
        b.child(),
        c.child(restart="transient"),
    ]
    async with open_system(children, strategy="one_for_one") as tree:
        handles = [tree.child(key) for key in "abc"]
        statuses = [[handle.status for handle in handles]]
        c.stop()
        b.die()
        await trio.sleep(1)
        statuses.append([handle.status for handle in handles])
        await trio.sleep(2)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(tree.stop)
            await trio.sleep(1)
            statuses.append([handle.status for handle in handles])
    statuses.append([handle.status for handle in handles])
    assert statuses == [
        ["running", "running", "running"],
        ["running", "starting", "done"],
        ["stopping", "stopped", "done"],
        ["stopped", "stopped", "done"],
    ]


@story
async def test_statuses_on_the_way_through_a_replay() -> None:
    record = Record()
    a = Actor(record, "a", [2, *STAYS])
    b = Actor(record, "b", cleanup=2)
    async with open_system([a.child(), b.child()]) as tree:
        statuses = []
        a.die()
        await trio.sleep(1)
        for _ in range(3):
            statuses.append([info.status for info in tree.which_children()])
            await trio.sleep(2)
    assert statuses == [
        ["restarting", "stopping"],
        ["starting", "restarting"],
        ["running", "running"],
    ]


@story
async def test_children_and_descendants_are_found_by_key_and_by_path() -> None:
    record = Record()
    a, b = cast(record, "ab")
    sub = SystemSupervisor([Child("inner", SystemSupervisor([a.child()])), b.child()])
    async with open_system([Child("sub", sub)], name="top") as tree:
        paths = ["sub", "sub/b", "sub/inner", "sub/inner/a"]
        assert [tree.find(path).path for path in paths] == [f"top/{path}" for path in paths]
        assert [tree.find(path).kind for path in paths] == [
            "supervisor",
            "worker",
            "supervisor",
            "worker",
        ]
        for path in ("nobody", "sub/nobody", "sub/b/nobody", "nobody/b", ""):
            with pytest.raises(ChildNotFound):
                tree.find(path)
        for key in ("nobody", "sub/b"):
            with pytest.raises(ChildNotFound):
                tree.child(key)


@story
async def test_a_supervisor_further_down_is_found_as_one() -> None:
    record = Record()
    (a,) = cast(record, "a")
    inner = Child("inner", SystemSupervisor([a.child()]))
    sub = SystemSupervisor([inner, Child("pool", DynamicSupervisor())])
    async with open_system([Child("sub", sub)], name="top") as tree:
        handle = tree.system("sub/inner")
        assert (type(handle), handle.path) == (SystemHandle, "top/sub/inner")
        assert [info.key for info in handle.which_children()] == ["a"]
        await handle.terminate_child("a")
        assert tree.find("sub/inner/a").status == "stopped"
        await tree.system("sub").system("pool").start_child(Child("b", trio.sleep_forever))
        assert tree.find("sub/pool/b").status == "running"
        with pytest.raises(ChildNotFound, match="no child 'nobody'; it has inner, pool"):
            tree.system("sub/nobody")
        with pytest.raises(ChildNotFound, match="inner/a' is no supervisor, but a worker"):
            tree.system("sub/inner/a")


@story
async def test_of_many_keys_the_first_are_named_where_one_is_not_found() -> None:
    children = [Child(f"w{number}", trio.sleep_forever) for number in range(12)]
    async with open_system(children, name="top") as tree:
        await tree.start_child(Child("late", trio.sleep_forever))
        first = "w0, w1, w2, w3, w4, w5, w6, w7, w8, w9 and 3 more"
        with pytest.raises(ChildNotFound, match=f"'top' has no child 'x'; it has {first}$"):
            tree.find("x")
        with pytest.raises(ChildNotFound, match=f"'top' has no child 'x'; it has {first}$"):
            await tree.restart_child("x")


@pytest.mark.parametrize("moment", ["down", "again"])
@story
async def test_the_handle_of_a_supervisor_that_is_down_is_found(moment: str) -> None:
    record = Record()
    (a,) = cast(record, "a")
    sub = Child("sub", SystemSupervisor([a.child()]), restart="transient")
    async with open_system([sub], name="top") as tree:
        await tree.terminate_child("sub")
        handle = tree.system("sub")
        assert (handle.status, handle.path) == ("stopped", "top/sub")
        if moment == "again":
            await tree.restart_child("sub")
            assert (handle.status, handle.child("a").value) == ("running", "a#2")


@story
async def test_which_children_lists_them_in_start_order() -> None:
    record = Record()
    a, b, c = cast(record, "abc")
    sub = Child("sub", SystemSupervisor([b.child()]), restart="transient")
    children = [a.child(), sub, c.child(restart="temporary")]
    async with open_system(children, name="top") as tree:
        infos = tree.which_children()
    told = [(i.key, i.path, i.kind, i.status, i.incarnation, i.restarts, i.restart) for i in infos]
    assert told == [
        ("a", "top/a", "worker", "running", 1, 0, "permanent"),
        ("sub", "top/sub", "supervisor", "running", 1, 0, "transient"),
        ("c", "top/c", "worker", "running", 1, 0, "temporary"),
    ]
    assert (infos[0].value, infos[0].last_report) == ("a#1", None)


@story
async def test_counts() -> None:
    record = Record()
    a, b, c, d = cast(record, "abcd")
    sub = Child("sub", SystemSupervisor([c.child()]))
    children = [a.child(restart="temporary"), b.child(restart="transient"), sub, d.child()]
    async with open_system(children, strategy="one_for_one") as tree:
        counts = [tree.count_children()]
        b.stop()
        await trio.sleep(1)
        counts.append(tree.count_children())
        a.die()
        await trio.sleep(1)
        counts.append(tree.count_children())
    assert counts == [ChildCounts(4, 4, 1, 3), ChildCounts(4, 3, 1, 3), ChildCounts(3, 2, 1, 2)]
    assert dataclasses.asdict(counts[0]) == {
        "specs": 4,
        "active": 4,
        "supervisors": 1,
        "workers": 3,
    }


@story
async def test_a_snapshot_is_the_whole_tree_frozen() -> None:
    record = Record()
    a, b, c = cast(record, "abc")
    sub = Child("sub", SystemSupervisor([b.child(), c.child()]))
    async with open_system([a.child(), sub], name="top") as tree:
        before = tree.snapshot()
        a.die()
        await trio.sleep(1)
        after = tree.snapshot()

    def told(node: Any) -> tuple[Any, ...]:
        inner = [told(child) for child in node.children]
        return (node.key, node.path, node.kind, node.status, node.incarnation, inner)

    def tree_of(n: int) -> tuple[Any, ...]:
        leaves: list[Any] = [(k, f"top/sub/{k}", "worker", "running", 1, []) for k in "bc"]
        a_told: tuple[Any, ...] = ("a", "top/a", "worker", "running", n, [])
        sub_told = ("sub", "top/sub", "supervisor", "running", n, leaves)
        return ("top", "top", "supervisor", "running", 1, [a_told, sub_told])

    assert told(before) == tree_of(1)
    assert told(after) == tree_of(2)
    assert after.children[0].restarts == 1
    assert after.children[0].last_report is not None
    with pytest.raises((AttributeError, TypeError)):
        before.children[0].status = "other"  # type: ignore[misc, assignment]


@story
async def test_a_picture_has_a_line_for_each_in_order_and_shows_the_depth() -> None:
    record = Record()
    a, b, c, d = cast(record, "abcd")
    inner = Child("inner", SystemSupervisor([b.child(), c.child()]))
    children = [a.child(), Child("sub", SystemSupervisor([inner])), d.child()]
    async with open_system(children, name="top") as tree:
        lines = tree.render().splitlines()
    keys = ["top", "a", "sub", "inner", "b", "c", "d"]
    assert len(lines) == len(keys)
    columns = []
    for key, line in zip(keys, lines, strict=True):
        words = line.replace("/", " ").split()
        assert key in words, line
        columns.append(line.index(f"{key} ") if f"{key} " in line else line.rindex(key))
    depths = [0, 1, 1, 2, 3, 3, 1]
    assert sorted(set(columns)) == sorted({columns[depths.index(depth)] for depth in range(4)})
    assert all(
        (x < y) == (p < q)
        for x, p in zip(columns, depths, strict=True)
        for y, q in zip(columns, depths, strict=True)
    )
