"""One log record per fact, under the path, with the names of the spans as fields."""

from __future__ import annotations

import io
import logging
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from logged import Book, kept
from spans import play, recording
from spry_py import (
    Child,
    Ignore,
    NeverRestart,
    SpryError,
    SystemSupervisor,
    TooManyRestarts,
    current_context,
    open_system,
)
from traced import BEFORE_STARTED, crash, fails, forever, idle, lives, shop, supervisor, tell


def logs(tree: SystemSupervisor, until: float = 5.0) -> Book:
    with kept() as book:
        tell(tree, until)
    return book


def fields(record: logging.LogRecord) -> dict[str, Any]:
    return {key: value for key, value in vars(record).items() if "." in key}


def test_boot_and_stop_of_a_nested_tree() -> None:
    book = logs(shop(Child("db", idle), Child("web", supervisor(Child("api", idle)))))
    assert book.told() == [
        ("INFO", "spry_py.shop.db"),
        ("INFO", "spry_py.shop.web.api"),
        ("INFO", "spry_py.shop.web"),
        ("INFO", "spry_py.shop"),
        ("INFO", "spry_py.shop.web.api"),
        ("INFO", "spry_py.shop.web"),
        ("INFO", "spry_py.shop.db"),
        ("INFO", "spry_py.shop"),
    ]
    assert ["started" in record.getMessage() for record in book.records] == [True] * 4 + [False] * 4
    assert ["stopped" in record.getMessage() for record in book.records] == [False] * 4 + [True] * 4


def test_a_crash_is_told_once_with_its_traceback_and_the_restart_as_a_warning() -> None:
    book = logs(shop(Child("a", lives(crash())), Child("b", idle)))
    assert book.told()[3:6] == [
        ("ERROR", "spry_py.shop.a"),
        ("WARNING", "spry_py.shop.a"),
        ("INFO", "spry_py.shop.a"),
    ]
    failed = book.one("ERROR")
    assert failed.exc_info is not None
    assert isinstance(failed.exc_info[1], ValueError)
    assert [bool(record.exc_info) for record in book.records].count(True) == 1


def test_an_exit_is_no_failure_in_words() -> None:
    async def leaves() -> None:
        await trio.sleep(1)
        raise SystemExit(3)

    async def main() -> None:
        with pytest.raises(SystemExit):
            async with open_system([Child("a", leaves)], name="shop"):
                await trio.sleep(2)

    with kept() as book:
        trio.run(main, clock=MockClock(autojump_threshold=0))
    assert book.one("ERROR").getMessage() == "shop/a asked the program to end: SystemExit: 3"


def test_a_record_says_where_the_library_was_called_from() -> None:
    async def starts(*, task_status: trio.TaskStatus[None]) -> None:
        task_status.started()
        await trio.sleep(1)

    def boot() -> None:
        trio.run(main, clock=MockClock(autojump_threshold=0))

    async def main() -> None:
        async with open_system([Child("a", starts, restart="temporary")], name="shop"):
            await trio.sleep(2)

    with kept() as book:
        boot()
    lines = {f.co_name: f.co_firstlineno + 1 for f in (starts.__code__, boot.__code__)}
    places = [(record.pathname, record.funcName, record.lineno) for record in book.records]
    outside = (__file__, "boot", lines["boot"])
    assert places == [(__file__, "starts", lines["starts"]), *[outside] * 3]


def test_every_message_names_the_path() -> None:
    book = logs(shop(Child("a", lives(crash())), Child("b", idle)))
    paths = [record.name.removeprefix("spry_py.").replace(".", "/") for record in book.records]
    missing = [
        record.getMessage()
        for path, record in zip(paths, book.records, strict=True)
        if path not in record.getMessage()
    ]
    assert (missing, len(paths)) == ([], 9)


def test_fields_carry_the_names_of_the_spans() -> None:
    failed = logs(shop(Child("a", lives(crash())), Child("b", idle))).one("ERROR")
    assert fields(failed) == {
        "spry.system.path": "shop",
        "spry.system.incarnation": 1,
        "spry.child.key": "a",
        "spry.child.path": "shop/a",
        "spry.child.incarnation": 1,
        "spry.child.kind": "worker",
        "spry.restart.type": "permanent",
        "spry.termination.reason": "failed",
        "spry.termination.burden": "none",
        "spry.child.lifetime": 1.0,
        "error.type": "ValueError",
    }


def test_records_name_the_trace_and_the_span_they_belong_to() -> None:
    with kept() as book, recording() as spans:
        play(lambda: until_cured(shop(Child("a", lives(crash())))))
    (term,) = spans.named("spry.term")
    assert term.context is not None
    failed = book.one("ERROR")
    assert vars(failed)["trace_id"] == f"{term.context.trace_id:032x}"
    assert vars(failed)["span_id"] == f"{term.context.span_id:016x}"


async def until_cured(tree: SystemSupervisor) -> None:
    with trio.move_on_after(5):
        await forever(tree)


def test_an_end_that_is_no_failure_is_no_error() -> None:
    book = logs(shop(Child("a", lives((1.0, None)), restart="transient"), Child("b", idle)))
    assert book.told("WARNING", "ERROR") == []
    assert book.told()[3] == ("INFO", "spry_py.shop.a")


def test_a_refusal_is_told_as_an_escalation_of_the_system() -> None:
    with kept() as book:
        fails(shop(Child("a", lives(crash())), breaker=NeverRestart()), TooManyRestarts)
    assert book.told("ERROR") == [("ERROR", "spry_py.shop.a"), ("ERROR", "spry_py.shop")]


