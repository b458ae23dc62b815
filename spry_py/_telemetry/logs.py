"""Log records: one per fact, from loggers named ``spry_py.<path with dots>``."""

from __future__ import annotations

import logging
import math
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from types import CodeType, FrameType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from spry_py._kernel.facts import (
    ChildAborted,
    ChildDiscarded,
    ChildSlow,
    ChildStarted,
    ChildStartFailed,
    ChildStuck,
    ChildTerminated,
    Escalated,
    Event,
    RestartRefused,
    RestartScheduled,
    SystemStarted,
    SystemStopped,
    guarded,
)
from spry_py._spec.errors import Escalation, StartupFailure, is_exit, place_of, summary_of

from .attributes import child_attributes, report_attributes, system_attributes
from .providers import capturing
from .tracebacks import is_plain, traceback_of

if TYPE_CHECKING:
    from opentelemetry.trace import Span

    from spry_py._kernel.facts import AboutChild, AboutSystem
    from spry_py._spec.termination import TerminationReport

NAME: Final = "spry_py"
# On records of a fact of a tree, for handlers that also receive the facts themselves.
FACT_MARK: Final = "spry_py_fact"

# The facts that are logged, and at which level. An end is an error if the child failed; an abort
# is logged if it comes because the child's time is over; a system only if it is a root, since any
# other is logged as a child.
LEVELS: Final[Mapping[type[Event], int]] = {
    ChildStarted: logging.INFO,
    ChildStartFailed: logging.ERROR,
    ChildTerminated: logging.INFO,
    RestartScheduled: logging.WARNING,
    RestartRefused: logging.WARNING,
    ChildAborted: logging.WARNING,
    ChildSlow: logging.WARNING,
    ChildStuck: logging.WARNING,
    ChildDiscarded: logging.WARNING,
    SystemStarted: logging.INFO,
    SystemStopped: logging.INFO,
    Escalated: logging.ERROR,
}


def log(
    fact: type[Event],
    path: str,
    text: str,
    fields: Mapping[str, object],
    span: Span | None,
) -> None:
    """Emit one record about ``path``."""
    level = LEVELS[fact]
    logger = _taker(path, level)
    if logger is not None:
        _emit(logger, level, path, text, fields, span)


def log_child(
    child: AboutChild,
    fact: type[Event],
    text: str,
    span: Span | None,
    exception: BaseException | None = None,
    trace: str | None = None,
) -> None:
    """Emit one record about a child; ``trace`` is the exception's traceback if there is a text."""
    path = child.path
    level = LEVELS[fact]
    logger = _taker(path, level)
    if logger is not None:
        _emit(logger, level, path, text, child_attributes(child), span, exception, trace)


def log_started(child: AboutChild, number: int, span: Span | None) -> None:
    """Emit the record about an incarnation that is up."""
    which = f" (incarnation {number})" if number > 1 else ""
    log_child(child, ChildStarted, f"started{which}", span)


def log_failed_start(
    child: AboutChild, exception: BaseException | None, span: Span | None, trace: str | None
) -> None:
    """Emit the record about a start that has failed."""
    why = why_no_start(exception)
    log_child(child, ChildStartFailed, f"failed to start: {why}", span, exception, trace)


def log_retry(child: AboutChild, pause: float) -> None:
    """Emit a record about a first start that is tried again. No fact: each try is one already."""
    path, most = child.path, child.child.start_attempts
    logger = _taker(path, logging.WARNING)
    if logger is not None:
        of = f" of {most}" if most < math.inf else ""
        text = f"is started again {_when(pause)} (attempt {child.number + 1}{of})"
        fields = child_attributes(child)
        logger.handle(_record(logger, logging.WARNING, path, f"{path} {text}", fields, None))


def when_restarted(delay: float, attempt: int) -> str:
    """When, in words: ``in 0.5 s (attempt 2)``; the first attempt goes without its number."""
    return f"{_when(delay)} (attempt {attempt})" if attempt > 1 else _when(delay)


def _when(delay: float) -> str:
    """To the millisecond, since it is for people."""
    return f"in {round(delay, 3):g} s" if delay else "now"


def log_restart(
    system: AboutSystem,
    child: AboutChild | None,
    attempt: int,
    allowed: bool,
    delay: float,
    span: Span | None,
) -> None:
    """Log whether the breaker has allowed a restart."""
    fact = RestartScheduled if allowed else RestartRefused
    when = when_restarted(delay, attempt)
    if child is None:
        text = f"runs its system function again {when}"
        text = text if allowed else "may not run its system function again"
        log(fact, system.path, text, system_attributes(system), span)
    else:
        text = f"will be restarted {when}" if allowed else "may not be restarted any more"
        log_child(child, fact, text, span)


