"""Partitions and who serves which key, after Elixir's PartitionSupervisor, by number."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from enum import IntEnum, StrEnum
from typing import Any, NamedTuple
from uuid import UUID

import pytest
import trio

from actors import LISTENS, STAYS, Actor, no_start
from spry_py import (
    AlwaysRestart,
    Child,
    ChildFailure,
    ChildNotFound,
    DynamicSupervisor,
    NeverRestart,
    PartitionHandle,
    PartitionSupervisor,
    Scope,
    SupervisorStopped,
    SystemSupervisor,
    TooManyRestarts,
    open_system,
)
from spry_py._kernel.partition import number_of
from stories import Boom, Record, story


async def serve(index: int, *, task_status: trio.TaskStatus[int]) -> None:
    task_status.started(index)
    await trio.sleep_forever()


def idle(index: int) -> Child[Any]:
    """A partition whose started value is its index."""
    return Child("any", serve, index)


@asynccontextmanager
async def open_hall(
    make_child: Callable[[int], Child[Any]] = idle, **options: Any
) -> AsyncIterator[PartitionHandle]:
    """A partition supervisor called `hall`, as a root."""
    async with open_system(PartitionSupervisor(make_child, name="hall", **options)) as hall:
        assert isinstance(hall, PartitionHandle)
        yield hall


def cast(record: Record, count: int) -> list[Actor]:
    return [Actor(record, "abcdefgh"[index], LISTENS) for index in range(count)]


def counts(hall: PartitionHandle) -> tuple[int, int, int, int]:
    found = hall.count_children()
    return found.specs, found.active, found.supervisors, found.workers


def reached(hall: PartitionHandle) -> list[str]:
    """The children that the keys 0 to 7 lead to."""
    return [hall.partition(key).key for key in range(8)]


@story
async def test_e01_e02_paths_begin_with_the_name_or_the_key() -> None:
    found = []
    for name in (None, "hall"):
        async with open_system(PartitionSupervisor(idle, partitions=1, name=name)) as hall:
            found += [info.path for info in hall.which_children()]
    async with open_system([Child("key", PartitionSupervisor(idle, partitions=1))]) as tree:
        found.append(tree.find("key/0").path)
    assert found == ["system/0", "hall/0", "system/key/0"]


@story
async def test_e03_as_many_as_there_are_cpus_share_what_random_keys_bring() -> None:
    """None is lost: whoever asks for the key again finds what was started under it."""
    chance = random.Random(3)
    drawn: list[int | str] = [chance.randrange(1000) for _ in range(50)]
    drawn += [str(chance.random()) for _ in range(50)]
    async with open_hall(lambda index: Child("any", DynamicSupervisor())) as hall:
        assert hall.partitions == os.cpu_count()
        for number, key in enumerate(drawn):
            desk = hall.partition(key).value
            await desk.start_child(Child(f"job{number}", trio.sleep_forever))
        found = [
            hall.partition(key).value.child(f"job{number}").status
            for number, key in enumerate(drawn)
        ]
        spread = [len(child.value.which_children()) for child in hall.which_children()]
    assert (found, sum(spread)) == (["running"] * 100, 100)


@story
async def test_e04_its_handle_is_the_value_that_a_sibling_is_given() -> None:
    found = []

    async def user(hall: PartitionHandle) -> None:
        found.append(hall.partition("key").path)

    async def system(scope: Scope) -> None:
        hall = await scope.start(Child("hall", PartitionSupervisor(idle, partitions=1)))
        await scope.start(Child("user", user, hall, restart="temporary"))

    async with open_system(system, name="top") as tree:
        assert isinstance(tree.child("hall").value, PartitionHandle)
    assert found == ["top/hall/0"]


@story
async def test_e05_each_child_is_made_for_its_index_and_ints_are_taken_modulo() -> None:
    async with open_hall(partitions=3) as hall:
        assert [hall.partition(key).value for key in (0, 1, 2, 3, -1)] == [0, 1, 2, 0, 1]


@story
async def test_e05_other_keys_go_where_they_go_in_every_process() -> None:
    drawn: list[Any] = ["a", "b", "key", "", "äöü", "\ud800", b"key", ("a", 1), True, UUID(int=5)]
    async with open_hall(partitions=8) as hall:
        found = [hall.partition(key).key for key in drawn]
    assert found == ["3", "1", "1", "0", "7", "0", "3", "3", "1", "6"]


class Loud(str):
    """A `str` that says something else of itself."""

    __slots__ = ()

    def __str__(self) -> str:
        return "LOUD"

    def __repr__(self) -> str:
        return "LOUD"

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        return b"LOUD"


class Folded(str):
    """A `str` with an equality of its own, which no hash of the text follows."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, str) and self.casefold() == other.casefold()

    def __hash__(self) -> int:
        return hash(self.casefold())


