"""An exception may be any object that Python lets somebody raise, and is treated like any other."""

from __future__ import annotations

import functools
import io
import logging
import pickle
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from typing import Any

import pytest
import trio

import odd
from deciders import asking, everywhere, raising
from logged import kept
from spans import recording
from spry_py import (
    Child,
    ChildFailure,
    DynamicSupervisor,
    Failed,
    NeverRestart,
    NonChildFailure,
    Scope,
    Strategy,
    SystemHandle,
    SystemSupervisor,
    TooManyRestarts,
    Unrecoverable,
    UnrecoverableFailure,
    current_context,
    open_system,
)
from spry_py._telemetry.tracebacks import traceback_of
from spry_py.components import component
from spry_py.events import Event
from spry_py.periodic import periodic
from spry_py.pipes import DeadLetter, Pipe, Stage, Worker, pipeline
from spry_py.processes import call
from spry_py.threads import thread
from stories import Boom, Facts, Record, story, story_with_threads
from workers import STRATEGIES

Make = Callable[[], Exception]
every_kind = pytest.mark.parametrize("make", odd.ALL.values(), ids=odd.ALL.keys())


def told(test: Callable[..., None]) -> Callable[..., None]:
    """A test in which an odd exception comes out shall fail, and not break the whole run."""

    @functools.wraps(test)
    def guarded(*args: Any, **kwargs: Any) -> None:
        try:
            test(*args, **kwargs)
        except BaseException as exception:
            text = traceback_of(exception)
        else:
            return
        pytest.fail(text, pytrace=False)

    return guarded


def failing(error: Exception, record: Record) -> Callable[[], Awaitable[None]]:
    """A child whose first run fails after a second; the next one stays."""
    runs = iter(range(99))

    async def run() -> None:
        number = next(runs)
        record(f"+{number}")
        await trio.sleep(1)
        if number == 0:
            raise error
        await trio.sleep_forever()

    return run