def test_an_escalation_over_two_levels_tells_each_level_once() -> None:
    low = supervisor(Child("leaf", lives(crash())), breaker=NeverRestart())
    mid = supervisor(Child("low", low), breaker=NeverRestart())
    book = logs(shop(Child("mid", mid)))
    errors = [name for _, name in book.told("ERROR")]
    assert errors[0] == "spry_py.shop.mid.low.leaf"
    assert list(dict.fromkeys(errors)) == [
        "spry_py.shop.mid.low.leaf",
        "spry_py.shop.mid.low",
        "spry_py.shop.mid",
    ]


def test_a_failed_start_is_an_error_and_ignore_is_none() -> None:
    ignoring = Child("i", lives((BEFORE_STARTED, Ignore())))
    failing = Child("a", lives((BEFORE_STARTED, ValueError("no"))))
    with kept() as book, recording(), pytest.raises(SpryError):
        play(lambda: forever(shop(ignoring, failing)))
    assert book.told("ERROR")[0] == ("ERROR", "spry_py.shop.a")
    assert "spry_py.shop.i" not in [name for _, name in book.told("WARNING", "ERROR")]


def test_a_stuck_child_is_a_warning_that_shows_its_stack() -> None:
    async def shields_itself() -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(5)

    book = logs(shop(Child("a", shields_itself)), until=1.0)
    assert book.told("WARNING") == [("WARNING", "spry_py.shop.a")] * 2
    for record in book.records:
        if record.levelname == "WARNING":
            assert "shop/a" in record.getMessage()
            assert "shields_itself" in record.getMessage()


def test_a_child_that_had_to_be_aborted_is_a_warning() -> None:
    async def deaf() -> None:
        await current_context().settled()
        await trio.sleep_forever()

    book = logs(shop(Child("a", deaf, shutdown=2.0)), until=1.0)
    assert ("WARNING", "spry_py.shop.a") in book.told()


def test_one_record_per_fact() -> None:
    book = logs(shop(Child("a", lives(crash())), Child("b", idle)))
    seen = [(record.name, record.getMessage()) for record in book.records]
    assert len(set(seen)) == len(seen)


def test_an_application_may_choose_what_it_hears_of_a_part_of_the_tree() -> None:
    quiet = logging.getLogger("spry_py.shop.web")
    quiet.setLevel(logging.ERROR)
    try:
        book = logs(shop(Child("web", supervisor(Child("a", lives(crash())), Child("b", idle)))))
    finally:
        quiet.setLevel(logging.NOTSET)
    assert book.told() == [
        ("INFO", "spry_py.shop"),
        ("ERROR", "spry_py.shop.web.a"),
        ("INFO", "spry_py.shop"),
    ]


def test_nothing_below_the_level_is_told() -> None:
    with kept(logging.ERROR) as book:
        tell(shop(Child("a", lives(crash())), Child("b", lives((1.0, None)))))
    assert book.told() == [("ERROR", "spry_py.shop.a")]


class Deaf(logging.Handler):
    """Takes errors alone, like one that sends mail."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)

    def emit(self, record: logging.LogRecord) -> None:
        pass


@pytest.mark.parametrize(
    ("handlers", "filters", "made"),
    [
        ([logging.NullHandler()], [], []),
        ([Deaf()], [], ["ERROR"]),
        ([logging.NullHandler(), Deaf()], [], ["ERROR"]),
        ([logging.StreamHandler(io.StringIO())], [], ["INFO", "ERROR", "WARNING"]),
        # a filter may do with a record what it likes
        ([logging.NullHandler()], [logging.Filter()], ["INFO", "ERROR", "WARNING"]),
        # without any handler, warnings go to stderr
        ([], [], ["ERROR", "WARNING"]),
    ],
)
def test_no_record_is_made_that_no_handler_takes(
    handlers: list[logging.Handler],
    filters: list[logging.Filter],
    made: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    logger, levels = logging.getLogger("spry_py"), list[str]()

    def make(*args: Any, **options: Any) -> logging.LogRecord:
        record = logging.LogRecord(*args, **options)
        levels.append(record.levelname)
        return record

    loggers = logging.Logger.manager.loggerDict
    for name in [name for name in loggers if name.startswith("spry_py.")]:
        monkeypatch.delitem(loggers, name)  # with one below it, its own filters do not decide
    monkeypatch.setattr(logger, "handlers", handlers)
    monkeypatch.setattr(logger, "filters", filters)
    monkeypatch.setattr(logger, "propagate", False)
    before, factory = logger.level, logging.getLogRecordFactory()
    logger.setLevel(logging.INFO)
    logging.setLogRecordFactory(make)
    try:
        tell(shop(Child("a", lives(crash()))))
    finally:
        logging.setLogRecordFactory(factory)
        logger.setLevel(before)
    assert list(dict.fromkeys(levels)) == made


def test_a_subsystem_aborted_by_its_own_handle_is_told_as_such() -> None:
    async def story() -> None:
        async with open_system(shop(Child("inner", supervisor(Child("a", idle))))) as tree:
            await trio.sleep(1)
            tree.child("inner").value.abort()
            await trio.sleep(1)

    with kept() as book, recording():
        play(story)
    said = [record.getMessage() for record in book.records if record.name == "spry_py.shop.inner"]
    assert "aborted" in said[1]
