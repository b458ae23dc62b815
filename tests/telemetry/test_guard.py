"""The guard around what emits: what it lets through, what it reports, and to whom."""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import trio
from opentelemetry import propagate, trace
from opentelemetry.propagators.textmap import TextMapPropagator

import odd
from logged import kept
from metered import meters
from spans import play
from spry_py import Child, open_system
from spry_py._kernel.guard import MOST_REPORTED, Guard
from spry_py._kernel.life import _until_first_checkpoint
from spry_py._telemetry.logs import write
from spry_py.lowlevel import add_stack, carrier
from spry_py.pipes import Pipe, Worker, pipeline
from stories import Boom, story, warnings_of
from trapped import unraisable


def never(error: BaseException) -> None:
    raise AssertionError("it was not interrupted") from error


class Listener:
    def __init__(self, error: type[BaseException] = Boom) -> None:
        self.error = error

    def __call__(self) -> None:
        raise self.error

    def __eq__(self, other: object) -> bool:
        raise AssertionError("listeners are not compared")

    __hash__ = None  # type: ignore[assignment]


def test_what_is_returned_comes_through_and_what_is_raised_does_not() -> None:
    with unraisable() as heard:
        guard = Guard(never)
        assert guard(divmod, 7, 2) == (3, 1)
        assert guard(divmod, 7, 0) is None
    (args,) = heard
    assert (args.exc_type, args.object) == (ZeroDivisionError, divmod)


@pytest.mark.parametrize("make", odd.ALL.values(), ids=odd.ALL)
def test_any_exception_is_reported_with_whose_it_is(make: Callable[[], Exception]) -> None:
    error = make()

    class Raises:
        def emit(self) -> None:
            raise error

    raises = Raises()
    with unraisable() as heard:
        assert Guard(never)(raises.emit) is None
    (args,) = heard
    assert args.exc_value is error
    assert args.exc_traceback.tb_frame.f_code.co_name == "__call__"
    assert args.object is raises


def test_the_first_error_of_each_is_reported_of_a_hundred_at_most_in_all_guards() -> None:
    listeners = [Listener() for _ in range(MOST_REPORTED + 20)]
    first, second = Guard(never), Guard(never)
    with unraisable() as heard:
        for _ in range(3):
            for listener in listeners:
                first(listener)
        second(listeners[0])
        second(listeners[-1])
    found = [args.object for args in heard]
    expected = [*listeners[:MOST_REPORTED], listeners[-1]]
    assert all(one is other for one, other in zip(found, expected, strict=True))


def test_a_hook_that_raises_is_the_end_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    interrupts: list[BaseException] = []
    guard = Guard(interrupts.append)
    for error in (ValueError, SystemExit, KeyboardInterrupt):
        monkeypatch.setattr(sys, "unraisablehook", lambda _, error=error: Listener(error)())
        assert guard(Listener()) is None
    assert [type(error) for error in interrupts] == [KeyboardInterrupt]


def test_ctrl_c_waits_until_a_listener_is_done() -> None:
    heard: list[str] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "a started" in record.getMessage():
                signal.raise_signal(signal.SIGINT)
                heard.append("to its end")

    async def main() -> None:
        async with open_system([Child("a", trio.sleep_forever)], name="root"):
            await trio.sleep_forever()

    logger, handler = logging.getLogger("spry_py"), Handler()
    logger.addHandler(handler)
    try:
        with kept(), pytest.raises(KeyboardInterrupt), unraisable() as dropped:
            play(main)
    finally:
        logger.removeHandler(handler)
    assert (heard, dropped) == (["to its end"], [])


def test_a_child_that_is_left_at_its_first_checkpoint_is_closed() -> None:
    ended: list[str] = []

    async def child() -> None:
        try:
            await trio.lowlevel.checkpoint()
        finally:
            ended.append("closed")

    started = Listener(KeyboardInterrupt)
    incarnation: Any = SimpleNamespace(is_cut=False, started=started)

    async def main() -> None:
        with pytest.raises(KeyboardInterrupt):
            await _until_first_checkpoint(child(), incarnation)
        assert ended == ["closed"]

    trio.run(main)


