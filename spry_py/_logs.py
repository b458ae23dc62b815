"""Log records: one per fact, from loggers named ``spry_py.<path with dots>``."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Final

NAME: Final = "spry_py"


def is_on(path: str, level: int) -> bool:
    """Whether a record about ``path`` would go anywhere."""
    if _Seen.count == len(_LOGGERS) and not _Seen.below:
        return _ROOT.isEnabledFor(level)
    return _nearest(path).isEnabledFor(level)


def log(
    path: str,
    level: int,
    message: str,
    fields: Mapping[str, object],
    exception: BaseException | None = None,
) -> None:
    """Emit one record about ``path``.

    No logger is made for it unless the application has: `logging` keeps loggers for ever, and a
    supervisor may see millions of keys.
    """
    logger = _nearest(path)
    if not logger.isEnabledFor(level):
        return
    error = (type(exception), exception, exception.__traceback__) if exception is not None else None
    record = logger.makeRecord(
        _name(path), level, __file__, 0, message, (), error, "log", dict(fields), None
    )
    logger.handle(record)


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
