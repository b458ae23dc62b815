"""What is traced of deliveries: of items that were delivered more than once, or given up."""

from __future__ import annotations

from typing import Any

import trio
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind, StatusCode

from pipelines import counting
from spans import id_of, play, recording
from spry_py import Child, SystemSupervisor, current_context, open_system
from spry_py.pipes import Pipe, Stage, Worker, pipeline
from stories import Boom

BOOM = {"error.type": "stories.Boom"}


def deliveries_of(line: SystemSupervisor) -> list[ReadableSpan]:
    async def main() -> None:
        async with open_system([Child("line", line, restart="transient")], name="root") as root:
            await root.child("line").wait()

    with recording() as spans:
        play(main)
    found = spans.named("spry.pipe.delivery")
    assert {id_of(span) for span in found} <= set(spans.ended)
    assert all(span.parent is None and span.kind is SpanKind.INTERNAL for span in found)
    return found


def read(span: ReadableSpan, first: ReadableSpan | None = None) -> tuple[Any, ...]:
    """The span, but for what is the same in all of one story."""
    attributes = dict(span.attributes or {})
    assert attributes.pop("spry.pipe.stage") == "work"
    assert attributes.pop("spry.child.path") == "root/line/work"
    assert attributes.pop("spry.system.path") == "root/line"
    assert attributes.pop("spry.system.incarnation") == 1
    is_error = span.status.status_code is StatusCode.ERROR
    assert ("error.type" in attributes, bool(span.status.description)) == (is_error, is_error)
    links = [(link.context.span_id, dict(link.attributes or {})) for link in span.links]
    if first is None:
        assert links == []
    else:
        assert links == [(id_of(first), {"spry.link": "redelivery_of"})]
    assert span.start_time is not None
    assert span.end_time is not None
    assert span.start_time <= span.end_time
    return (
        attributes.pop("spry.pipe.delivery"),
        attributes.pop("spry.child.incarnation"),
        attributes.pop("spry.pipe.outcome"),
        span.status.description,
        [(event.attributes or {})["exception.message"] for event in span.events],
        attributes,
    )


def failing(times: int) -> Worker:
    async def work(pipe: Pipe[int, int]) -> None:
        async for item in pipe:
            if item == 2 and pipe.deliveries <= times:
                raise Boom(f"try {pipe.deliveries}")

    return Worker("work", work)


def test_an_item_that_is_delivered_once_leaves_no_span() -> None:
    assert deliveries_of(pipeline(Worker("source", counting(3)), failing(0))) == []


def test_a_redelivery_is_linked_to_the_first_try() -> None:
    first, second, third = deliveries_of(pipeline(Worker("source", counting(3)), failing(2)))
    assert read(first) == (1, 1, "failed", "Boom: try 1", ["try 1"], BOOM)
    assert read(second, first) == (2, 2, "failed", "Boom: try 2", ["try 2"], BOOM)
    assert read(third, first) == (3, 3, "done", None, [], {})


def test_the_last_try_of_an_item_that_is_given_up_says_so() -> None:
    first, second, third = deliveries_of(pipeline(Worker("source", counting(3)), failing(9)))
    assert [read(first)[2], read(second, first)[2]] == ["failed", "failed"]
    assert read(third, first) == (3, 3, "dead", "Boom: try 3", ["try 3"], BOOM)


def test_an_item_that_is_forwarded_was_delivered_once() -> None:
    async def work(pipe: Pipe[int, int]) -> None:
        async for _ in pipe:
            raise Boom("once")

    worker = Worker("work", work, on_crash="forward")
    assert deliveries_of(pipeline(Worker("source", counting(1)), worker)) == []


def test_an_item_that_cannot_be_forwarded_is_dead_after_one_delivery() -> None:
    def work(item: int) -> None:
        raise ExceptionGroup("from a nursery", [Boom("once")])

    stage = Stage("work", work, on_crash="forward")
    (only,) = deliveries_of(pipeline(Worker("source", counting(1)), stage))
    assert read(only) == (1, 1, "dead", "Boom: once", ["once"], BOOM)


def test_in_a_pipe_without_a_pipeline_the_error_is_not_known() -> None:
    async def work(pipe: Pipe[int, int]) -> None:
        async for _ in pipe:
            if current_context().incarnation == 1:
                raise Boom("once")

    async def main() -> None:
        feed, upstream = trio.open_memory_channel[int](1)
        async with feed:
            await feed.send(7)
        child = Child("work", work, Pipe("alone", upstream), restart="transient")
        async with open_system([child], name="root") as root:
            await root.child("work").wait()

    with recording() as spans:
        play(main)
    first, second = spans.named("spry.pipe.delivery")
    where = {"spry.child.path": "root/work", "spry.pipe.stage": "alone"}
    where |= {"spry.system.path": "root"}
    assert first.attributes == where | {
        "spry.system.incarnation": 1,
        "spry.child.incarnation": 1,
        "spry.pipe.delivery": 1,
        "spry.pipe.outcome": "failed",
        "error.type": "_OTHER",
    }
    assert (first.status.description, first.events) == ("its worker ended", ())
    assert second.status.status_code is StatusCode.UNSET


def test_an_item_whose_worker_was_stopped_was_interrupted() -> None:
    async def wait(item: int) -> None:
        await trio.sleep(10)

    async def main() -> None:
        line = pipeline(Worker("source", counting(1)), Stage("work", wait, shutdown=0))
        async with open_system([Child("line", line, restart="transient")], name="root") as root:
            await trio.sleep(1)
            await root.find("line/work").restart()
            await root.child("line").wait()

    with recording() as spans:
        play(main)
    first, second = spans.named("spry.pipe.delivery")
    assert read(first) == (1, 1, "interrupted", None, [], {})
    assert read(second, first) == (1, 2, "done", None, [], {})


def test_dead_because_it_was_stopped_it_has_not_failed() -> None:
    async def wait(item: int) -> None:
        await trio.sleep(10)

    async def main() -> None:
        stage = Stage("work", wait, shutdown=0, on_crash="forward")
        line = pipeline(Worker("source", counting(2)), stage)
        async with open_system([Child("line", line, restart="transient")], name="root") as root:
            await trio.sleep(1)
            await root.find("line/work").restart()
            await root.child("line").wait()

    with recording() as spans:
        play(main)
    (only,) = spans.named("spry.pipe.delivery")
    assert read(only) == (1, 1, "dead", None, [], {})
