"""Log records on the other side, on their way into the log of the tree."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable
from contextvars import ContextVar
from typing import Final

from spry_py import current_context

from .messages import Log

# what to do with a record of the code of the incarnation in whose context it was written
REPORT: Final[ContextVar[Callable[[Log], object] | None]] = ContextVar(
    "spry_py_remote_report", default=None
)


class Reporter(logging.Handler):
    """Passes on what the code of remote children logs, in whatever thread.

    One is enough for a process: each record belongs to the child in whose context it was written.
    """

    def emit(self, record: logging.LogRecord) -> None:
        report = REPORT.get()
        if report is None:
            return
        try:
            below = _below(record)
            if below is not None:
                report(Log(record.levelno, _text(record), record.name, below))
        except Exception:
            self.handleError(record)


def install() -> Reporter:
    """See to it that there is one in this process, and return it."""
    root = logging.getLogger()
    for handler in root.handlers:
        if isinstance(handler, Reporter):
            return handler
    reporter = Reporter()
    root.addHandler(reporter)
    return reporter


def _text(record: logging.LogRecord) -> str:
    text = record.getMessage()
    if record.exc_info and record.exc_info[0] is not None:
        text += "\n" + "".join(traceback.format_exception(*record.exc_info)).rstrip()
    return text


def _below(record: logging.LogRecord) -> str | None:
    """The path below that of the child; ``None`` for what its own tree reports of it anyway."""
    fields = vars(record)
    path = fields.get("spry.child.path") or fields.get("spry.system.path")
    if path is not None and record.name.split(".")[0] == "spry_py":
        # the tree there has the child's key twice: as its root, and below that
        keys = str(path).split("/")[2:]
        return "/".join(keys) if keys else None
    try:
        keys = current_context().path.split("/")[2:]
    except RuntimeError:
        return ""
    return "/".join(keys)
