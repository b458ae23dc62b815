"""What may be done to a tree from outside, and what is logged about it."""

from __future__ import annotations

import logging

import pytest
import trio

from actors import STAYS, Actor, cast, no_start
from listeners import one_by_one
from observing import observed
from spry_py import Child, DynamicSupervisor, Scope, SystemSupervisor, open_system
from stories import Record, story


class Kept(logging.Handler):
    def __init__(self, records: list[logging.LogRecord]) -> None:
        super().__init__()
        self._records = records

    def emit(self, record: logging.LogRecord) -> None:
        self._records.append(record)


def done(action: str, path: str) -> tuple[int, str]:
    return 200, f"{action} of {path} is done"


@story
async def test_restart_terminate_and_restart_of_what_is_down() -> None:
    record = Record()
    async with open_system(one_by_one(*cast(record, "ab"))) as tree, observed(tree) as outside:
        assert (await outside.post("/do/restart?path=top/a")).told == done("restart", "top/a")
        assert (await outside.post("/do/terminate?path=top/a")).told == done("terminate", "top/a")
        assert tree.find("a").status == "stopped"
        assert (await outside.post("/do/restart?path=top/a")).told == done("restart", "top/a")
        assert record.order == "+a1 +b1 -a1 +a2 -a2 +a3"


@story
async def test_replay_and_stop_of_the_only_tree_need_no_path() -> None:
    record = Record()
    a, b = cast(record, "ab")
    children = [a]

    async def system(scope: Scope) -> None:
        for actor in children:
            await scope.start(actor.child())

    async with open_system(system, name="top") as tree, observed(tree) as outside:
        children.append(b)
        assert (await outside.post("/do/replay")).told == done("replay", "top")
        assert (await outside.post("/do/stop")).told == done("stop", "top")
        assert record.order == "+a1 +b1 -b1 -a1"
        assert tree.status == "stopped"
        got = await outside.post("/do/replay")
        assert (got.status, got.json["error"]) == (409, "SupervisorStopped")


@story
async def test_a_subsystem_may_be_stopped_alone() -> None:
    record = Record()
    a, b = cast(record, "ab")
    inner = Child("inner", one_by_one(a), restart="temporary")
    async with open_system([inner, b.child()], name="top") as tree, observed(tree) as outside:
        assert (await outside.post("/do/stop?path=top/inner")).told == done("stop", "top/inner")
        assert record.order == "+a1 +b1 -a1"
        assert tree.status == "running"


@story
async def test_errors_of_the_tree_are_conflicts_with_their_sentence() -> None:
    a = Actor(Record(), "a", STAYS, [no_start], STAYS)
    children = [a.child(), Child("pool", DynamicSupervisor())]
    top = SystemSupervisor(children, name="top", strategy="one_for_one")
    async with open_system(top) as tree, observed(tree) as outside:

        async def refused(target: str) -> str:
            got = await outside.post(target)
            assert got.status == 409
            return f"{got.json['error']}: {got.json['message']}"

        assert await refused("/do/restart?path=top/x") == (
            "ChildNotFound: 'top' has no child 'x'; it has a, pool"
        )
        assert await refused("/do/restart?path=other/x") == (
            "ChildNotFound: there is no tree 'other' here; there is top"
        )
        assert await refused("/do/terminate?path=top") == (
            "IsRoot: 'top' is a root: it may be stopped or replayed, but is no one's child"
        )
        assert await refused("/do/replay?path=top/a") == (
            "ChildNotFound: 'top/a' is no supervisor, but a worker"
        )
        assert (await refused("/do/replay?path=top/pool")).startswith("TypeError: ")
        await outside.post("/do/terminate?path=top/a")
        assert (await refused("/do/restart?path=top/a")).startswith("ChildFailure: ")


@story
async def test_what_takes_longer_than_thirty_seconds_goes_on() -> None:
    slow = Actor(Record(), "a", cleanup=50)
    async with open_system(one_by_one(slow)) as tree, observed(tree) as outside:
        got = await outside.post("/do/terminate?path=top/a")
        assert trio.current_time() == 30
        assert got.told == (202, "terminate of top/a goes on")
        await trio.sleep(21)
        assert tree.find("a").status == "stopped"


@story
async def test_it_goes_on_when_the_asker_leaves() -> None:
    slow = Actor(Record(), "a", [5, *STAYS])
    async with open_system(one_by_one(slow)) as tree, observed(tree) as outside:
        stream = outside.connect()
        await stream.send_all(b"POST /do/restart?path=top/a HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await trio.sleep(1)
        await stream.aclose()
        await trio.sleep(5)
        child = tree.find("a")
        assert (child.status, child.incarnation) == ("running", 2)


@story
async def test_only_so_many_go_on_at_the_same_time() -> None:
    slow = Actor(Record(), "a", cleanup=50)
    async with open_system(one_by_one(slow)) as tree, observed(tree) as outside:
        statuses: list[int] = []

        async def ask() -> None:
            statuses.append((await outside.post("/do/terminate?path=top/a")).status)

        async with trio.open_nursery() as nursery:
            for _ in range(70):
                nursery.start_soon(ask)
        assert sorted(statuses) == [202] * 64 + [503] * 6
        await trio.sleep(50)
        assert tree.find("a").status == "stopped"


@story
async def test_each_action_is_logged_with_who_asked() -> None:
    records: list[logging.LogRecord] = []
    handler = Kept(records)
    logger = logging.getLogger("spry_py.top.a")
    logger.addHandler(handler)
    try:
        async with open_system(one_by_one(Actor(Record(), "a"))) as tree, observed(tree) as outside:
            await outside.post("/do/restart?path=top/a")
    finally:
        logger.removeHandler(handler)
    asked = [record for record in records if hasattr(record, "spry.observer.asker")]
    assert [(record.levelname, record.getMessage()) for record in asked] == [
        ("WARNING", "restart of top/a asked for by a test")
    ]
    assert vars(asked[0])["spry.observer.action"] == "restart"


@pytest.mark.parametrize("path", ["top/a%1b%5b31m", "top/a%0aINFO%20all%20is%20well"])
def test_what_was_asked_for_cannot_forge_a_record(
    path: str, caplog: pytest.LogCaptureFixture
) -> None:
    @story
    async def ask() -> None:
        async with open_system(one_by_one(Actor(Record(), "a"))) as tree, observed(tree) as outside:
            assert (await outside.post(f"/do/restart?path={path}")).status == 409

    ask()
    texts = [record.getMessage() for record in caplog.records]
    assert any("asked for" in text for text in texts)
    assert all(text.isprintable() for text in texts)
    assert all(record.name.isprintable() for record in caplog.records)