@pytest.mark.parametrize("error", [Boom, SystemExit])
def test_providers_that_give_no_tracer_and_no_meter_are_left_out(
    error: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Provider:
        def get_tracer(self, *_: Any) -> Any:
            raise error

        get_meter = get_tracer

    async def main() -> str:
        async with open_system([Child("a", trio.sleep_forever)], name="root") as root:
            return root.child("a").status

    provider: Any = Provider()
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)
    with meters(provider), unraisable() as heard:
        assert play(main) == "running"
    assert [(args.exc_type, args.object) for args in heard] == [(error, provider)]


def test_a_provider_that_lets_an_interrupt_in_ends_the_tree() -> None:
    class Provider:
        def get_meter(self, *_: Any) -> Any:
            raise KeyboardInterrupt

    async def main() -> None:
        async with open_system([Child("a", trio.sleep_forever)], name="root"):
            await trio.sleep_forever()

    provider: Any = Provider()
    with meters(provider), pytest.raises(KeyboardInterrupt):
        play(main)


class Broken(TextMapPropagator):
    def inject(self, carrier: Any, context: Any = None, setter: Any = None) -> None:
        carrier["half"] = "way"
        raise Boom

    extract = inject  # type: ignore[assignment]
    fields: Any = frozenset()


def test_a_propagator_has_no_say_in_what_a_child_does(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    async def look() -> None:
        seen.append(carrier())

    async def main() -> None:
        children = [Child("a", look, restart="temporary")]
        async with open_system(children, auto_shutdown="when_empty") as root:
            await root.wait()

    monkeypatch.setattr(propagate, "inject", Broken().inject)
    with unraisable() as heard:
        play(main)
    assert (seen, len(heard)) == ([{"half": "way"}], 1)


@story
async def test_what_says_where_a_child_stands_may_fail() -> None:
    def broken() -> str:
        raise Boom

    async def clings() -> None:
        add_stack(broken)
        add_stack(lambda: 3)  # type: ignore[arg-type,return-value]
        add_stack(lambda: "  in another place\n")
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(2)

    with unraisable() as heard, warnings_of("root/a") as warned:
        async with open_system([Child("a", clings)], name="root"):
            await trio.sleep(1)
    assert [args.exc_type for args in heard] == [Boom, TypeError]
    assert "add_stack" in str(heard[1].exc_value)
    assert [time for time, _, text in warned if "in another place" in text] == [2.0]


def test_a_record_about_what_children_do_cannot_fail_them() -> None:
    logger = logging.getLogger("spry_py.some")
    handler = logging.Handler()
    handler.emit = Listener()  # type: ignore[method-assign,assignment]
    logger.addHandler(handler)
    try:
        with unraisable() as heard:
            write("some/path", logging.ERROR, "text", {})
    finally:
        logger.removeHandler(handler)
    assert len(heard) == 1


def test_the_span_of_a_delivery_cannot_fail_its_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    async def source(pipe: Pipe[int, int]) -> None:
        for item in range(3):
            await pipe.put(item)

    async def work(pipe: Pipe[int, int]) -> None:
        async for item in pipe:
            if item == 1 and pipe.deliveries == 1:
                raise Boom
            seen.append(item)

    async def main() -> None:
        line = pipeline(Worker("source", source), Worker("work", work))
        async with open_system([Child("line", line, restart="transient")], name="root") as root:
            await root.child("line").wait()

    def broken(*_: Any) -> Any:
        raise Boom

    monkeypatch.setattr("spry_py.pipes.spans.tracer_provider", broken)
    with unraisable() as heard:
        play(main)
    assert (seen, len(heard)) == ([0, 1, 2], 1)


def test_listeners_that_nothing_can_watch_are_reported_by_their_type() -> None:
    class Slim:
        __slots__ = ()

        def __call__(self) -> None:
            raise Boom

    first, second = Slim(), Slim()
    with unraisable() as heard:
        assert [Guard(never)(one) for one in (first, second, first)] == [None, None, None]
    assert [args.object for args in heard] == [first]


def test_an_interrupt_out_of_a_record_about_what_children_do_goes_on() -> None:
    class Interrupted(logging.Filter):
        def filter(self, record: logging.LogRecord) -> bool:
            raise KeyboardInterrupt

    logger, interrupted = logging.getLogger("spry_py"), Interrupted()
    logger.addFilter(interrupted)
    try:
        with unraisable() as heard, pytest.raises(KeyboardInterrupt):
            write("a/b", logging.ERROR, "what happened", {})
    finally:
        logger.removeFilter(interrupted)
    assert heard == []
