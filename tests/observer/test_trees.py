"""Which trees are seen: those of one root or of all, those inside others, and those elsewhere."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import trio

from observing import observed
from spry_py import Child, SystemHandle, open_system, roots
from spry_py.observer.rows import tree_lines
from stories import story, story_with_threads


async def idle() -> None:
    await trio.sleep_forever()


async def opens_one(name: str) -> None:
    async with open_system([Child("leaf", idle)], name=name):
        await trio.sleep_forever()


def hosts(data: Any) -> dict[str, str | None]:
    return {node["path"]: node["host"] for node in data["nodes"]}


@story
async def test_a_root_in_the_code_of_a_child_is_shown_below_it() -> None:
    children = [Child("one", opens_one, "in"), Child("two", opens_one, "in")]
    async with open_system(children, name="top") as tree, observed() as outside:
        data = (await outside.get("/tree")).json
        assert hosts(data) == {
            "top": None,
            "top/one": None,
            "top/two": None,
            "in": "top/one",
            "in/leaf": None,
            "in#2": "top/two",
            "in#2/leaf": None,
        }
        lines = [line.partition(" running")[0].rstrip() for line in tree_lines(data["nodes"], 0)]
        inner = ["    in/", "      leaf"]
        assert lines == ["top/", "  one", *inner, "  two", "    in#2/", "      leaf"]
        assert (await outside.get("/stack?path=in/leaf")).status == 200
        events = await outside.events()
        assert hosts((await events.of("tree"))[1]) == hosts(data)
        await tree.child("two").terminate()
        _, data = await events.of("changes")
        assert sorted(data["gone"]) == ["in#2", "in#2/leaf"]


@story
async def test_a_host_that_is_not_seen_is_not_named() -> None:
    async with open_system([Child("one", opens_one, "in")], name="top"):
        async with observed(await _root("in")) as outside:
            assert hosts((await outside.get("/tree")).json) == {"in": None, "in/leaf": None}
        async with observed(await _root("top")) as outside:
            assert hosts((await outside.get("/tree")).json) == {"top": None, "top/one": None}


async def _root(name: str) -> SystemHandle:
    await trio.sleep(1)
    return next(root for root in roots() if root.key == name)


# Elsewhere


@contextmanager
def elsewhere(*children: Child[Any]) -> Iterator[None]:
    """A tree named ``far`` in a run of trio of its own, in another thread."""
    is_up = threading.Event()
    stop: list[Callable[[], object]] = []

    async def main() -> None:
        token = trio.lowlevel.current_trio_token()
        async with open_system(children, name="far", strategy="one_for_one") as tree:
            stop.append(lambda: token.run_sync_soon(tree.abort))
            is_up.set()
            await tree.wait()

    thread = threading.Thread(target=trio.run, args=(main,))
    thread.start()
    assert is_up.wait(20)
    try:
        yield
    finally:
        with suppress(trio.RunFinishedError):
            stop[0]()
        thread.join()


@story_with_threads
async def test_a_tree_of_another_run_of_trio_is_looked_at_and_acted_upon_there() -> None:
    with elsewhere(Child("a", idle), Child("b", idle)):
        async with observed() as outside:
            data = (await outside.get("/tree")).json
            paths = {node["path"]: node["status"] for node in data["nodes"]}
            assert paths == {"far": "running", "far/a": "running", "far/b": "running"}
            ages = [data["now"] - node["started_at"] for node in data["nodes"]]
            assert all(0 <= age < 60 for age in ages), "their clock is not ours"
            stack = (await outside.get("/stack?path=far/a")).json["stack"]
            assert "waiting in trio.sleep_forever" in stack
            events = await outside.events()
            await events.of("tree")
            done = await outside.post("/do/terminate?path=far/a")
            assert done.told == (200, "terminate of far/a is done")
            _, data = await events.of("changes")
            assert [(node["path"], node["status"]) for node in data["nodes"]] == [
                ("far/a", "stopped")
            ]
            refused = await outside.post("/do/restart?path=far/x")
            assert refused.told == (409, "'far' has no child 'x'; it has a, b")
            assert (await outside.post("/do/stop?path=far")).status == 200
            _, data = await events.of("changes")
            while not data["gone"]:
                _, data = await events.of("changes")
            assert sorted(data["gone"]) == ["far", "far/a", "far/b"]


@story_with_threads
async def test_a_tree_elsewhere_that_begins_later_is_found() -> None:
    async with observed() as outside:
        events = await outside.events()
        assert (await events.of("tree"))[1]["nodes"] == []
        async with open_system([Child("a", idle)], name="near"):
            await events.of("changes")
            with elsewhere(Child("a", idle)):
                _, data = await events.of("changes")
                assert {node["path"] for node in data["nodes"]} >= {"far", "far/a"}
