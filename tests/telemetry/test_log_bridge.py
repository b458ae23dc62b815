"""The bridge from `logging` to OpenTelemetry: what it hands on, and what still reaches stderr."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, TypeAlias

import pytest
import trio
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from logged import at_level, bridged, plain
from spans import play, recording
from spry_py import Child, NeverRestart, SystemSupervisor, open_system
from spry_py._export.log_bridge import LogBridge
from traced import BEFORE_STARTED, crash, idle, lives, shop, supervisor, tell


def crashing() -> SystemSupervisor:
    return shop(Child("a", lives(crash())))


Handlers: TypeAlias = list[tuple[str, logging.Handler]]


async def lived(tree: SystemSupervisor) -> None:
    async with open_system(tree):
        await trio.sleep(5)


# What is handed on


@pytest.fixture(params=["it alone", "another handler"])
def others(request: pytest.FixtureRequest) -> Handlers:
    """The bridge gets what it hands on without a record if no other handler wants one."""
    alone = logging.NullHandler()
    return [("spry_py", alone if request.param == "it alone" else plain()[0])]


def test_severity_body_and_names_of_every_record(others: Handlers) -> None:
    with at_level(logging.INFO), bridged(*others) as sink:
        play(lambda: lived(crashing()))
    assert [(kept.severity, kept.body) for kept in sink.kept] == [
        ((9, "INFO"), "shop/a started"),
        ((9, "INFO"), "shop started"),
        ((17, "ERROR"), "shop/a failed: ValueError: boom"),
        ((13, "WARNING"), "shop/a will be restarted now"),
        ((9, "INFO"), "shop/a started (incarnation 2)"),
        ((9, "INFO"), "shop/a stopped (aborted)"),
        ((9, "INFO"), "shop stopped"),
    ]


def test_its_logger_is_named_and_versioned_as_the_library() -> None:
    with bridged() as sink:
        pass
    (made_with,) = sink.made_with
    assert made_with[0] == "spry_py"
    assert made_with[1]


CHILD = {
    "spry.system.path": "shop",
    "spry.system.incarnation": 1,
    "spry.child.key": "a",
    "spry.child.path": "shop/a",
    "spry.child.incarnation": 1,
    "spry.child.kind": "worker",
    "spry.restart.type": "permanent",
}


def test_attributes_are_those_of_the_spans_and_the_exception(others: Handlers) -> None:
    with bridged(*others) as sink:
        play(lambda: lived(crashing()))
    failed, scheduled = sink.kept
    stack = failed.attributes.pop("exception.stacktrace")
    assert stack.startswith("Traceback (most recent call last):\n")
    assert stack.endswith("\nValueError: boom")
    assert failed.attributes == CHILD | {
        "spry.termination.reason": "failed",
        "spry.termination.burden": "none",
        "spry.child.lifetime": 1.0,
        "error.type": "ValueError",
        "exception.type": "ValueError",
        "exception.message": "boom",
    }
    assert scheduled.attributes == CHILD


def test_a_record_of_a_system_carries_its_path(others: Handlers) -> None:
    with at_level(logging.INFO), bridged(*others) as sink:
        play(lambda: lived(shop(Child("a", idle))))
    assert sink.kept[1].attributes == {"spry.system.path": "shop", "spry.system.incarnation": 1}


def test_one_leaf_of_a_group_is_named_as_on_the_span(others: Handlers) -> None:
    group = ExceptionGroup("both", [ValueError("boom")])
    with bridged(*others) as sink, recording() as spans:
        play(lambda: lived(shop(Child("a", lives((1.0, group))))))
    (term,) = spans.named("spry.term")
    (told,) = term.events
    attributes = sink.kept[0].attributes
    for name in ("exception.type", "exception.message", "exception.stacktrace"):
        assert str((told.attributes or {})[name]).rstrip("\n") == attributes[name]
    assert attributes["exception.message"] == "boom"


def test_what_a_supervisor_passes_on_has_no_traceback_of_its_own(others: Handlers) -> None:
    inner = supervisor(Child("x", lives(crash())), breaker=NeverRestart())
    with bridged(*others) as sink:
        play(lambda: lived(shop(Child("a", inner))))
    stacks = [kept.body for kept in sink.kept if "exception.stacktrace" in kept.attributes]
    assert stacks == ["shop/a/x failed: ValueError: boom"]


def test_records_stand_in_the_trace_of_their_incident(others: Handlers) -> None:
    refused = (BEFORE_STARTED, OSError("no"))
    with bridged(*others) as sink:
        spans = tell(shop(Child("a", lives(crash(), refused))), until=5)
    by_id = {(s.context.trace_id, s.context.span_id): s.name for s in spans.begun if s.context}
    assert [(by_id[kept.trace_id, kept.span_id], kept.is_sampled) for kept in sink.kept] == [
        ("spry.term", True),
        ("spry.try_restart", True),
        ("spry.child.start", True),
        ("spry.try_restart", True),
    ]


def test_without_spans_records_stand_in_no_trace(
    others: Handlers, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        with trace.get_tracer("host").start_as_current_span("host"):
            await lived(crashing())

    with bridged(*others) as sink:
        monkeypatch.setattr(trace, "get_tracer_provider", trace.NoOpTracerProvider)
        play(story)
    assert {(kept.trace_id, kept.span_id) for kept in sink.kept} == {(0, 0)}


def test_a_trace_that_was_sampled_out_is_not_said_to_be_there(
    others: Handlers, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider = TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False)
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)
    with bridged(*others) as sink:
        play(lambda: lived(crashing()))
    assert [kept.is_sampled for kept in sink.kept] == [False, False]


@pytest.mark.parametrize(
    ("level", "severity"),
    [(5, 1), (10, 5), (20, 9), (25, 9), (30, 13), (40, 17), (50, 21), (90, 21)],
)
def test_severities_of_all_levels(level: int, severity: int) -> None:
    with at_level(1), bridged() as sink:
        logging.getLogger("spry_py.shop").log(level, "so %s", "loud")
    (kept,) = sink.kept
    assert (kept.severity[0], kept.body) == (severity, "so loud")


# Records are made for those who want them


def made_in(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The messages of all records that are made from here on."""
    made: list[str] = []

    class Noted(logging.LogRecord):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            made.append(self.getMessage())

    # as the record of the standard library, not as one of the application's own
    monkeypatch.setattr(logging, "LogRecord", Noted)
    monkeypatch.setattr(logging, "_logRecordFactory", Noted)
    return made


