"""docs/observer-api.json says what the observer does: each route and each status of it is real."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, get_args

import pytest
import trio

from actors import Actor
from observing import TOKEN, Broken, Outside, observed, read_all, read_reply, written
from spry_py import (
    Kind,
    RestartType,
    Scope,
    Status,
    SystemHandle,
    SystemSupervisor,
    open_system,
)
from spry_py.observer.rights import ROUTES, Rights
from stories import Record, story

API = json.loads(
    (Path(__file__).parents[2] / "docs" / "observer-api.json").read_text(encoding="utf-8")
)
CALLS = {
    (path, method.upper()): call
    for path, one in API["paths"].items()
    for method, call in one.items()
}
STATUSES = [
    (path, method, int(status))
    for (path, method), call in CALLS.items()
    for status in call["responses"]
]
# what each route is asked for, where it is asked for anything
FULL = {
    "/child": "/child?path=top/a",
    "/stack": "/stack?path=top/a",
    "/do/restart": "/do/restart?path=top/a",
    "/do/terminate": "/do/terminate?path=top/a",
}
Make = Callable[[Outside, str, str], Awaitable[int]]


def test_the_routes_are_those_that_there_are() -> None:
    assert sorted(CALLS) == sorted(ROUTES.items())


@pytest.mark.parametrize(("path", "method", "status"), STATUSES)
def test_a_status_is_real(path: str, method: str, status: int) -> None:
    target = FULL.get(path) or path

    @story
    async def make() -> None:
        # whatever is done with it takes long
        slow = Actor(Record(), "a", cleanup=50 if status in (202, 503) else 0)
        runs: list[int] = []

        async def system(scope: Scope) -> None:
            await scope.start(slow.child(shutdown=float("inf")))
            if runs and status == 202:
                await trio.sleep(50)
            runs.append(1)

        top = SystemSupervisor(system, name="top")
        async with open_system(top) as tree, observed(_root(tree, status)) as outside:
            made = await MAKE.get(status, _plainly)(outside, method, target)
            assert made == status

    make()


class Unfindable(Broken):
    """Nothing is found below it, either."""

    __slots__ = ()

    def find(self, path: str) -> Any:
        raise ValueError(path)


def _root(tree: SystemHandle, status: int) -> SystemHandle:
    return Unfindable(tree._root, (), tree._last) if status == 500 else tree


async def _plainly(outside: Outside, method: str, target: str) -> int:
    if target != "/events":
        return (await outside.send(written(method, target))).status
    events = await outside.events()
    kind, _ = await events.next()
    return 200 if kind == "about" else 0


async def _with(outside: Outside, data: bytes) -> int:
    return (await outside.send(data)).status


async def _missing_token(outside: Outside, method: str, target: str) -> int:
    return (await outside.send(written(method, target), Rights((), TOKEN))).status


async def _slowly(outside: Outside, method: str, target: str) -> int:
    stream = outside.connect()
    await stream.send_all(written(method, target)[:-2])
    return read_reply(await read_all(stream)).status


async def _unknown(outside: Outside, method: str, target: str) -> int:
    path, _, _ = target.partition("?")
    name = "under" if path == "/tree" else "path"
    return await _with(outside, written(method, f"{path}?{name}=top/x"))


async def _of_too_many(outside: Outside, method: str, target: str) -> int:
    if target == "/events":
        for _ in range(32):
            events = await outside.events()
            await events.next()
        return (await outside.send(written(method, target))).status
    async with trio.open_nursery() as nursery:
        for _ in range(64):
            # of terminations any number may wait for the same end
            nursery.start_soon(outside.post, "/do/terminate?path=top/a")
        await trio.sleep(1)
        return (await outside.send(written(method, target))).status


MAKE: dict[int, Make] = {
    400: lambda outside, method, target: _with(outside, written(method, "/tree?x=%ff")),
    401: _missing_token,
    403: lambda outside, method, target: _with(
        outside, written(method, target, {"Origin": "http://evil.example"})
    ),
    405: lambda outside, method, target: _with(outside, written("PATCH", target)),
    408: _slowly,
    409: _unknown,
    413: lambda outside, method, target: _with(
        outside, written(method, target, {"Content-Length": "9999"}) + b"x" * 9999
    ),
    421: lambda outside, method, target: _with(
        outside, written(method, target, {"Host": "evil.example"})
    ),
    431: lambda outside, method, target: _with(
        outside, written(method, target, {"X": "x" * 30_000})
    ),
    503: _of_too_many,
}


# Shapes


def test_the_words_are_those_that_there_are() -> None:
    node = API["components"]["schemas"]["Node"]["properties"]
    words = {"kind": Kind, "status": Status, "restart": RestartType}
    for name, known in words.items():
        assert node[name]["enum"] == list(get_args(known))


def required(schema: Any) -> set[str]:
    """The keys that a schema wants."""
    if "$ref" in schema:
        return required(API["components"]["schemas"][schema["$ref"].rpartition("/")[2]])
    if "allOf" in schema:
        return set().union(*map(required, schema["allOf"]))
    return set(schema.get("required", ()))


def known(schema: Any) -> set[str]:
    if "$ref" in schema:
        return known(API["components"]["schemas"][schema["$ref"].rpartition("/")[2]])
    if "allOf" in schema:
        return set().union(*map(known, schema["allOf"]))
    return set(schema["properties"])


@story
async def test_what_is_sent_has_the_keys_that_are_said() -> None:
    a = Actor(Record(), "a")
    top = SystemSupervisor([a.child()], name="top", strategy="one_for_one")
    async with open_system(top) as tree, observed(tree) as outside:
        await trio.sleep(1)
        a.die()
        await trio.sleep(1)
        for (path, method), call in CALLS.items():
            reply = call["responses"]["200"]["content"].get("application/json")
            if reply is None or path == "/do/stop":
                continue
            found = (await outside.send(written(method, FULL.get(path) or path))).json
            assert required(reply["schema"]) <= set(found) <= known(reply["schema"])
        events = await outside.events()
        told = {}
        while "changes" not in told:
            kind, data = await events.next()
            told[kind] = data
            if kind == "tree":
                a.die()
        for kind, name in (("about", "About"), ("tree", "Tree"), ("changes", "Changes")):
            assert required({"$ref": name}) <= set(told[kind]) <= known({"$ref": name})
        assert set(told["tree"]["nodes"][1]) == known({"$ref": "Node"})
        assert set(told["changes"]["facts"][0]) == known({"$ref": "Fact"})
        got = await outside.get("/incidents")
        item = API["components"]["schemas"]["Incidents"]["properties"]["incidents"]["items"]
        assert set(got.json["incidents"][0]) == known(item)
        assert re.fullmatch("application/json", got.headers["content-type"])