def log_escalated(system: AboutSystem, error: BaseException, span: Span | None) -> None:
    """Emit the record about a supervisor that gives up."""
    log(Escalated, system.path, f"gives up: {error}", system_attributes(system), span)


def log_end(
    child: AboutChild, report: TerminationReport, span: Span | None, trace: str | None
) -> None:
    """Emit the record about the end of a child."""
    level = logging.ERROR if report.failed else LEVELS[ChildTerminated]
    path = child.path
    logger = _taker(path, level)
    if logger is not None:
        fields = child_attributes(child) | report_attributes(report)
        _emit(logger, level, path, end_of(report), fields, span, report.exception, trace)


def log_hook(child: AboutChild, error: Exception) -> None:
    """Emit the record about an ``on_termination`` that has failed where that changes nothing."""
    path = child.path
    logger = _taker(path, logging.ERROR)
    if logger is not None:
        text = f"failed in its on_termination: {summary_of(error)}"
        _emit(logger, logging.ERROR, path, text, child_attributes(child), None, error)


def why_no_start(exception: BaseException | None) -> str:
    """Why a start has failed, for its log record and its span."""
    return summary_of(exception) if exception is not None else "it was cancelled"


def end_of(report: TerminationReport) -> str:
    exception = report.exception
    if exception is not None:
        under = {"none": "", "settling": " while settling", "aborted": " while being aborted"}
        what = "asked the program to end" if is_exit(exception) else "failed"
        return f"{what}{under[report.burden]}: {summary_of(exception)}"
    if report.burden != "none":
        return f"stopped ({report.burden})"
    return "was aborted" if type(report.reason).__name__ == "Aborted" else "ended normally"


def _emit(
    logger: logging.Logger,
    level: int,
    path: str,
    text: str,
    fields: Mapping[str, object],
    span: Span | None,
    exception: BaseException | None = None,
    trace: str | None = None,
) -> None:
    """Log something about ``path`` with the logger that takes it."""
    if isinstance(exception, Escalation | StartupFailure):
        exception = None  # what a supervisor passes on was logged where it was raised
    entry = Entry(logger, level, path, f"{path} {text}", fields, span, exception, trace)
    handler = _handler_of_entries(logger, level)
    if handler is not None:
        handler.take(entry)
    else:
        logger.handle(entry.record())


class Entry(NamedTuple):
    """What is logged about a fact, of which a record can be made."""

    logger: logging.Logger
    level: int
    path: str
    message: str
    fields: Mapping[str, object]
    span: Span | None
    exception: BaseException | None
    # the traceback of the exception, if there is a text already
    trace: str | None

    def record(self) -> logging.LogRecord:
        """Make the record that handlers of `logging` want."""
        extra = dict(self.fields)
        if self.span is not None:
            context = self.span.get_span_context()
            extra["trace_id"] = f"{context.trace_id:032x}"
            extra["span_id"] = f"{context.span_id:016x}"
            extra["trace_flags"] = int(context.trace_flags)
        error = None
        exception, trace = self.exception, self.trace
        if exception is not None:
            error = (type(exception), exception, place_of(exception))
            if trace is None and not is_plain(exception):
                trace = traceback_of(exception)
        # `logging` compares each field with all that a record has, which none of ours is among; but
        # an application's own class of loggers may look at them
        asked = {} if type(self.logger) is logging.Logger else extra
        record = _record(self.logger, self.level, self.path, self.message, asked, error)
        vars(record).update(extra)
        setattr(record, FACT_MARK, True)
        if error is not None and trace is not None:
            # where formatters look before they format a traceback once more
            record.exc_text = trace.rstrip("\n")
        return record


class EntryHandler(logging.Handler):
    """A handler that does not need a record, which costs more than what is in it."""

    def take(self, entry: Entry) -> None:
        """Do what `emit` would do with the record of the entry."""
        raise NotImplementedError


def write(path: str, level: int, message: str, fields: Mapping[str, object]) -> None:
    """Log something about ``path`` that is no fact of the tree, for code that works in it.

    Raises nothing that a handler or a filter raises, but for a `KeyboardInterrupt`.
    """
    guarded(_write, path, level, message, fields)


def _write(path: str, level: int, message: str, fields: Mapping[str, object]) -> None:
    logger = _taker(path, level)
    if logger is not None:
        logger.handle(_record(logger, level, path, message, fields, None))


