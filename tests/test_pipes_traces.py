"""What is traced of deliveries: only of items that were delivered more than once."""

from __future__ import annotations

from typing import Any

import trio
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind

from pipelines import counting
from spans import id_of, play, recording
from spry_py import Child, SystemSupervisor, open_system
from spry_py.pipes import Pipe, Stage, Worker, pipeline
from stories import Boom


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
    assert read(first) == (1, 1, "failed", "Boom: try 1", ["try 1"], {})
    assert read(second, first) == (2, 2, "failed", "Boom: try 2", ["try 2"], {})
    assert read(third, first) == (3, 3, "done", None, [], {})


def test_the_last_try_of_an_item_that_is_given_up_says_so() -> None:
    first, second, third = deliveries_of(pipeline(Worker("source", counting(3)), failing(9)))
    assert [read(first)[2], read(second, first)[2]] == ["failed", "failed"]
    assert read(third, first) == (3, 3, "dead", "Boom: try 3", ["try 3"], {})


def test_a_forwarded_item_has_failed() -> None:
    async def work(pipe: Pipe[int, int]) -> None:
        async for _ in pipe:
            raise Boom("once")

    worker = Worker("work", work, on_crash="forward")
    (only,) = deliveries_of(pipeline(Worker("source", counting(1)), worker))
    assert read(only) == (1, 1, "forwarded", "Boom: once", ["once"], {})


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
