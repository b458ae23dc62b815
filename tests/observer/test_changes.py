"""What those who look are sent: the tree once, then what has changed."""

from __future__ import annotations

import random
from contextlib import suppress
from typing import Any

import pytest
import trio

from actors import Actor, cast
from listeners import one_by_one
from observing import SOCKET, Events, observed, written
from replays import Wanted
from spry_py import (
    AlwaysRestart,
    Backoff,
    Child,
    DynamicSupervisor,
    Scope,
    SpryError,
    SystemHandle,
    SystemSupervisor,
    open_system,
)
from spry_py._http import Limits
from spry_py.observer import changes
from stories import Record, story


async def idle() -> None:
    await trio.sleep_forever()


def told(data: Any) -> list[str]:
    return [f"{fact['path']} {fact['text']}" for fact in data["facts"]]


def statuses(data: Any) -> dict[str, str]:
    return {node["path"]: node["status"] for node in data["nodes"]}


@story
async def test_a_crash_with_its_backoff() -> None:
    a, b = cast(Record(), "ab")
    children = [a.child(backoff=Backoff(lambda state: 2.1)), b.child()]
    top = SystemSupervisor(children, name="top", strategy="one_for_one")
    async with open_system(top) as tree, observed(tree) as outside:
        events = await outside.events()
        assert (await events.next())[0] == "about"
        kind, data = await events.next()
        assert kind == "tree"
        assert statuses(data) == {"top": "running", "top/a": "running", "top/b": "running"}
        a.die()
        kind, data = await events.next()
        assert (kind, data["now"]) == ("changes", 0.25)
        assert statuses(data) == {"top": "running", "top/a": "restarting"}
        assert data["nodes"][0]["budget"]["left"] == 2
        assert data["nodes"][1]["restart_at"] == 2.1
        assert told(data) == [
            "top/a incarnation 1 failed: Boom: a1",
            "top/a incident 1 begins",
            "top/a will be restarted in 2.1 s",
        ]
        kind, data = await events.of("changes", "tree")
        assert (kind, data["now"]) == ("changes", 2.25)
        assert statuses(data) == {"top/a": "running"}
        assert data["nodes"][0]["recent"] == [2.1]


@story
async def test_much_that_happens_to_a_child_is_one_change() -> None:
    actor = Actor(Record(), "a")
    pool = DynamicSupervisor(name="top")
    async with open_system(pool) as tree, observed(tree) as outside:
        events = await outside.events()
        await events.of("tree")
        for _ in range(5):
            child = await tree.start_child(actor.child(restart="temporary"))
            await child.terminate()
        child = await tree.start_child(actor.child())
        _, data = await events.of("changes")
        assert len(data["nodes"]) == 1
        assert data["gone"] == []
        assert len(data["facts"]) > 10
        await child.terminate()
        _, data = await events.of("changes")
        assert (data["nodes"], data["gone"]) == ([], ["top/a"])


@story
async def test_a_subsystem_that_comes_again_takes_along_what_it_does_not_declare_any_more() -> None:
    record = Record()
    a, b, c = cast(record, "abc")
    runs = [0]

    async def inner(scope: Scope) -> None:
        runs[0] += 1
        await scope.start(a.child())
        await scope.start((b if runs[0] == 1 else c).child())

    system = [Child("inner", SystemSupervisor(inner))]
    async with open_system(system, name="top") as tree, observed(tree) as outside:
        events = await outside.events()
        kind, data = await events.of("tree")
        known = {node["path"]: node for node in data["nodes"]}
        a.die()
        await trio.sleep(1)
        for _ in range(2):
            kind, data = await events.of("changes", "tree")
            if kind == "tree":
                known.clear()
            known |= {node["path"]: node for node in data["nodes"]}
            for gone in data.get("gone", ()):
                known.pop(gone, None)
            if data.get("gone"):
                break
        assert sorted(known) == ["top", "top/inner", "top/inner/a", "top/inner/c"]


class Known:
    """The trees as one who looks has been told of them."""

    def __init__(self) -> None:
        self.nodes: dict[str, Any] = {}

    async def keep_up(self, events: Events) -> None:
        while True:
            kind, data = await events.of("tree", "changes")
            if kind == "tree":
                self.nodes.clear()
            for path in data.get("gone", ()):
                self.nodes.pop(path, None)
            self.nodes |= {node["path"]: node for node in data["nodes"]}