class Formatting(logging.Handler):
    """Makes a text of each record, as a file would; what that raises is kept."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.errors: list[Exception] = []

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self.texts.append(self.format(record))
        except Exception as error:
            self.errors.append(error)


@contextmanager
def all_told() -> Iterator[Formatting]:
    """With spans and with a log, in which each record must make a text."""
    handler = Formatting()
    logger = logging.getLogger("spry_py")
    with recording(), kept():
        logger.addHandler(handler)
        try:
            yield handler
        finally:
            logger.removeHandler(handler)
    assert not handler.errors


async def events_of(tree: SystemHandle, record: Record) -> None:
    """Write down what happens, by its kind; each event has a text, too."""
    async with tree.events() as events:
        async for event in events:
            record(_brief(event))


def _brief(event: Event) -> str:
    assert repr(event).startswith(type(event).__name__)
    return f"{type(event).__name__} {event.path}"


# In a child


async def life(make: Make, strategy: Strategy, **options: Any) -> Facts:
    """What happens around a child that fails once, with a sibling on each side."""
    record = Record()
    error = make()
    before = Child("before", trio.sleep_forever)
    after = Child("after", trio.sleep_forever)
    child = Child("child", failing(error, record), **options)
    with all_told() as told:
        try:
            async with trio.open_nursery() as nursery:
                supervisor = SystemSupervisor([before, child, after], strategy=strategy, name="top")
                tree = await nursery.start(supervisor)
                handle = tree.child("child")
                nursery.start_soon(events_of, tree, record)
                await trio.sleep(10)
                report = handle.last_report
                assert report is not None
                assert report.exception is error
                assert "exception=" in repr(report)
                await tree.stop()
        finally:
            record("over")
    assert any("failed" in text for text in told.texts)
    # which of the tasks of one moment comes first is trio's choice
    return sorted(record.facts)


@every_kind
@told
@story
async def test_a_log_has_its_text_without_spans_too(make: Make) -> None:
    error = make()
    handler = Formatting()
    with kept():
        logging.getLogger("spry_py").addHandler(handler)
        try:
            async with open_system([Child("child", failing(error, Record()))]):
                await trio.sleep(2)
        finally:
            logging.getLogger("spry_py").removeHandler(handler)
    assert not handler.errors
    [text] = [text for text in handler.texts if "child failed: " in text]
    assert "Traceback (most recent call last):" in text
    assert odd.name_of(error) in text


@every_kind
@pytest.mark.parametrize(
    ("strategy", "restart"),
    [("one_for_one", "permanent"), ("rest_for_one", "transient"), ("one_for_all", "permanent")],
)
@told
@story
async def test_a_child_that_fails_with_it_is_restarted(
    make: Make, strategy: Strategy, restart: str
) -> None:
    facts = await life(make, strategy, restart=restart)
    assert facts == await shifted(life(Boom, strategy, restart=restart), facts)
    assert "+1" in [fact for _, fact in facts]


async def shifted(story: Awaitable[Facts], like: Facts) -> Facts:
    """What happens in another story, on the clock of the one before."""
    start = trio.current_time()
    return [(moment - start + like[0][0], fact) for moment, fact in await story]


@every_kind
@told
@story
async def test_a_temporary_child_ends_with_it_alone(make: Make) -> None:
    record = Record()
    children = [
        Child("child", failing(make(), record), restart="temporary"),
        Child("other", trio.sleep_forever),
    ]
    with all_told():
        async with open_system(children) as tree:
            await trio.sleep(10)
            assert [info.key for info in tree.which_children()] == ["other"]
    assert record.facts == [(0, "+0")]


@every_kind
@told
@story
async def test_it_escalates_through_all_levels_with_words(make: Make) -> None:
    error = make()
    record = Record()
    child = Child("child", failing(error, record))
    inner = SystemSupervisor([child], breaker=NeverRestart)
    outer = SystemSupervisor([Child("inner", inner)], breaker=NeverRestart, name="top")
    with all_told(), pytest.raises(TooManyRestarts) as caught:
        async with open_system(outer):
            await trio.sleep_forever()
    escalation = caught.value
    while isinstance(escalation.__cause__, TooManyRestarts):
        assert escalation.root_cause is odd.root_of(error)
        escalation = escalation.__cause__
    assert escalation.__cause__ is error
    for failure in (caught.value, escalation):
        assert "root cause: " in str(failure)
        assert repr(failure).startswith("TooManyRestarts('")


@every_kind
@told
@story
async def test_a_start_that_fails_with_it_is_a_child_failure(make: Make) -> None:
    error = make()

    async def start(*, task_status: trio.TaskStatus[None]) -> None:
        raise error

    with all_told():
        with pytest.raises(ChildFailure) as caught:
            async with open_system([Child("child", start)]):
                raise AssertionError("it has not started")
        assert caught.value.__cause__ is error
        assert "failed to start" in str(caught.value)
        async with open_system([]) as tree:
            with pytest.raises(ChildFailure) as caught:
                await tree.start_child(Child("child", start))
            assert caught.value.__cause__ is error


@every_kind
@pytest.mark.parametrize("strategy", STRATEGIES)
@told
@story
async def test_a_restart_that_fails_with_it_is_tried_again(make: Make, strategy: Strategy) -> None:
    runs = iter(range(99))

    async def start(*, task_status: trio.TaskStatus[int]) -> None:
        number = next(runs)
        if number == 1:
            raise make()
        task_status.started(number)
        await trio.sleep(1 if number == 0 else 1e9)

    with all_told():
        async with open_system([Child("child", start)], strategy=strategy) as tree:
            await trio.sleep(10)
            assert (tree.child("child").value, tree.child("child").restarts) == (2, 2)


@every_kind
@told
@story
async def test_raised_while_being_stopped_it_is_reported_with_its_burden(make: Make) -> None:
    error = make()

    async def child() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise error

    with all_told():
        async with open_system([Child("child", child)]) as tree:
            await tree.terminate_child("child")
            report = tree.child("child").last_report
    assert report is not None
    assert (report.exception is error, report.burden) == (True, "aborted")


class Uncopied(BaseExceptionGroup[BaseException]):
    """A group that makes no copies of itself."""

    def derive(self, excs: Any) -> Any:
        raise LookupError("there is only one")


@pytest.mark.parametrize("errors", [[], [Boom("of the child")]], ids=["cancelled", "more"])
@story
async def test_a_group_that_cannot_be_split_is_taken_apart_all_the_same(
    errors: list[Exception],
) -> None:
    async def child() -> None:
        try:
            await trio.sleep_forever()
        except trio.Cancelled as cancelled:
            raise Uncopied("both", [cancelled, *errors]) from None

    # trio itself takes a group apart at the scope that was cancelled: that of the subsystem
    sub = Child("sub", SystemSupervisor([Child("child", child)]), shutdown=0)
    async with open_system([sub]) as tree:
        handle = tree.find("sub/child")
        await tree.terminate_child("sub")
        report = handle.last_report
    assert report is not None
    assert report.failed is bool(errors)
    assert report.cause is (errors[0] if errors else None)


# Elsewhere


@every_kind
@told
@story
async def test_a_system_function_that_raises_it_is_a_non_child_failure(make: Make) -> None:
    error = make()

    async def system(scope: Scope) -> None:
        raise error

    with all_told(), pytest.raises(NonChildFailure) as caught:
        async with open_system(system):
            raise AssertionError("it has not started")
    assert caught.value.__cause__ is error
    assert "the system function of" in str(caught.value)


@every_kind
@everywhere
@told
@story
async def test_raised_by_what_is_asked_about_a_child_it_escalates(make: Make, where: str) -> None:
    error = make()
    options, breaker = asking(where, raising(error))
    child = Child("child", failing(Boom(), Record()), **options)
    with all_told(), pytest.raises(UnrecoverableFailure) as caught:
        async with open_system([child], breaker=breaker, name="top"):
            await trio.sleep_forever()
    assert caught.value.path == "top/child"
    assert caught.value.__cause__ is error
    assert "cannot be recovered" in str(caught.value)


@every_kind
@told
@story
async def test_a_task_raises_the_very_exception(make: Make) -> None:
    error = make()

    async def task() -> None:
        await trio.sleep(1)
        raise error

    async def each(item: int) -> None:
        await task()

    with all_told():
        async with open_system(DynamicSupervisor()) as pool:
            with pytest.raises(type(error)) as caught:
                await pool.run(task)
            assert caught.value is error
            async with pool.map(each, [1]) as results:
                assert [result async for result in results] == [Failed(error)]


@every_kind
@told
@story
async def test_a_child_that_is_failed_with_it(make: Make) -> None:
    error = make()

    async def child() -> None:
        try:
            await trio.sleep(1)
            current_context().fail(error)
            await trio.sleep_forever()
        finally:
            raise Boom("while it was cancelled")

    with all_told():
        only = Child("child", child, recoverable=lambda _: False, on_unrecoverable="discard")
        async with open_system([only]) as tree:
            await trio.sleep(2)
            report = tree.child("child").last_report
        assert report is not None
        assert report.exception is error


@every_kind
@told
@story
async def test_what_a_block_raises_comes_out_as_it_is(make: Make) -> None:
    async def block(around: str) -> None:
        async with open_system(DynamicSupervisor()) as pool:
            if around == "map":
                async with pool.map(work, [1]):
                    raise error
            if around == "events":
                async with pool.events():
                    raise error
            raise error

    async def work(item: int) -> None: ...

    for around in ("open_system", "map", "events"):
        error = make()
        with pytest.raises(type(error)) as caught:
            await block(around)
        assert caught.value is error


class Refused(Unrecoverable):
    """One of ours, with arguments of anybody's."""


