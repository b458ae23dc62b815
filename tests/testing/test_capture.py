"""`telemetry.capture`: what trees tell, in memory, for the trees of a block alone."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Never

import pytest
import tenacity
import trio
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics.export import Metric, Sum
from opentelemetry.sdk.trace import ReadableSpan

from logged import kept
from spans import play, recording
from spry_py import Child, NeverRestart, TooManyRestarts, current_context, open_system, telemetry
from spry_py.events import ChildStarted
from spry_py.lowlevel import tracer_provider
from spry_py.pipes import Pipe, Worker, pipeline
from spry_py.testing import Script, crash, started
from stories import story

STEADY = ["start", "wait"]


async def crashes() -> None:
    db = Script(["start", 1, OSError("gone")], [OSError("still gone")], STEADY)
    async with open_system(
        [Child("db", db, backoff=tenacity.wait_fixed(2)), Child("api", Script(STEADY))], name="shop"
    ):
        await trio.sleep(10)


INCIDENT = (
    "shop/db, a permanent worker, failed after 1 s with OSError: gone. shop/db failed to start "
    "again, after a wait of 2 s: OSError: still gone. shop stopped api and started db and api "
    "again (one_for_all), after a wait of 2 s. Healthy again 4 s after the first failure."
)


def test_all_signals_are_kept() -> None:
    with telemetry.capture() as captured:
        play(crashes)
    assert captured.incidents == [INCIDENT]
    assert sorted({span.name for span in captured.spans}) == [
        "spry.child.start",
        "spry.startup",
        "spry.teardown",
        "spry.term",
        "spry.try_restart",
        "spry.wait_for_termination",
    ]
    assert total(captured.metrics, "spry.child.restarts") == 3
    assert [record.getMessage() for record in captured.logs] == [
        "shop/db started",
        "shop/api started",
        "shop started",
        "shop/db failed: OSError: gone",
        "shop/db will be restarted in 2 s",
        "shop/api stopped (settling)",
        "shop/db failed to start: OSError: still gone",
        "shop/db will be restarted in 2 s (attempt 2)",
        "shop/db started (incarnation 3)",
        "shop/api started (incarnation 2)",
        "shop/api stopped (settling)",
        "shop/db stopped (settling)",
        "shop stopped",
    ]


def total(told: Sequence[Metric], name: str) -> float:
    (metric,) = [metric for metric in told if metric.name == name]
    assert isinstance(metric.data, Sum)
    return sum(point.value for point in metric.data.data_points)


def test_times_are_those_of_trio_in_each_run() -> None:
    with telemetry.capture() as captured:
        play(crashes)
        play(crashes)
    terms = [span for span in captured.spans if span.name == "spry.term"]
    assert [seconds_of(span) for span in terms] == [4, 4]
    assert captured.incidents == [INCIDENT, INCIDENT]


def seconds_of(span: ReadableSpan) -> int:
    assert span.start_time is not None
    assert span.end_time is not None
    return round((span.end_time - span.start_time) / 1e9)


@story
async def test_it_can_be_asked_while_the_tree_lives() -> None:
    with telemetry.capture() as captured:
        assert (captured.spans, captured.metrics, captured.logs) == ([], [], [])
        async with started([Child("db", Script(STEADY))], name="shop") as (handle, record):
            assert captured.incidents == []
            crash(handle, "shop/db", OSError("gone"))
            await record.wait_for(ChildStarted, "shop/db", count=2)
            await record.expect_silence(1)
            (incident,) = captured.incidents
            assert incident.endswith("shop started db again (one_for_all). Healthy again at once.")
            assert total(captured.metrics, "spry.child.count") == 1
        assert total(captured.metrics, "spry.child.count") == 0


@story
async def test_a_tree_that_ends_is_told_to_its_end() -> None:
    db = Child("db", Script(["start", 1, OSError("gone")]))
    with pytest.raises(TooManyRestarts), telemetry.capture() as captured:
        async with open_system([db], name="shop", breaker=NeverRestart()):
            await trio.sleep_forever()
    (incident,) = captured.incidents
    assert incident == (
        "shop/db, a permanent worker, failed after 1 s with OSError: gone. The breaker of shop "
        "refused to restart it: shop gave up. That was the end of the whole tree."
    )


@story
async def test_so_are_the_spans_of_pipes() -> None:
    async def count(pipe: Pipe[Never, int]) -> None:
        await pipe.put(1)
        await trio.sleep_forever()

    async def take(pipe: Pipe[int, Never]) -> None:
        async for _ in pipe:
            if current_context().incarnation == 1:
                raise OSError("gone")

    with telemetry.capture() as captured:
        stages = [Worker("count", count), Worker("take", take)]
        async with open_system(pipeline(*stages, name="line")):
            await trio.sleep(1)
    told = [span for span in captured.spans if span.name == "spry.pipe.delivery"]
    assert len(told) == 2


# Whom it concerns


async def lives(name: str, seconds: float = 1) -> None:
    async with open_system([Child("a", Script(STEADY))], name=name):
        await trio.sleep(seconds)


def roots_of(captured: telemetry.Captured) -> list[str]:
    told = [record.getMessage() for record in captured.logs]
    paths = {str((span.attributes or {})["spry.system.path"]) for span in captured.spans}
    points = {
        str((point.attributes or {})["spry.system.path"])
        for metric in captured.metrics
        for point in metric.data.data_points
    }
    names = [text.split()[0] for text in told if "/" not in text and text.endswith(" started")]
    assert paths == points == set(names)
    return names


@story
async def test_trees_opened_elsewhere_are_none_of_its_business() -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lives, "before", 5)
        await trio.sleep(1)

        async def beside() -> None:
            await trio.sleep(1)
            await lives("beside")

        nursery.start_soon(beside)
        with telemetry.capture() as captured:
            nursery.start_soon(lives, "within", 5)
            await trio.sleep(2)
        await lives("behind")
    assert roots_of(captured) == ["within"]


@story
async def test_of_nested_blocks_the_inner_one_captures() -> None:
    with telemetry.capture() as outer:
        await lives("first")
        with telemetry.capture() as inner:
            await lives("second")
        await lives("third")
    assert (roots_of(outer), roots_of(inner)) == (["first", "third"], ["second"])


def test_spans_from_outside_trio_are_kept_in_their_order() -> None:
    with telemetry.capture() as captured:
        provider = tracer_provider()
        assert provider is not None
        tracer = provider.get_tracer("test")
        with tracer.start_as_current_span("outer"), tracer.start_as_current_span("inner"):
            pass
    inner, outer = captured.spans
    assert (inner.name, outer.name) == ("inner", "outer")
    times = [outer.start_time, inner.start_time, inner.end_time, outer.end_time]
    assert all(time is not None for time in times)
    assert len(set(times)) == 4
    assert times == sorted(times, key=lambda time: time or 0)


def test_it_ends_with_the_block_however_that_ends() -> None:
    with pytest.raises(OSError, match="no"), telemetry.capture() as captured:
        raise OSError("no")
    play(lambda: lives("behind"))
    assert roots_of(captured) == []


def test_the_providers_of_the_application_stay_and_get_nothing_of_it() -> None:
    with recording() as spans:
        before = trace.get_tracer_provider(), metrics.get_meter_provider()
        with telemetry.capture() as captured:
            within = trace.get_tracer_provider(), metrics.get_meter_provider()
            play(lambda: lives("within"))
        assert within == before
        assert spans.begun == []
        play(lambda: lives("behind"))
        assert spans.begun
    assert roots_of(captured) == ["within"]


# Loggers


@pytest.mark.parametrize("level", [logging.INFO, logging.WARNING, logging.CRITICAL])
def test_the_loggers_of_the_application_get_what_they_would_have_got(level: int) -> None:
    with kept(level) as without:
        play(crashes)
    with kept(level) as book, telemetry.capture() as captured:
        play(crashes)
    assert book.told() == without.told()
    assert len(captured.logs) == 13


def test_a_logger_further_down_has_its_say_too() -> None:
    logger = logging.getLogger("spry_py.shop.db")
    logger.setLevel(logging.ERROR)
    try:
        with kept(logging.INFO) as book, telemetry.capture() as captured:
            play(crashes)
    finally:
        logger.setLevel(logging.NOTSET)
    assert len(captured.logs) == 13
    assert len(book.told()) == 13 - 5
    assert {record.name for record in captured.logs} == {
        "spry_py.shop",
        "spry_py.shop.api",
        "spry_py.shop.db",
    }


def test_records_have_the_exception_and_the_span() -> None:
    with telemetry.capture() as captured:
        play(crashes)
    (failed,) = [record for record in captured.logs if "failed: " in record.getMessage()]
    (term,) = [span for span in captured.spans if span.name == "spry.term"]
    assert failed.exc_info is not None
    assert term.context is not None
    assert vars(failed)["span_id"] == f"{term.context.span_id:016x}"