@pytest.mark.parametrize("seed", range(6))
def test_who_looks_knows_the_same_in_the_end_whatever_happens_between_slices(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "SLICE", 1)
    monkeypatch.setattr(changes, "_MANY", 1)
    dice = random.Random(seed)

    async def do_something(pool: SystemHandle, number: int) -> None:
        key = f"part-{dice.randrange(12)}"
        with suppress(SpryError):
            match dice.randrange(5):
                case 0 | 1:
                    part = SystemSupervisor(
                        [Child("a", idle), Child("b", idle)], breaker=AlwaysRestart()
                    )
                    await pool.start_child(Child(key, part))
                case 2:
                    await pool.terminate_child(key)
                case 3:
                    pool.system(key).child("a").fail(ValueError(str(number)))
                case _:
                    pool.child(key).fail(ValueError(str(number)))

    @story
    async def storm() -> None:
        known = Known()
        pool = DynamicSupervisor(name="top", breaker=AlwaysRestart())
        async with (
            open_system(pool) as tree,
            observed(tree) as outside,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(known.keep_up, await outside.events())
            for number in range(200):
                await do_something(tree, number)
                await trio.sleep(dice.choice((0, 0, 0, 0.01, 0.3)))
            # all is looked through after ten seconds: what is wrong until then is to be seen
            await trio.sleep(2)
            real = (await outside.get("/tree")).json["nodes"]
            recent = {"recent": None}
            assert {path: node | recent for path, node in known.nodes.items()} == {
                node["path"]: node | recent for node in real
            }
            nursery.cancel_scope.cancel()

    storm()


@story
async def test_all_who_look_see_the_same_and_who_comes_later_sees_the_whole() -> None:
    actor = Actor(Record(), "a")
    async with open_system(one_by_one(actor)) as tree, observed(tree) as outside:
        first = await outside.events()
        await first.of("tree")
        actor.die()
        one = await first.of("changes")
        second = await outside.events()
        _, data = await second.of("tree")
        assert [node["incarnation"] for node in data["nodes"]] == [1, 2]
        actor.die()
        assert await first.of("changes") == await second.of("changes") != one


@story
async def test_who_is_slow_gets_the_tree_again_and_holds_up_no_one() -> None:
    pool = DynamicSupervisor(name="top", max_children=300)
    async with open_system(pool) as tree, observed(tree) as outside:
        quick = await outside.events()
        await quick.of("tree")
        stream = outside.connect(SOCKET, Limits(write=1000.0), "lockstep")
        await stream.send_all(written("GET", "/events"))
        slow = Events(stream)
        await slow.of("tree")
        for number in range(300):
            await tree.start_child(Child(f"key-{number}-{'x' * 5_000}", idle))
            if number % 50 == 49:
                await quick.of("changes")
        await trio.sleep(30)
        assert sum(viewer.size for viewer in outside.changes.viewers) < 3 << 20
        _, data = await slow.of("tree")
        assert len(data["nodes"]) == 301


@story
async def test_a_new_order_is_seen_at_once() -> None:
    a, b, c = cast(Record(), "abc")
    wanted = Wanted((a, ""), (c, ""))
    async with open_system(wanted, name="top") as tree, observed(tree) as outside:
        events = await outside.events()
        await events.of("tree")
        await trio.sleep(1)
        wanted.lines = ((a, ""), (b, ""), (c, ""))
        await tree.replay()
        _, data = await events.of("tree")
        assert list(statuses(data)) == ["top", "top/a", "top/b", "top/c"]
        assert trio.current_time() <= 1.25


@story
async def test_the_end_of_a_tree_is_seen() -> None:
    async with observed() as outside:
        events = await outside.events()
        assert (await events.of("tree"))[1]["nodes"] == []
        async with open_system([Child("a", idle)], name="top"):
            _, data = await events.of("changes")
            assert statuses(data) == {"top": "running", "top/a": "running"}
        _, data = await events.of("changes")
        assert sorted(data["gone"]) == ["top", "top/a"]


@story
async def test_what_no_event_tells_is_seen_within_ten_seconds() -> None:
    actor = Actor(Record(), "a")
    async with open_system(one_by_one(actor)) as tree, observed(tree) as outside:
        events = await outside.events()
        await events.of("tree")
        actor.die()
        _, data = await events.of("changes")
        assert data["nodes"][0]["budget"]["left"] == 2
        while data["nodes"][0]["budget"] is None or data["nodes"][0]["budget"]["left"] < 3:
            _, data = await events.of("changes")
        assert 10 <= trio.current_time() <= 21


@story
async def test_nothing_is_kept_while_no_one_looks() -> None:
    actor = Actor(Record(), "a")
    async with open_system(one_by_one(actor)) as tree, observed(tree) as outside:
        events = await outside.events()
        await events.of("tree")
        await events.stream.aclose()
        await trio.sleep(1)
        actor.die()
        await trio.sleep(5)
        kept = vars(outside.changes).items()
        held = {name for name, value in kept if isinstance(value, dict | list | set) and value}
        assert held == {"_heard", "_recent"}
        assert outside.changes._recent.keys() == {"top/a"}
