"""Log records of trees that nobody thought of: one for each fact that is to be written down."""

from __future__ import annotations

import logging
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
import trio
from hypothesis import HealthCheck, given, note, settings

from fated import FATES, NEVER, Fate, Life
from logged import bridged, kept, plain
from spans import id_of, play, recording
from spry_py import (
    Child,
    Ignore,
    NeverRestart,
    SpryError,
    SystemSupervisor,
    Unrecoverable,
    current_context,
    open_system,
)
from spry_py._telemetry import tracebacks
from spry_py.events import (
    ChildAborted,
    ChildDiscarded,
    ChildStarted,
    ChildStartFailed,
    ChildStuck,
    ChildTerminated,
    Escalated,
    Event,
    RestartRefused,
    RestartScheduled,
)
from traced import BEFORE_STARTED, crash, lives, shop, supervisor

# One record for each fact

LEVELS: dict[type[Event], str] = {
    ChildStarted: "INFO",
    ChildStartFailed: "ERROR",
    RestartScheduled: "WARNING",
    RestartRefused: "WARNING",
    ChildDiscarded: "WARNING",
    Escalated: "ERROR",
}
Facts = Counter[tuple[str, str]]


def level_of(event: Event) -> str | None:
    if isinstance(event, ChildTerminated):
        is_left_out = isinstance(event.report.exception, Ignore) and event.report.burden == "none"
        return "ERROR" if event.report.failed and not is_left_out else "INFO"
    return LEVELS.get(type(event))


def facts_of(events: list[Event]) -> Facts:
    levels = [(level_of(event), event.path) for event in events if event.path != "top"]
    return Counter((level, path) for level, path in levels if level is not None)


def signals_of(fate: Fate) -> tuple[list[Event], list[logging.LogRecord]]:
    life = Life()
    with kept() as book, recording():
        play(lambda: life.live(fate), seconds=1e5)
    note("\n".join(map(repr, life.events)))
    note("\n".join(record.getMessage() for record in book.records))
    return life.events, book.records


@pytest.mark.slow
@settings(
    max_examples=max(200, settings().max_examples), suppress_health_check=[HealthCheck.too_slow]
)
@given(FATES)
def test_each_fact_is_one_record_at_its_level(fate: Fate) -> None:
    events, records = signals_of(fate)
    late = [record for record in records if "did not finish within" in record.getMessage()]
    told = [record for record in records if record not in late and record.name != "spry_py.top"]
    paths = [record.name.removeprefix("spry_py.").replace(".", "/") for record in told]
    levels = [record.levelname for record in told]
    assert Counter(zip(levels, paths, strict=True)) == facts_of(events)


# Facts that only certain stories have


async def shields_itself() -> None:
    try:
        await trio.sleep_forever()
    finally:
        with trio.CancelScope(shield=True):
            await trio.sleep(5)


async def deaf() -> None:
    await current_context().settled()
    await trio.sleep_forever()


@pytest.mark.parametrize(
    ("child", "event", "said"),
    [
        (Child("a", shields_itself), ChildStuck, "does not end although it was aborted"),
        (Child("a", deaf, shutdown=2.0), ChildAborted, "did not finish within its 2 s"),
        (
            Child("a", lives((1.0, Unrecoverable("x"))), on_unrecoverable="discard"),
            ChildDiscarded,
            "is not recoverable",
        ),
        (
            Child("a", lives(crash()), restart="transient", backoff=lambda _: 9.0),
            RestartScheduled,
            "will be restarted in 9 s",
        ),
    ],
)
def test_warnings_are_as_many_as_the_facts(
    child: Child[Any], event: type[Event], said: str
) -> None:
    life = Life()
    fate = Fate(supervisor(child), {}, [], "leave", 5.0)
    with kept() as book:
        play(lambda: life.live(fate))
    facts = [each.path for each in life.events if isinstance(each, event)]
    warnings = [each for each in book.records if each.levelname == "WARNING"]
    assert [each.name for each in warnings] == ["spry_py.top.tree.a"] * len(facts)
    assert len(facts) >= 1
    assert all(said in each.getMessage() for each in warnings)


