"""Tracebacks as text: what `traceback` would say, with the text of each place found only once."""

from __future__ import annotations

import linecache
import sys
import traceback
from collections.abc import Callable

import pytest

from spry_py._telemetry import tracebacks as _tracebacks
from spry_py._telemetry.tracebacks import traceback_of


def caught(function: Callable[[], object]) -> BaseException:
    try:
        function()
    except BaseException as exception:
        return exception
    raise AssertionError("it raised nothing")


def boom() -> None:
    raise ValueError("boom")


def boom_two_lines() -> None:
    raise ValueError("one\ntwo")


def noted() -> None:
    error = KeyError("k")
    error.add_note("look here")
    raise error


def deep(depth: int) -> None:
    if depth:
        deep(depth - 1)
    boom()


def grouped() -> None:
    raise BaseExceptionGroup("both", [ValueError("a"), caught(boom)])


def caused() -> None:
    try:
        boom()
    except ValueError as error:
        raise OSError("disk") from error


def in_passing() -> None:
    try:
        boom()
    except ValueError:
        raise OSError("disk")  # noqa: B904 - a context, and no cause


def compiled() -> None:
    exec("1 +")


PLAIN = [boom, boom_two_lines, noted, compiled, lambda: 1 / 0, lambda: deep(3)]
OTHERS = [lambda: deep(40), grouped, caused, in_passing]


@pytest.mark.parametrize("function", [*PLAIN, *OTHERS])
def test_the_text_is_that_of_the_standard_library(function: Callable[[], object]) -> None:
    for _ in range(2):  # found, and found again
        error = caught(function)
        assert traceback_of(error) == "".join(traceback.format_exception(error))


@pytest.mark.parametrize("function", [*PLAIN, *OTHERS])
def test_without_the_chain_only_the_exception_itself_is_told(
    function: Callable[[], object],
) -> None:
    error = caught(function)
    assert traceback_of(error, chain=False) == "".join(
        traceback.format_exception(error, chain=False)
    )


def test_without_the_chain_the_chain_is_not_looked_at() -> None:
    class Silent(Exception):
        def __str__(self) -> str:
            raise AssertionError("nobody wants to know")

    error = OSError("disk")
    error.__cause__ = Silent()
    assert traceback_of(error, chain=False) == "OSError: disk\n"


def test_an_exception_that_was_never_raised_has_no_places() -> None:
    assert traceback_of(ValueError("boom")) == "ValueError: boom\n"


def test_the_limit_of_the_interpreter_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "tracebacklimit", 1, raising=False)
    error = caught(lambda: deep(3))
    assert traceback_of(error) == "".join(traceback.format_exception(error))


def test_a_place_is_looked_up_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_tracebacks, "_places", {})
    first = traceback_of(caught(boom))

    def not_again(*_: object) -> str:
        raise AssertionError("a line was looked up again")

    monkeypatch.setattr(linecache, "getline", not_again)
    assert traceback_of(caught(boom)) == first


def test_places_do_not_pile_up() -> None:
    for number in range(1_200):
        names: dict[str, Callable[[], object]] = {}
        exec(f"def fail():\n    raise ValueError({number})", names)
        assert f"ValueError: {number}" in traceback_of(caught(names["fail"]))
        assert len(_tracebacks._places) <= 512


def test_a_traceback_can_be_written_anywhere() -> None:
    def fail() -> None:
        raise OSError("caf\xe9 \udc80")

    for cause in (None, ValueError("\ud800")):
        error = caught(fail)
        error.__cause__ = cause
        for each in (error, BaseExceptionGroup("\udfff", [error])):
            text = traceback_of(each)
            assert text.encode().decode() == text
            assert "OSError: caf\xe9 \\udc80" in text