class Hue(StrEnum):
    RED = "red"


class Size(IntEnum):
    BIG = 7


class Point(NamedTuple):
    x: int
    y: Any


class OwnUUID(UUID):
    """Equal to the plain one, and of another name."""


EQUAL: list[tuple[Any, Any]] = [
    (True, 1),
    (False, 0),
    ((True, "a"), (1, "a")),
    (Size.BIG, 7),
    ((Size.BIG,), (7,)),
    (Loud("quiet"), "quiet"),
    ((Loud("quiet"),), ("quiet",)),
    (Hue.RED, "red"),
    (Point(1, b"y"), (1, b"y")),
    (((Point(1, True),),), (((1, 1),),)),
    (OwnUUID(int=9), UUID(int=9)),
    ((OwnUUID(int=9),), (UUID(int=9),)),
    (-3, -3),
    ((10**5000,), (10**5000,)),
]


@pytest.mark.parametrize(("one", "other"), EQUAL)
@story
async def test_equal_keys_lead_to_the_same_partition(one: Any, other: Any) -> None:
    assert one == other
    async with open_hall(partitions=97) as hall:
        assert hall.partition(one).key == hall.partition(other).key


@story
async def test_keys_that_differ_are_spread() -> None:
    drawn: list[Any] = [(number, text) for number in range(-20, 20) for text in ("a", b"a", "b")]
    async with open_hall(partitions=97) as hall:
        assert len({hall.partition(key).key for key in drawn}) > 50


@pytest.mark.parametrize(
    "key",
    [
        3.0,
        None,
        3 + 0j,
        Decimal(3),
        pytest.param(frozenset("ab"), id="frozenset"),
        bytearray(b"a"),
        pytest.param(object(), id="object()"),
        Folded("a"),
        ("a", 3.0),
        (("a", (None,)),),
        [1],
        int,
    ],
    ids=repr,
)
@story
async def test_other_keys_are_refused(key: Any) -> None:
    """They may be equal to a key that goes elsewhere, or say something else in each process."""
    async with open_hall(partitions=2) as hall:
        with pytest.raises(TypeError, match=r"must be a str, bytes, int or UUID.*use str\(key\)"):
            hall.partition(key)
        await hall.resize(0)
        with pytest.raises(TypeError):
            hall.partition(key)


def test_a_key_leads_to_the_same_partition_in_another_process() -> None:
    keys = "('a', b'a', ('a', (1, b'b', UUID(int=3))), 'ä', -5)"
    program = (
        "from spry_py._kernel.partition import number_of\n"
        "from uuid import UUID\n"
        f"print([number_of(key) for key in {keys}])"
    )
    seed = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"
    elsewhere = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONHASHSEED": seed},
        check=True,
        capture_output=True,
        text=True,
    )
    here = [number_of(key) for key in ("a", b"a", ("a", (1, b"b", UUID(int=3))), "ä", -5)]
    assert elsewhere.stdout == f"{here}\n"


def make_nothing(index: int) -> Any:
    return None


WRONG: list[tuple[type[Exception], str, Any, dict[str, Any]]] = [
    (ValueError, "name must be non-empty and without '/', not ''", idle, {"name": ""}),
    (TypeError, "name must be a str, not 3", idle, {"name": 3}),
    (TypeError, "make_child must be a function that makes a Child .* not None", None, {}),
    (TypeError, r"make_child must make a Child, not None \(of index 0\)", make_nothing, {}),
    (ValueError, "partitions must be an int, 1 or more, not 0", idle, {"partitions": 0}),
    (ValueError, "partitions must be an int, 1 or more, not -1", idle, {"partitions": -1}),
    (TypeError, "partitions must be an int, 1 or more, not 1.5", idle, {"partitions": 1.5}),
    (TypeError, "partitions must be an int, 1 or more, not True", idle, {"partitions": True}),
    (TypeError, "breaker must be a breaker factory", idle, {"breaker": None}),
    (TypeError, "auto_shutdown", idle, {"auto_shutdown": "any_significant"}),
    (TypeError, "strategy", idle, {"strategy": "one_for_all"}),
]


@pytest.mark.parametrize(("error", "text", "make_child", "options"), WRONG)
def test_e06_to_e10_bad_values_are_refused_where_they_are_written(
    error: type[Exception], text: str, make_child: Any, options: dict[str, Any]
) -> None:
    with pytest.raises(error, match=text):
        PartitionSupervisor(make_child, **options)


