"""Listening to what a tree logs: its records, and what a bridge hands on to OpenTelemetry."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import pytest
from opentelemetry import _logs as logs_api
from opentelemetry.trace import TraceFlags

from spry_py._export.log_bridge import LogBridge

Told = tuple[str, str]


class Book(logging.Handler):
    """Keeps every record of the library."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    def told(self, *levels: str) -> list[Told]:
        """Level and logger of every record, in order; with levels, those alone."""
        kept = [record for record in self.records if not levels or record.levelname in levels]
        return [(record.levelname, record.name) for record in kept]

    def one(self, level: str) -> logging.LogRecord:
        (only,) = [record for record in self.records if record.levelname == level]
        return only


@contextmanager
def kept(level: int = logging.INFO) -> Iterator[Book]:
    logger, book = logging.getLogger("spry_py"), Book()
    before, spreads = logger.level, logger.propagate
    logger.addHandler(book)
    logger.setLevel(level)
    logger.propagate = False
    try:
        yield book
    finally:
        logger.removeHandler(book)
        logger.setLevel(before)
        logger.propagate = spreads


class Kept(NamedTuple):
    """One record, as a logger provider gets it."""

    severity: tuple[int, str]
    body: str
    attributes: dict[str, Any]
    trace_id: int
    span_id: int
    is_sampled: bool


class Sink:
    """In the place of an OpenTelemetry logger; keeps what it gets."""

    def __init__(self) -> None:
        self.kept: list[Kept] = []
        self.made_with: list[tuple[Any, ...]] = []
        self.is_broken = False

    def emit(self, record: Any) -> None:
        if self.is_broken:
            raise OSError("the sink is broken")
        assert record.timestamp <= record.observed_timestamp
        self.kept.append(
            Kept(
                (record.severity_number.value, record.severity_text),
                record.body,
                dict(record.attributes),
                record.trace_id,
                record.span_id,
                bool(record.trace_flags & TraceFlags.SAMPLED),
            )
        )

    def make(self, *arguments: Any) -> Sink:
        self.made_with.append(arguments)
        return self

    def bodies(self) -> list[str]:
        return [kept.body for kept in self.kept]


@contextmanager
def handled(*pairs: tuple[str, logging.Handler]) -> Iterator[None]:
    """Handlers at loggers for the block, and no others: those of the test runner hear nothing."""
    with ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        patch.setattr(logging.getLogger("spry_py"), "propagate", False)
        for name, handler in pairs:
            logging.getLogger(name).addHandler(handler)
            stack.callback(logging.getLogger(name).removeHandler, handler)
        yield


@contextmanager
def bridged(*others: tuple[str, logging.Handler], last: bool = False) -> Iterator[Sink]:
    """A bridge in front of the other handlers, or behind them."""
    sink = Sink()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(logs_api, "get_logger", sink.make)
        bridge = ("spry_py", LogBridge())
        with handled(*([*others, bridge] if last else [bridge, *others])):
            yield sink


@contextmanager
def at_level(level: int) -> Iterator[None]:
    logger = logging.getLogger("spry_py")
    before = logger.level
    logger.setLevel(level)
    try:
        yield
    finally:
        logger.setLevel(before)


def plain() -> tuple[logging.Handler, io.StringIO]:
    stream = io.StringIO()
    return logging.StreamHandler(stream), stream