def _record(
    logger: logging.Logger,
    level: int,
    path: str,
    message: str,
    fields: Mapping[str, object],
    error: Any,
) -> logging.LogRecord:
    code, line = _caller()
    return logger.makeRecord(
        _name(path), level, code.co_filename, line, message, (), error, code.co_name, fields, None
    )


# What stands between a program and a record of ours.
_BETWEEN: Final = frozenset(("spry_py", "trio", "outcome", "contextlib", "threading"))


def _caller() -> tuple[CodeType, int]:
    """Where the library was called from; for a thread of ours, a place in its own code."""
    here = sys._getframe(1)  # pyright: ignore[reportPrivateUsage] - as `logging` does
    frame: FrameType | None = here
    looked_at: object = None
    while frame is not None:
        names = frame.f_globals
        # a module calls its own functions more often than those of others
        if names is not looked_at and not _is_between(str(names.get("__name__"))):
            return frame.f_code, frame.f_lineno
        looked_at, frame = names, frame.f_back
    return here.f_code, here.f_lineno


@cache
def _is_between(module: str) -> bool:
    return module.partition(".")[0] in _BETWEEN


def is_logged(fact: type[Event], failed: bool = False) -> bool:
    """Whether a record about such a fact might go anywhere, so that it is worth while to make one.

    An end is logged as an error if the child has ``failed``.
    """
    if capturing.get() is not None:
        return True
    level = logging.ERROR if failed else LEVELS[fact]
    # with logging off there is no call of ours in here: it is asked at each start, end and restart
    below = _Seen.below if _Seen.count == len(_LOGGERS) else _has_any_below()
    if below:
        return _ROOT.manager.disable < level
    return _ROOT.isEnabledFor(level) and _is_taken(_ROOT, level)


def _taker(path: str, level: int) -> logging.Logger | None:
    """The logger for a record about ``path``, if it would go anywhere.

    None is made for it unless the application has: `logging` keeps loggers for ever, and a
    supervisor may see millions of keys.
    """
    logger = _nearest(path)
    return logger if _is_taken(logger, level) else None


def _is_taken(logger: logging.Logger, level: int) -> bool:
    """Whether a record of this level would go anywhere, as `logging` hands it up to handlers."""
    if not logger.isEnabledFor(level):
        return False
    if type(logger) is not logging.Logger or logger.filters:
        return True  # what it does with a record is its own affair
    has_handlers = False
    above: logging.Logger | None = logger
    while above is not None:
        for handler in above.handlers:
            if level >= handler.level and type(handler) is not logging.NullHandler:
                return True
            has_handlers = True
        above = above.parent if above.propagate else None
    # without any handler it goes to stderr
    last = logging.lastResort
    return not has_handlers and (last is None or level >= last.level)


def _handler_of_entries(logger: logging.Logger, level: int) -> EntryHandler | None:
    """The only handler that takes what is logged, if it needs no record, and nothing else does."""
    makes_records = logging.getLogRecordFactory() is not logging.LogRecord
    if makes_records or type(logger) is not logging.Logger or logger.filters:
        return None
    found = None
    for handler in handlers_of(logger):
        if level >= handler.level and type(handler) is not logging.NullHandler:
            if found is not None or not isinstance(handler, EntryHandler) or handler.filters:
                return None
            found = handler
    return found


def handlers_of(logger: logging.Logger) -> Iterator[logging.Handler]:
    """The handlers that `logging` hands a record of the logger up to, whatever their levels."""
    above: logging.Logger | None = logger
    while above is not None:
        yield from above.handlers
        above = above.parent if above.propagate else None


def _name(path: str) -> str:
    return f"{NAME}.{path.replace('/', '.')}" if path else NAME


def _nearest(path: str) -> logging.Logger:
    capture = capturing.get()
    if capture is not None:
        return capture.logger
    return logger_of(_name(path)) if _has_any_below() else _ROOT


def logger_of(name: str) -> logging.Logger:
    """The logger of that name, or the closest above it that the application has touched."""
    while name and name != NAME:
        logger = _LOGGERS.get(name)
        if isinstance(logger, logging.Logger):
            return logger
        name = name.rpartition(".")[0]
    return _ROOT


_ROOT: Final = logging.getLogger(NAME)
_LOGGERS: Final = logging.Logger.manager.loggerDict


class _Seen:
    """How many loggers there were when we last looked, and whether any was below ours."""

    count = 0
    below = False


def _has_any_below() -> bool:
    """Whether there is a logger below ours; looked for again when loggers have been added."""
    if _Seen.count != len(_LOGGERS):
        _Seen.count = len(_LOGGERS)
        _Seen.below = any(name.startswith(f"{NAME}.") for name in list(_LOGGERS))
    return _Seen.below