def test_where_nothing_else_listens_no_record_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    made = made_in(monkeypatch)
    with at_level(logging.INFO), bridged(("spry_py", logging.NullHandler())) as sink:
        play(lambda: lived(crashing()))
    assert (made, len(sink.kept)) == ([], 7)


def test_where_warnings_go_to_stderr_they_alone_become_records(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = made_in(monkeypatch)
    with at_level(logging.INFO), bridged() as sink:
        play(lambda: lived(crashing()))
    assert (made, len(sink.kept)) == (WARNINGS, 7)


def tenant(record: logging.LogRecord) -> bool:
    vars(record)["tenant.name"] = "acme"
    return True


def by_a_factory(monkeypatch: pytest.MonkeyPatch) -> None:
    def make(*args: Any) -> logging.LogRecord:
        record = logging.LogRecord(*args)
        tenant(record)
        return record

    monkeypatch.setattr(logging, "_logRecordFactory", make)


def by_a_filter_of_the_logger(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger("spry_py.shop.a"), "filters", [tenant])


def by_a_filter_of_the_bridge(monkeypatch: pytest.MonkeyPatch) -> None:
    (bridge,) = (one for one in logging.getLogger("spry_py").handlers if isinstance(one, LogBridge))
    monkeypatch.setattr(bridge, "filters", [tenant])


def by_a_logger_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    class Tenants(logging.Logger):
        def handle(self, record: logging.LogRecord) -> None:
            tenant(record)
            super().handle(record)

    monkeypatch.setattr(logging.getLogger("spry_py.shop.a"), "__class__", Tenants)


@pytest.mark.parametrize(
    "add",
    [
        by_a_factory,
        by_a_filter_of_the_logger,
        by_a_filter_of_the_bridge,
        by_a_logger_of_its_own,
    ],
)
def test_what_an_application_adds_to_records_is_handed_on(
    add: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    with bridged(("spry_py", logging.NullHandler())) as sink:
        add(monkeypatch)
        play(lambda: lived(crashing()))
    assert [kept.attributes["tenant.name"] for kept in sink.kept] == ["acme"] * 2


def test_a_logger_of_its_own_makes_records_with_all_fields(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[dict[str, Any]] = []

    class Seeing(logging.Logger):
        def makeRecord(  # noqa: N802 - as `logging` has it
            self, *args: Any, **named: Any
        ) -> logging.LogRecord:
            seen.append(args[8])
            return super().makeRecord(*args, **named)

    monkeypatch.setattr(logging.getLogger("spry_py.shop.a"), "__class__", Seeing)
    with bridged():
        play(lambda: lived(crashing()))
    assert [CHILD.items() <= extra.items() for extra in seen] == [True, True]


def test_a_level_of_the_bridge_holds(others: Handlers) -> None:
    with bridged(*others) as sink:
        (bridge,) = (o for o in logging.getLogger("spry_py").handlers if isinstance(o, LogBridge))
        bridge.setLevel(logging.ERROR)
        play(lambda: lived(crashing()))
    assert sink.bodies() == WARNINGS[:1]


def test_two_bridges_hand_on_all() -> None:
    with bridged() as outer, bridged() as inner:
        play(lambda: lived(crashing()))
    assert outer.bodies() == inner.bodies() == WARNINGS


def test_a_sink_that_fails_harms_nobody(capsys: pytest.CaptureFixture[str]) -> None:
    handler, stream = plain()
    with bridged(("spry_py", handler)) as sink:
        sink.is_broken = True
        play(lambda: lived(crashing()))
    assert "shop/a will be restarted now" in stream.getvalue()
    assert "the sink is broken" in capsys.readouterr().err


def test_nor_does_one_that_fails_where_nothing_else_listens(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with bridged(("spry_py", logging.NullHandler())) as sink:
        sink.is_broken = True
        play(lambda: lived(crashing()))
    text = capsys.readouterr().err
    assert text.count("OSError: the sink is broken") == 2
    assert f"Message: {WARNINGS[1]!r}" in text


# What a program without a handler of its own still shows

WARNINGS = ["shop/a failed: ValueError: boom", "shop/a will be restarted now"]


def said(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("shop")]


@pytest.mark.parametrize("level", [logging.INFO, logging.WARNING])
def test_warnings_still_reach_stderr(level: int, capsys: pytest.CaptureFixture[str]) -> None:
    with at_level(level), bridged() as sink:
        play(lambda: lived(crashing()))
    text = capsys.readouterr().err
    assert said(text) == WARNINGS
    assert text.count("Traceback") == 1
    assert sink.bodies()[-1] == ("shop stopped" if level == logging.INFO else WARNINGS[-1])


@pytest.mark.parametrize("name", ["spry_py", "spry_py.shop", "spry_py.shop.a"])
def test_a_program_with_a_handler_of_its_own_says_nothing_twice(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    handler, stream = plain()
    with bridged((name, handler)) as sink:
        play(lambda: lived(crashing()))
    assert said(stream.getvalue()) == sink.bodies() == WARNINGS
    assert capsys.readouterr().err == ""


def test_a_handler_at_the_root_counts_if_records_reach_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    handler, stream = plain()
    with bridged(("", handler)), pytest.MonkeyPatch.context() as patch:
        play(lambda: lived(crashing()))
        assert (said(capsys.readouterr().err), stream.getvalue()) == (WARNINGS, "")
        patch.setattr(logging.getLogger("spry_py"), "propagate", True)
        play(lambda: lived(crashing()))
    assert (capsys.readouterr().err, said(stream.getvalue())) == ("", WARNINGS)


def test_a_program_that_wants_no_last_resort_has_none(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging, "lastResort", None)
    with bridged() as sink:
        play(lambda: lived(crashing()))
    assert sink.bodies() == WARNINGS
    assert capsys.readouterr().err == ""
