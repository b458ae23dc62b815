"""Stages and pipelines are frozen values, and bad ones are refused where they are written."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import trio

import spry_py.pipes
from pipelines import counting
from spry_py import Child, ReusedKey, SystemSupervisor, TerminationReport, open_system
from spry_py.pipes import DROP, Pipe, Stage, Worker, pipeline
from spry_py.processes import process
from stories import Boom, story


async def work(pipe: Pipe[Any, Any]) -> None:
    await trio.sleep_forever()


def same(item: object) -> object:
    return item


SOURCE = Worker("source", work)

REFUSED: list[tuple[Callable[[], object], str]] = [
    (lambda: Stage("a/b", same), "ValueError: Stage: key must be non-empty and without '/'"),
    (
        lambda: Stage("a", 3),  # type: ignore[arg-type]
        "TypeError: Stage 'a': function must be a function of one item, not 3",
    ),
    (
        lambda: Stage("a", None),  # type: ignore[arg-type]
        "TypeError: Stage 'a': function must be a function of one item, not None",
    ),
    (
        lambda: Stage("a", process(print)),  # type: ignore[arg-type]
        "TypeError: Stage 'a': function must be a function of one item, not Function",
    ),
    (
        lambda: Stage("a", SystemSupervisor([])),  # type: ignore[arg-type]
        "TypeError: Stage 'a': function must be a function of one item, not SystemSupervisor",
    ),
    (
        lambda: Worker("a", same),  # type: ignore[arg-type]
        "TypeError: Worker 'a': function must be an async function, but <function same",
    ),
    (lambda: Stage("a", same, workers=0), "ValueError: Stage 'a': workers must be an int, 1 or"),
    (lambda: Stage("a", same, capacity=-1), "ValueError: Stage 'a': capacity must be an int, 0 or"),
    (
        lambda: Stage("a", same, capacity=float("inf")),  # type: ignore[arg-type]
        "TypeError: Stage 'a': capacity must be an int, 0 or more, not inf",
    ),
    (
        lambda: Stage("a", same, on_crash="retry"),  # type: ignore[arg-type]
        "ValueError: Stage 'a': on_crash must be one of 'redeliver', 'forward', not 'retry'",
    ),
    (
        lambda: Stage("a", same, max_deliveries=0),
        "ValueError: Stage 'a': max_deliveries must be an int, 1 or more, or inf, not 0",
    ),
    (
        lambda: Stage("a", same, restart="permanent"),  # type: ignore[call-arg]
        "TypeError: Stage 'a': restart is always 'transient', and must not be given",
    ),
    (lambda: Stage("a", same, shutdown=-1), "ValueError: Child 'a': shutdown must be 0 or more"),
    (pipeline, "ValueError: pipeline: stages must not be empty"),
    (
        lambda: pipeline(SOURCE, same),  # type: ignore[arg-type]
        "TypeError: pipeline: stages must be Stage or Worker objects, not <function same",
    ),
    (
        lambda: pipeline(Stage("a", same)),
        "TypeError: pipeline: the first stage must be a Worker, which puts items into its pipe, no",
    ),
    (
        lambda: pipeline(SOURCE, dead_letters=[]),  # type: ignore[arg-type]
        "TypeError: pipeline: dead_letters must be a trio.MemorySendChannel or None, not []",
    ),
    (
        lambda: pipeline(SOURCE, upstream=trio.open_memory_channel[Any](0)[0]),  # type: ignore[arg-type]
        "TypeError: pipeline: upstream must be a trio.MemoryReceiveChannel or None, not <send ch",
    ),
    (
        lambda: pipeline(SOURCE, downstream=print),  # type: ignore[arg-type]
        "TypeError: pipeline: downstream must be a trio.MemorySendChannel or None, not <built-in",
    ),
    (
        lambda: Pipe("a", "b"),  # type: ignore[arg-type]
        "TypeError: Pipe 'a': upstream must be a trio.MemoryReceiveChannel or None, not 'b'",
    ),
]


@pytest.mark.parametrize(("make", "text"), REFUSED, ids=[text[:60] for _, text in REFUSED])
def test_bad_values_are_refused_where_they_are_written(
    make: Callable[[], object], text: str
) -> None:
    with pytest.raises((TypeError, ValueError)) as caught:
        make()
    assert f"{type(caught.value).__name__}: {caught.value}".startswith(text)


def test_a_key_is_used_once_also_by_several_workers() -> None:
    with pytest.raises(ReusedKey):
        pipeline(SOURCE, Stage("a", same, workers=2), Stage("a-2", same))


def test_stages_are_equal_if_all_fields_are_and_frozen() -> None:
    stage = Stage("a", same, workers=2, backoff=max)
    assert stage == Stage("a", same, workers=2, backoff=max)
    assert hash(stage) == hash(Stage("a", same, workers=2, backoff=max))
    assert stage != Stage("a", same, workers=2)
    assert Worker("a", work) != Stage("a", work)
    assert stage != 3
    assert pipeline(SOURCE, stage) == pipeline(SOURCE, stage)
    assert repr(stage) == "Stage('a', same)"
    assert repr(DROP) == "DROP"
    with pytest.raises(AttributeError, match="Stage 'a' is frozen: workers cannot be set"):
        stage.workers = 3
    with pytest.raises(AttributeError, match="Stage 'a' is frozen: key cannot be deleted"):
        del stage.key


class Array:
    """Equality as of numpy: it gives another one, which has no truth."""

    def __init__(self, *values: float) -> None:
        self.values = values

    def __eq__(self, other: object) -> Any:
        return Array(*(value == other for value in self.values))

    def __bool__(self) -> bool:
        raise ValueError("the truth value of an array is ambiguous")

    __hash__ = None  # type: ignore[assignment]


ARRAY = Array(1, 2)


most: Any = max


@pytest.mark.parametrize(
    ("one", "other", "are_equal"),
    [
        (partial(most, 1), partial(most, 1), True),
        (partial(most, 1), partial(most, 2), False),
        (partial(most, 1), partial(min, 1), False),
        (partial(most, 1, 2), partial(most, 1), False),
        (partial(most, key=abs), partial(most, key=abs), True),
        (partial(most, key=abs), partial(most, key=len), False),
        (partial(most, key=abs), partial(most, default=abs), False),
        (partial(most, "a", key=abs), partial(most, "a", "key", abs), False),
        (partial(most, partial(abs, 1)), partial(most, partial(abs, 1)), True),
        (partial(most, partial(abs, 1)), partial(most, partial(abs, 2)), False),
        (partial(most, ARRAY), partial(most, ARRAY), True),
        (partial(most, ARRAY), partial(most, Array(1, 2)), False),
        (partial(most, 1), max, False),
    ],
)
def test_partials_are_equal_if_their_functions_and_arguments_are(
    one: Any, other: Any, are_equal: bool
) -> None:
    assert (Stage("a", one) == Stage("a", other)) is are_equal
    options: Any = (
        {"on_termination": work, "backoff": one},
        {"on_termination": work, "backoff": other},
    )
    assert (Stage("a", same, **options[0]) == Stage("a", same, **options[1])) is are_equal
    lines = pipeline(SOURCE, Stage("a", one)), pipeline(SOURCE, Stage("a", other))
    assert (lines[0] == lines[1]) is are_equal


def test_what_is_public_is_named_after_its_module() -> None:
    named = {name: getattr(spry_py.pipes, name) for name in spry_py.pipes.__all__}
    assert {item.__module__ for item in named.values() if isinstance(item, type)} == {
        "spry_py.pipes"
    }


@story
async def test_options_of_a_stage_are_those_of_its_workers() -> None:
    reports: list[TerminationReport] = []

    async def hook(report: TerminationReport) -> None:
        reports.append(report)

    async def fail_once(pipe: Pipe[Any, Any]) -> None:
        if not reports:
            raise Boom

    line = pipeline(Worker("source", fail_once, on_termination=hook, shutdown=3))
    async with open_system(line) as handle:
        await handle.wait()
    assert [(report.key, report.failed) for report in reports] == [
        ("source", True),
        ("source", False),
    ]


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("how", ["ends", "aborted", "stopped"])
@story
async def test_nothing_is_left_of_a_pipeline_when_its_tree_has_ended(
    how: str, nested: bool
) -> None:
    class Item:
        pass

    items: weakref.WeakSet[Item] = weakref.WeakSet()

    async def source(pipe: Pipe[Any, Item]) -> None:
        for _ in range(9):
            item = Item()
            items.add(item)
            await pipe.put(item)
        if how != "ends":
            await trio.sleep_forever()

    async def take(pipe: Pipe[Item, Any]) -> None:
        async for _ in pipe:
            await trio.sleep(1)

    async def open_one() -> None:
        line = pipeline(Worker("source", source), Worker("end", take, capacity=9))
        async with open_system([Child("line", line)] if nested else line) as handle:
            await trio.sleep(20 if how == "ends" and not nested else 2)
            if how == "aborted":
                handle.abort()

    for _ in range(3):
        await open_one()
        await trio.sleep(1)
    await trio.sleep(1)
    # the first time the trees, and with them the only hold on what they had
    gc.collect()
    gc.collect()
    assert len(items) == 0


@story
async def test_a_source_that_is_stopped_goes_on_where_it_was() -> None:
    arrived: list[int] = []
    line = pipeline(
        Worker("source", counting(5)),
        Stage("wait", wait),
        Stage("end", arrived.append),
    )
    async with open_system([Child("line", line, restart="transient")]) as handle:
        await trio.sleep(2.5)
        await handle.child("line").restart()
        await handle.child("line").wait()
    assert arrived == [1, 2, 3, 4, 5]


async def wait(item: int) -> int:
    await trio.sleep(1)
    return item