def test_our_own_errors_have_words_whatever_they_hold() -> None:
    for make in odd.ALL.values():
        for args in ((), (make(),), (make(), 3), (TooManyRestarts("a", 1, make()),)):
            for error in (Refused(*args), TooManyRestarts("path", 2, make())):
                assert isinstance(str(error), str)
                assert repr(error).startswith(type(error).__name__ + "(")
    assert repr(Refused(odd.MAKERS["Faceless"]())) == "Refused(<Faceless repr() failed>)"
    assert str(Refused("one")) == "one"
    assert str(Refused("one", 2)) == "('one', 2)"
    assert (str(Refused()), repr(Refused("one"))) == ("", "Refused('one')")


def test_ctrl_c_while_words_are_looked_for_is_no_lack_of_words() -> None:
    class Struck(Exception):
        def __str__(self) -> str:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        str(TooManyRestarts("path", 2, Struck()))


def test_words_can_be_written_anywhere() -> None:
    text = str(TooManyRestarts("path", 2, OSError("caf\xe9 \udc80")))
    assert text.endswith("OSError: caf\xe9 \\udc80")
    io.TextIOWrapper(io.BytesIO(), "utf-8").write(text)


# No loops


def contexts(error: BaseException) -> list[BaseException]:
    """What `contextlib.ExitStack` walks along, which must end."""
    found = [error]
    while found[-1].__context__ is not None:
        found.append(found[-1].__context__)
        assert len(found) < 100, "a loop"
    return found


@story
async def test_what_is_raised_beside_the_failure_that_was_told_before_is_its_context() -> None:
    disk, worker = OSError("disk"), Boom("worker broke")

    async def flush() -> None:
        current_context().fail(disk)
        raise worker

    with pytest.raises(OSError, match="disk") as caught:
        async with open_system(DynamicSupervisor()) as pool:
            await pool.run(flush)
    assert caught.value is disk
    assert contexts(disk) == [disk, worker]


@story
async def test_what_is_raised_from_the_failure_that_was_told_before_leads_to_it() -> None:
    disk = OSError("disk")

    async def flush() -> None:
        try:
            raise disk
        except OSError as error:
            current_context().fail(error)
            raise Boom("worker broke") from error

    with pytest.raises(Boom) as caught:
        async with AsyncExitStack() as stack:
            pool = await stack.enter_async_context(open_system(DynamicSupervisor()))
            stack.push_async_callback(pool.run, flush)
    assert caught.value.__cause__ is disk
    assert contexts(caught.value) == [caught.value, disk]


