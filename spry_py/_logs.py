"""Log records: one per fact, from loggers named ``spry_py.<path with dots>``."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from ._attributes import child_attributes, report_attributes
from ._errors import Escalation, StartupFailure, tell

if TYPE_CHECKING:
    from opentelemetry.trace import Span

    from ._nursery import Member
    from ._termination import TerminationReport

NAME: Final = "spry_py"


def is_on(path: str, level: int) -> bool:
    """Whether a record about ``path`` would go anywhere."""
    if _Seen.count == len(_LOGGERS) and not _Seen.below:
        return _ROOT.isEnabledFor(level)
    return _nearest(path).isEnabledFor(level)


def log(
    path: str,
    level: int,
    text: str,
    fields: Mapping[str, object],
    span: Span | None,
    exception: BaseException | None = None,
) -> None:
    """Emit one record about ``path``.

    No logger is made for it unless the application has: `logging` keeps loggers for ever, and a
    supervisor may see millions of keys.
    """
    logger = _nearest(path)
    if not logger.isEnabledFor(level):
        return
    extra = dict(fields)
    if span is not None:
        context = span.get_span_context()
        extra["trace_id"] = f"{context.trace_id:032x}"
        extra["span_id"] = f"{context.span_id:016x}"
    error = None
    # the traceback of what a supervisor passes on was logged where it was raised
    if exception is not None and not isinstance(exception, Escalation | StartupFailure):
        error = (type(exception), exception, exception.__traceback__)
    record = logger.makeRecord(
        _name(path), level, __file__, 0, f"{path} {text}", (), error, "log", extra, None
    )
    logger.handle(record)


def log_child(
    member: Member,
    level: int,
    text: str,
    span: Span | None,
    exception: BaseException | None = None,
    report: TerminationReport | None = None,
) -> None:
    """Emit one record about a child."""
    path = member.path
    if is_on(path, level):
        fields = child_attributes(member)
        if report is not None:
            fields |= report_attributes(report)
        log(path, level, text, fields, span, exception)


def log_end(member: Member, report: TerminationReport, span: Span | None) -> None:
    """Emit the record about the end of a child."""
    exception = report.exception
    if exception is not None:
        under = {"none": "", "settling": " while settling", "aborted": " while being aborted"}
        text = f"failed{under[report.burden]}: {tell(exception)}"
        log_child(member, logging.ERROR, text, span, exception, report)
    elif is_on(member.loop.path, logging.INFO):
        text = "ended normally" if report.burden == "none" else f"stopped ({report.burden})"
        if report.burden == "none" and type(report.reason).__name__ == "Aborted":
            text = "was aborted"
        log_child(member, logging.INFO, text, span, None, report)


def _name(path: str) -> str:
    return f"{NAME}.{path.replace('/', '.')}"


def _nearest(path: str) -> logging.Logger:
    """The logger of ``path``, or of the closest path above it that the application has touched."""
    if not _are_some_touched():
        return _ROOT
    name = _name(path)
    while name != NAME:
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


def _are_some_touched() -> bool:
    """Whether there are loggers below ours; looked up again only when loggers have been added."""
    known = _LOGGERS
    if _Seen.count != len(known):
        _Seen.count = len(known)
        _Seen.below = any(name.startswith(f"{NAME}.") for name in known)
    return _Seen.below
