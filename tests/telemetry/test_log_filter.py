"""`telemetry.log_filter`: the program's own records say which child has written them."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
import trio
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan

from actors import Actor
from logged import Book
from spans import id_of, recording, trace_of
from spry_py import Child, SystemSupervisor, open_system, telemetry
from spry_py.threads import settling, thread
from stories import Record, story, story_with_threads

FIELDS = ("spry.child.path", "spry.child.key", "spry.child.incarnation")
TRACE = ("trace_id", "span_id", "trace_flags")
app = logging.getLogger("app.orders")


@pytest.fixture
def book() -> Iterator[Book]:
    """A handler of the application, with the filter."""
    handler = Book()
    handler.addFilter(telemetry.log_filter())
    logging.getLogger().addHandler(handler)
    loggers = app, logging.getLogger("spry_py")
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.INFO)
    yield handler
    for logger, level in zip(loggers, before, strict=True):
        logger.setLevel(level)
    logging.getLogger().removeHandler(handler)


def told(book: Book) -> list[tuple[Any, ...]]:
    """Of the application's own records: what they say, and of whom."""
    ours = [vars(record) for record in book.records if record.name == app.name]
    return [(fields["msg"], *(fields[name] for name in FIELDS)) for fields in ours]


def flags_of(span: ReadableSpan) -> int:
    context = span.get_span_context()
    assert context is not None
    return int(context.trace_flags)


@story
async def test_each_record_says_which_child_has_written_it(book: Book) -> None:
    async def nested(name: str) -> None:
        app.info(name)

    async def works(name: str) -> None:
        app.info(name)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(nested, f"{name} nested")
        await trio.sleep(1)
        raise ValueError(name)

    inner = SystemSupervisor([Child("a", works, "a")], strategy="one_for_one")
    async with open_system([Child("inner", inner)], name="shop"):
        app.info("outside")
        await trio.sleep(1.5)
    assert told(book) == [
        ("a", "shop/inner/a", "a", 1),
        ("a nested", "shop/inner/a", "a", 1),
        ("outside", "", "", 0),
        ("a", "shop/inner/a", "a", 2),
        ("a nested", "shop/inner/a", "a", 2),
    ]


@story_with_threads
async def test_so_do_those_written_in_threads(book: Book) -> None:
    up = trio.Event()

    def blocks() -> None:
        app.info("thread")
        trio.from_thread.run_sync(up.set)
        settling().wait()

    async def works(task_status: trio.TaskStatus[None]) -> None:
        await trio.to_thread.run_sync(app.info, "worker")
        task_status.started()
        await trio.sleep_forever()

    children = [Child("a", works), Child("b", thread(blocks), shutdown=10)]
    async with open_system(children, name="shop"):
        with trio.fail_after(30):
            await up.wait()
    assert told(book) == [("worker", "shop/a", "a", 1), ("thread", "shop/b", "b", 1)]


def test_the_trace_is_that_of_the_current_span_or_of_the_start(book: Book) -> None:
    async def works() -> None:
        app.info("start")
        with trace.get_tracer("app").start_as_current_span("order"):
            app.info("order")
        await trio.sleep_forever()

    @story
    async def main() -> None:
        app.info("outside")
        async with open_system([Child("a", works)], name="shop"):
            pass

    with recording() as recorder:
        main()
        start = recorder.named("spry.child.start")[0]
        order = recorder.named("order")[0]
    seen = {vars(record)["msg"]: vars(record) for record in book.records}
    traces = {
        what: tuple(seen[what][name] for name in TRACE) for what in ("outside", "start", "order")
    }
    assert traces == {
        "outside": ("", "", 0),
        "start": (f"{trace_of(start):032x}", f"{id_of(start):016x}", flags_of(start)),
        "order": (f"{trace_of(order):032x}", f"{id_of(order):016x}", flags_of(order)),
    }


@story
async def test_what_a_record_says_already_stays(book: Book) -> None:
    a = Actor(Record(), "a")

    async def works() -> None:
        app.info("mine", extra={"spry.child.key": "other", "trace_id": "1"})
        await trio.sleep_forever()

    async with open_system([a.child(), Child("b", works)], name="shop"):
        pass
    (mine,) = (vars(record) for record in book.records if record.name == app.name)
    assert (mine["spry.child.path"], mine["spry.child.key"], mine["trace_id"]) == (
        "shop/b",
        "other",
        "1",
    )
    theirs = [vars(r)["spry.child.path"] for r in book.records if r.msg == "shop/a started"]
    assert theirs == ["shop/a"]


@story
async def test_a_format_may_name_the_fields_everywhere() -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.addFilter(telemetry.log_filter())
    handler.setFormatter(
        logging.Formatter("[%(spry.child.path)s #%(spry.child.incarnation)d] %(message)s")
    )
    app.addHandler(handler)

    async def works() -> None:
        app.warning("low")
        await trio.sleep_forever()

    try:
        app.warning("before")
        async with open_system([Child("a", works)], name="shop"):
            pass
    finally:
        app.removeHandler(handler)
    assert stream.getvalue() == "[ #0] before\n[shop/a #1] low\n"


@story
async def test_the_same_is_a_processor_for_structlog() -> None:
    stream = io.StringIO()
    logger = structlog.wrap_logger(
        structlog.PrintLogger(stream),
        processors=[telemetry.log_filter(), structlog.processors.JSONRenderer()],
    )

    async def works() -> None:
        logger.info("low", **{"spry.child.key": "other"})
        await trio.sleep_forever()

    logger.info("before", n=1)
    async with open_system([Child("a", works)], name="shop"):
        pass
    events = [json.loads(line) for line in stream.getvalue().splitlines()]
    # there is a trace if another test has set a provider
    assert [{key: event[key] for key in event if key not in TRACE} for event in events] == [
        {"event": "before", "n": 1},
        {
            "event": "low",
            "spry.child.path": "shop/a",
            "spry.child.key": "other",
            "spry.child.incarnation": 1,
        },
    ]


@story
async def test_a_child_that_has_ended_is_named_by_what_it_has_left_running(book: Book) -> None:
    async with trio.open_nursery() as nursery:

        async def late() -> None:
            await trio.sleep(5)
            app.info("late")

        async def works() -> None:
            nursery.start_soon(late)
            await trio.sleep_forever()

        async with open_system([Child("a", works)], name="shop"):
            pass
    # a task of the host's own nursery, that has begun in the context of the child
    assert told(book) == [("late", "shop/a", "a", 1)]
