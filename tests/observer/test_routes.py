"""What is sent of a tree, and what never is."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import trio

from actors import Actor
from listeners import one_by_one
from observing import observed
from spry_py import (
    Backoff,
    Child,
    DynamicSupervisor,
    RateLimited,
    SystemSupervisor,
    open_system,
    roots,
)
from spry_py.observer.tree import shown, shown_lines
from stories import Record, story

FRESH = {
    "incarnation": 1,
    "restarts": 0,
    "restart": "permanent",
    "started_at": 0.0,
    "restart_at": None,
    "shutdown_by": None,
    "heartbeat_by": None,
    "in_a_row": 0,
    "failures": 0,
    "by_hand": 0,
    "queued": 0,
    "budget": None,
    "last": None,
    "recent": [],
    "host": None,
}
BUDGET = {"left": 3, "of": 3, "within": 10.0, "frees_at": None}
DB = FRESH | {"path": "top/a", "kind": "worker", "status": "running"}
TOP = FRESH | {"path": "top", "kind": "supervisor", "status": "running", "budget": BUDGET}

WAITING = {
    "status": "restarting",
    "started_at": None,
    "restart_at": 9.0,
    "in_a_row": 1,
    "failures": 1,
    "last": {
        "incarnation": 1,
        "reason": "failed",
        "burden": "none",
        "error": "Boom: a1",
        "ended_at": 2.0,
        "lifetime": 2.0,
    },
}


async def idle() -> None:
    await trio.sleep_forever()


@story
async def test_the_tree_is_a_list_of_nodes_with_parents_first() -> None:
    actor = Actor(Record(), "a")
    async with open_system(one_by_one(actor)) as tree, observed(tree) as outside:
        got = (await outside.get("/tree")).json
        assert got["now"] == trio.current_time()
        assert got["about"]["actions"] == ["restart", "terminate", "replay", "stop"]
        assert got["nodes"] == [TOP, DB]


@story
async def test_a_child_that_waits_for_its_restart() -> None:
    actor = Actor(Record(), "a")
    child = actor.child(backoff=Backoff(lambda state: 7.0))
    top = SystemSupervisor([child], name="top", strategy="one_for_one")
    async with open_system(top) as tree, observed(tree) as outside:
        await trio.sleep(2)
        actor.die()
        await trio.sleep(1)
        got = (await outside.get("/tree?under=top/a")).json
        last = got["nodes"][0]["last"]
        assert last.pop("time") > 0
        assert got["nodes"] == [DB | WAITING]
        above = (await outside.get("/tree?depth=0")).json["nodes"]
        assert above == [TOP | {"budget": BUDGET | {"left": 2, "frees_at": 12.0}}]


@story
async def test_depth_and_under_leave_out_the_rest() -> None:
    inner = SystemSupervisor([Child("leaf", idle)])
    top = SystemSupervisor([Child("inner", inner), Child("b", idle)], name="top")
    async with open_system(top) as tree, observed(tree) as outside:

        async def paths(target: str) -> list[str]:
            return [node["path"] for node in (await outside.get(target)).json["nodes"]]

        assert await paths("/tree") == ["top", "top/inner", "top/inner/leaf", "top/b"]
        assert await paths("/tree?depth=1") == ["top", "top/inner", "top/b"]
        assert await paths("/tree?under=top/inner") == ["top/inner", "top/inner/leaf"]
        assert await paths("/tree?under=top/inner&depth=0") == ["top/inner"]
        got = await outside.get("/tree?under=top/nothing")
        assert got.told == (409, "'top' has no child 'nothing'; it has inner, b")


class Secret:
    def __repr__(self) -> str:
        return "hunter2"


@story
async def test_nothing_secret_is_sent() -> None:
    async def serve(password: Secret, *, task_status: trio.TaskStatus[Secret]) -> Secret:
        token = Secret()
        task_status.started(token)
        if tree_is_up.is_set():
            await trio.sleep_forever()
        await tree_is_up.wait()
        return password

    tree_is_up = trio.Event()
    # in a partial, since that shows its arguments as it is shown itself
    start: Any = partial(serve, Secret())
    child = Child("api", start, backoff=lambda state: 1.0)
    async with open_system([child], name="top") as tree, observed(tree) as outside:
        events = await outside.events()
        await events.of("tree")
        tree_is_up.set()
        sent = [repr(await events.of("changes"))]
        await trio.sleep(2)
        for target in ("/tree", "/child?path=top/api", "/stack?path=top/api"):
            got = await outside.get(target)
            assert got.status == 200
            sent.append(got.body.decode())
        assert not any("hunter2" in text for text in sent)
        assert "incarnation 1 ended (normal)" in sent[0]
        assert 'test_nothing_secret_is_sent.<locals>.serve"' in sent[2]
        assert "await trio.sleep_forever()" in sent[3]


@story
async def test_what_is_said_of_one_child() -> None:
    top = SystemSupervisor(
        [Child("pool", DynamicSupervisor()), Child("a", idle, shutdown=2, heartbeat=3.0)],
        name="top",
        strategy="rest_for_one",
        breaker=RateLimited(5, 60.0),
    )
    async with open_system(top) as tree, observed(tree) as outside:
        got = (await outside.get("/child?path=top/a")).json
        assert got["function"].endswith("test_routes.idle")
        assert got["options"] == {
            "restart": "permanent",
            "shutdown": 2,
            "start_timeout": "inf",
            "start_attempts": 1,
            "run_timeout": "inf",
            "heartbeat": 3.0,
            "on_unrecoverable": "escalate",
            "significant": False,
        }
        root = (await outside.get("/child?path=top")).json
        assert root["options"]["strategy"] == "rest_for_one"
        assert (await outside.get("/child?path=top/pool")).json["function"] == "DynamicSupervisor"


@story
async def test_all_roots_are_shown_and_none_twice_under_one_name() -> None:
    assert roots() == ()
    async with observed() as outside:
        assert (await outside.get("/tree")).json["nodes"] == []
        assert (await outside.post("/do/stop")).told == (409, "name a tree: path is one of none")
        async with open_system([Child("a", idle)], name="top") as one:
            async with open_system([Child("b", idle)], name="top") as other:
                nodes = (await outside.get("/tree")).json["nodes"]
                paths = [node["path"] for node in nodes]
                assert paths == ["top", "top/a", "top#2", "top#2/b"]
                assert (await outside.post("/do/stop?path=top%232")).status == 200
                await other.wait()
            assert one.status == "running"
            nodes = (await outside.get("/tree")).json["nodes"]
            assert [node["path"] for node in nodes] == ["top", "top/a"]


@story
async def test_a_deep_tree_is_sent_flat() -> None:
    system: Any = [Child("leaf", idle)]
    for _ in range(300):
        system = [Child("x", SystemSupervisor(system))]
    async with open_system(system, name="top") as tree, observed(tree) as outside:
        nodes = (await outside.get("/tree")).json["nodes"]
        assert len(nodes) == 302
        assert nodes[-1]["path"] == "top/" + "x/" * 300 + "leaf"


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("plain", "plain"),
        ("naïve 水", "naïve 水"),
        ("a\x1b[31mb", "a\\x1b[31mb"),
        ("line\nbreak", "line\\nbreak"),
        ("right\u202eto left", "right\\u202eto left"),
        ("half \ud800", "half \\ud800"),
        ("x" * 600, "x" * 499 + "…"),
    ],
)
def test_what_would_not_be_seen_is_shown(text: str, what: str) -> None:
    assert shown(text) == what


def test_the_end_of_a_long_text_counts() -> None:
    assert shown_lines("a\x07\nb") == "a\\x07\nb"
    assert shown_lines("x" * 100 + "\nthe end", 12) == "…xxx\nthe end"