def test_e07_what_makes_the_children_may_raise() -> None:
    with pytest.raises(ZeroDivisionError):
        PartitionSupervisor(lambda index: Child("any", serve, 1 // index), partitions=1)


@story
async def test_e11_e12_stop_returns_when_all_have_ended_in_reverse() -> None:
    record = Record()
    actors = cast(record, 3)
    async with open_hall(lambda index: actors[index].child(), partitions=3) as hall:
        await trio.sleep(1)
        await hall.stop()
        record("stopped")
    assert record.order == "+a1 +b1 +c1 -c1 -b1 -a1 stopped"


@story
async def test_e13_e14_e21_of_one_that_is_gone_only_the_last_is_known() -> None:
    async with open_hall(partitions=2) as hall:
        pass
    assert (hall.status, hall.partitions, hall.partition(0).status) == ("stopped", 2, "stopped")
    with pytest.raises(SupervisorStopped):
        await hall.resize(1)


@pytest.mark.parametrize(
    "sizes", [range(8, -1, -1), range(9), random.Random(15).sample(range(9), 9)]
)
@story
async def test_e15_resize(sizes: list[int]) -> None:
    before = 8
    async with open_hall(partitions=8) as hall:
        for size in sizes:
            assert await hall.resize(size) == before
            before = size
            assert (hall.partitions, counts(hall)) == (size, (8, size, 0, 8))
            if size:
                assert reached(hall) == [str(key % size) for key in range(8)]


@story
async def test_e16_with_zero_partitions_nobody_serves_any_key() -> None:
    async with open_hall(partitions=8) as hall:
        assert await hall.resize(0) == 8
        with pytest.raises(ChildNotFound, match="'hall' has zero partitions"):
            hall.partition("key")
        assert await hall.resize(8) == 0
        assert reached(hall) == list("01234567")


@pytest.mark.parametrize(
    ("error", "text", "size"),
    [
        (ValueError, "resize: partitions must be 2, the initial number, or less, not 3", 3),
        (ValueError, "resize: partitions must be an int, 0 or more, not -1", -1),
        (TypeError, "resize: partitions must be an int, 0 or more, not None", None),
    ],
)
@story
async def test_e17_the_initial_number_is_the_greatest(
    error: type[Exception], text: str, size: Any
) -> None:
    async with open_hall(partitions=2) as hall:
        with pytest.raises(error, match=text):
            await hall.resize(size)
        assert hall.partitions == 2


@story
async def test_e18_the_children_are_listed_by_the_number_that_leads_to_them() -> None:
    async with open_hall(partitions=8) as hall:
        listed = [info.key for info in hall.which_children()]
        assert (listed, reached(hall)) == (list("01234567"), list("01234567"))


@pytest.mark.parametrize(
    ("make_child", "expected"),
    [(idle, (3, 3, 0, 3)), (lambda index: Child("any", DynamicSupervisor()), (3, 3, 3, 0))],
    ids=["workers", "supervisors"],
)
@story
async def test_e19_e20_e22_counts(
    make_child: Callable[[int], Child[Any]], expected: tuple[int, int, int, int]
) -> None:
    async with open_hall(make_child, partitions=3) as hall:
        assert counts(hall) == expected


# Beyond the catalogue


@story
async def test_each_partition_is_restarted_alone_and_keeps_its_keys() -> None:
    record = Record()
    actors = cast(record, 3)
    async with open_hall(lambda index: actors[index].child(), partitions=3) as hall:
        handle = hall.partition(1)
        actors[1].die()
        await trio.sleep(1)
        assert (handle.value, handle.incarnation, hall.partition(1).value) == ("1#2", 2, "1#2")
    assert record.order == "+a1 +b1 +c1 -b1 +b2 -c1 -b2 -a1"


@story
async def test_its_breaker_escalates_and_its_parent_brings_all_of_them_back() -> None:
    record = Record()
    actors = cast(record, 2)
    make = PartitionSupervisor(
        lambda index: actors[index].child(), partitions=2, breaker=NeverRestart()
    )
    async with open_system([Child("hall", make)], breaker=AlwaysRestart()) as tree:
        hall = tree.child("hall").value
        await hall.resize(1)
        actors[0].die()
        await trio.sleep(1)
        assert (hall.partitions, hall.incarnation) == (2, 2)
        report = hall.last_report
        assert isinstance(report.exception, TooManyRestarts)
    assert record.order == "+a1 +b1 -b1 -a1 +a2 +b2 -b2 -a2"


@story
async def test_partitions_stop_and_start_one_by_one() -> None:
    record = Record()
    actors = [Actor(record, key, [1, *LISTENS], cleanup=1) for key in "abc"]
    async with open_hall(lambda index: actors[index].child(), partitions=3) as hall:
        record.take()
        await hall.resize(1)
        assert record.take() == [(4, "-c1"), (5, "-b1")]
        await hall.resize(3)
        assert record.take() == [(5, "~b2"), (6, "+b2"), (6, "~c2"), (7, "+c2")]


@story
async def test_whoever_is_going_is_given_no_keys_and_whoever_is_coming_none_yet() -> None:
    record = Record()
    actors = [Actor(record, key, [2, *LISTENS], cleanup=2) for key in "ab"]
    async with open_hall(lambda index: actors[index].child(), partitions=2) as hall:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(hall.resize, 1)
            await trio.sleep(1)
            assert hall.partition(1).key == "0"
        async with trio.open_nursery() as nursery:
            nursery.start_soon(hall.resize, 2)
            await trio.sleep(1)
            assert hall.partition(1).key == "0"
        assert hall.partition(1).key == "1"


@story
async def test_resizes_are_done_one_after_the_other() -> None:
    record = Record()
    actors = [Actor(record, key, LISTENS, cleanup=1) for key in "abc"]

    async def resize(size: int) -> None:
        record(f"{size} after {await hall.resize(size)}")

    async with open_hall(lambda index: actors[index].child(), partitions=3) as hall:
        record.take()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(resize, 1)
            await trio.sleep(0.5)
            nursery.start_soon(resize, 3)
        assert record.order == "-c1 -b1 1 after 3 +b2 +c2 3 after 1"


@story
async def test_a_partition_that_does_not_start_again_leaves_it_at_those_before() -> None:
    record = Record()
    actors = [Actor(record, key, STAYS, [no_start], STAYS) for key in "ab"]
    async with open_hall(lambda index: actors[index].child(), partitions=2) as hall:
        await hall.resize(1)
        with pytest.raises(ChildFailure, match="child 'hall/1' failed to start: Boom: no start"):
            await hall.resize(2)
        assert (hall.partitions, counts(hall)) == (1, (2, 1, 0, 2))
        assert await hall.resize(2) == 1
        assert (hall.partitions, counts(hall)) == (2, (2, 2, 0, 2))


@story
async def test_a_cancelled_resize_leaves_what_has_been_done() -> None:
    record = Record()
    actors = [Actor(record, key, LISTENS, cleanup=2) for key in "abc"]
    async with open_hall(lambda index: actors[index].child(), partitions=3) as hall:
        with trio.move_on_after(3):
            await hall.resize(0)
        assert (hall.partitions, trio.current_time()) == (1, 3)
        await trio.sleep(10)
        assert (hall.partitions, counts(hall)) == (1, (3, 1, 0, 3))


@pytest.mark.parametrize("restart", ["temporary", "transient", "permanent"])
@story
async def test_resizing_what_others_have_started_or_ended_by_hand(restart: Any) -> None:
    def make(index: int) -> Child[Any]:
        return Child("any", serve, index, restart=restart)

    async with open_hall(make, partitions=3) as hall:
        await hall.terminate_child("2")
        assert await hall.resize(1) == 3
        if restart != "temporary":
            await hall.restart_child("1")
        assert await hall.resize(3) == 1
        assert [hall.partition(key).status for key in range(3)] == ["running"] * 3


@story
async def test_a_replay_brings_all_partitions_back() -> None:
    record = Record()
    actors = cast(record, 3)
    async with open_hall(lambda index: actors[index].child(), partitions=3) as hall:
        await hall.resize(1)
        await hall.replay()
        assert (hall.partitions, reached(hall)) == (3, list("01201201"))
    assert record.order == "+a1 +b1 +c1 -c1 -b1 +b2 +c2 -c2 -b2 -a1"


@story
async def test_it_runs_in_any_trio_program() -> None:
    async with trio.open_nursery() as nursery:
        hall = await nursery.start(PartitionSupervisor(idle, partitions=2))
        assert hall.partition(1).value == 1
        await hall.stop()


@story
async def test_a_partition_that_fails_its_first_start_fails_all_of_them() -> None:
    async def fail(index: int) -> None:
        raise Boom(index)

    with pytest.raises(ChildFailure, match="child 'hall/0' failed to start: Boom: 0"):
        async with open_hall(lambda index: Child("any", fail, index), partitions=2):
            raise AssertionError("it never starts")


def test_equal_ones_are_told_from_others() -> None:
    one = PartitionSupervisor(idle, partitions=2)
    assert one == PartitionSupervisor(idle, partitions=2)
    assert hash(one) == hash(PartitionSupervisor(idle, partitions=2))
    assert one != PartitionSupervisor(idle, partitions=3)
    assert one != SystemSupervisor([])
    assert repr(one) == "PartitionSupervisor('system', partitions=2)"