@pytest.mark.parametrize("grouped", [False, True])
@story
async def test_what_was_told_before_and_is_raised_then_is_the_failure(grouped: bool) -> None:
    disk = OSError("disk")

    async def fail() -> None:
        await trio.sleep(1)
        current_context().fail(disk)
        raise ExceptionGroup("of one", [disk]) if grouped else disk

    only = Child("child", fail, recoverable=lambda _: False, on_unrecoverable="discard")
    async with open_system([only]) as tree:
        await trio.sleep(2)
        report = tree.child("child").last_report
    assert report is not None
    assert report.exception is disk
    assert contexts(disk) == [disk]


@pytest.mark.parametrize("where", ["on_termination", "recoverable", "backoff"])
@story
async def test_the_failure_of_a_child_raised_again_by_what_is_asked_about_it(where: str) -> None:
    error = Boom("of the child")

    async def hook(report: Any) -> None:
        raise report.exception

    def ask(failure: Any) -> Any:
        raise failure if where == "recoverable" else failure.outcome.exception()

    options: dict[str, Any] = {where: hook if where == "on_termination" else ask}
    child = Child("child", failing(error, Record()), **options)
    with pytest.raises(UnrecoverableFailure) as caught:
        async with open_system([child]):
            await trio.sleep_forever()
    assert caught.value.__cause__ is error
    assert contexts(error) == [error]


@story
async def test_an_error_of_a_hook_says_on_top_of_which_failure_it_came() -> None:
    error, ours = Boom("of the child"), Boom("of the hook")

    async def hook(report: Any) -> None:
        raise ours

    with pytest.raises(UnrecoverableFailure):
        async with open_system([Child("child", failing(error, Record()), on_termination=hook)]):
            await trio.sleep_forever()
    assert contexts(ours) == [ours, error]


# In the extensions


@every_kind
@told
@story
async def test_a_pipeline_loses_nothing_behind_the_item_whose_worker_failed(make: Make) -> None:
    passed: list[int] = []
    send, receive = trio.open_memory_channel[DeadLetter](9)
    error = make()

    async def source(pipe: Pipe[Any, int]) -> None:
        for item in range(4):
            await pipe.put(item)

    def work(item: int) -> int:
        if item == 1:
            raise error
        return item

    chain = pipeline(
        Worker("source", source),
        Stage("work", work, max_deliveries=2),
        Stage("end", passed.append),
        dead_letters=send,
    )
    with all_told() as log:
        async with open_system([Child("chain", chain, restart="transient")]) as tree:
            await tree.child("chain").wait()
    assert passed == [0, 2, 3]
    letter = receive.receive_nowait()
    assert (letter.item, letter.exception is error) == (1, True)
    assert repr(letter).startswith("DeadLetter(item=1, ")
    assert any("gave up 1 after 2 deliveries; the last one failed with" in x for x in log.texts)


@every_kind
@told
@story
async def test_a_component_recovers_from_it(make: Make) -> None:
    error = make()
    recovered: list[object] = []

    class Thing:
        async def run(self) -> None:
            await trio.sleep(1)
            if not recovered:
                raise error
            await trio.sleep_forever()

        async def recover(self, former: BaseException) -> None:
            recovered.append(former)

    with all_told():
        async with open_system([Child("thing", component(Thing))]) as tree:
            await trio.sleep(5)
            assert tree.find("thing/run").restarts == 1
    [former] = recovered
    assert former is error


@every_kind
@told
@story
async def test_a_periodic_child_fails_with_it(make: Make) -> None:
    error = make()

    async def once() -> None:
        raise error

    with all_told(), pytest.raises(TooManyRestarts) as caught:
        async with open_system([Child("child", periodic(once, every=1, timeout=2))]):
            await trio.sleep_forever()
    assert caught.value.__cause__ is error


@every_kind
@told
@story_with_threads
async def test_a_thread_fails_with_it(make: Make) -> None:
    error = make()

    def fail() -> None:
        raise error

    with all_told(), pytest.raises(TooManyRestarts) as caught:
        async with open_system([Child("child", thread(fail))]):
            await trio.sleep_forever()
    assert caught.value.__cause__ is error


@pytest.mark.parametrize(
    "name", ["Frozen", "Wordless", "Faceless", "Numeric", "Linked", "Undecided"]
)
def test_a_process_hands_over_what_it_can(name: str) -> None:
    kind = odd.MAKERS[name]
    whole, type_name, message, text = pickle.loads(call.packed(caught_alone(kind)))
    assert isinstance(whole, bytes)
    assert type_name == name
    assert isinstance(message, str)
    assert name in text


def caught_alone(make: Make) -> Exception:
    try:
        raise make()
    except Exception as error:
        return error