GAVE_UP = (
    "too many restarts: 'shop/a' was restarted 0 times and may not be again; root cause: "
    "ValueError: boom"
)


def test_a_refusal_is_a_warning_and_the_escalation_an_error() -> None:
    with kept() as book, recording() as spans:
        play(lambda: lived(shop(Child("a", lives(crash())), breaker=NeverRestart())))
    assert [(each.levelname, each.getMessage()) for each in book.records[2:5]] == [
        ("ERROR", "shop/a failed: ValueError: boom"),
        ("WARNING", "shop/a may not be restarted any more"),
        ("ERROR", f"shop gives up: {GAVE_UP}"),
    ]
    names = {f"{id_of(span):016x}": span.name for span in spans.begun}
    spans_of_records = [names[vars(each)["span_id"]] for each in book.records[2:5]]
    assert spans_of_records == ["spry.term", "spry.try_restart", "spry.term"]


@pytest.mark.parametrize("strategy", ["one_for_one", "rest_for_one", "one_for_all"])
def test_retries_of_a_restart_that_a_caller_asked_for_are_told_as_any_others(strategy: Any) -> None:
    refusing = lives((NEVER, None), (BEFORE_STARTED, OSError("no")))

    async def story() -> None:
        async with open_system(shop(Child("a", refusing), strategy=strategy)) as handle:
            await handle.child("a").restart()

    with kept() as book:
        play(story)
    assert [(each.levelname, each.getMessage()) for each in book.records[2:6]] == [
        ("INFO", "shop/a stopped (aborted)"),
        ("ERROR", "shop/a failed to start: OSError: no"),
        ("WARNING", "shop/a will be restarted now"),
        ("INFO", "shop/a started (incarnation 3)"),
    ]


async def lived(tree: SystemSupervisor) -> None:
    with suppress(SpryError):
        async with open_system(tree):
            await trio.sleep(5)


# One formatting for each termination


@contextmanager
def formattings() -> Iterator[list[BaseException]]:
    """Every exception that a traceback is made of, each time; those it was raised from go along."""
    made: list[BaseException] = []
    init, alone = traceback.TracebackException.__init__, tracebacks._alone

    def counting(self: Any, kind: Any, value: Any, *args: Any, **options: Any) -> None:
        if options.get("_seen") is None:
            made.append(value)
        init(self, kind, value, *args, **options)

    def counting_alone(exception: BaseException) -> str:
        made.append(exception)
        return alone(exception)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(traceback.TracebackException, "__init__", counting)
        patch.setattr(tracebacks, "_alone", counting_alone)
        yield made


async def sulks() -> None:
    await current_context().settled()
    raise RuntimeError("sulks")


def much_goes_wrong() -> SystemSupervisor:
    refused = (BEFORE_STARTED, OSError("no"))
    inner = supervisor(Child("x", lives(crash(), crash())), breaker=NeverRestart())
    return shop(
        Child("a", lives(crash(), refused)),
        Child("g", lives((1.5, ExceptionGroup("g", [KeyError("k")])))),
        Child("inner", inner, restart="temporary"),
        Child("s", sulks),
    )


ONCE = {"ValueError": 2, "OSError": 1, "ExceptionGroup": 1, "RuntimeError": 1}


@pytest.mark.parametrize("signal", ["", "logs/dup", "logs"])
@pytest.mark.parametrize("last", [True, False])
def test_a_traceback_is_formatted_once_for_each_termination(
    signal: str, last: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_SEMCONV_EXCEPTION_SIGNAL_OPT_IN", signal)
    (one, said), (two, said_too) = plain(), plain()
    others = ("spry_py", one), ("spry_py", two)
    with recording(), bridged(*others, last=last) as sink, formattings() as made:
        play(lambda: lived(much_goes_wrong()))
    # that of an escalation is for its span alone
    escalation = {} if signal == "logs" else {"TooManyRestarts": 1}
    assert Counter(type(each).__name__ for each in made) == ONCE | escalation
    assert said.getvalue() == said_too.getvalue()
    stacks = [kept.attributes.get("exception.stacktrace") for kept in sink.kept]
    told = [stack for stack in stacks if stack is not None]
    assert len(told) == sum(ONCE.values())
    assert all(stack in said.getvalue() for stack in told)
