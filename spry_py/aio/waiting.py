"""Waiting in asyncio for what goes on all the same: a cancellation asks for its end, and waits."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import Any, Final, NoReturn

# before that, a timeout around it would leave a second cancellation behind
_MAY_CANCEL_AGAIN: Final = sys.version_info >= (3, 13)


async def until(
    futures: set[asyncio.Future[Any]], on_cancel: Callable[[], object] = lambda: None
) -> asyncio.CancelledError | None:
    """Wait for the first of ``futures``, whatever comes; returns the first cancellation that did.

    It is for the caller to raise.
    """
    cancelled: asyncio.CancelledError | None = None
    while not any(future.done() for future in futures):
        try:
            await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError as exception:
            if cancelled is None:
                cancelled = exception
            on_cancel()
    try:
        return cancelled
    finally:
        del cancelled


def raise_instead(failure: BaseException, cancelled: bool) -> NoReturn:
    """Raise what is of more weight than a cancellation, if one has come meanwhile.

    As after a group of asyncio's, the cancellation comes again at the next await.
    """
    if cancelled:
        cancel_again()
    try:
        raise failure
    finally:
        del failure


def cancel_again() -> None:
    """Let a cancellation that was swallowed come again, counted as one."""
    task = asyncio.current_task()
    if _MAY_CANCEL_AGAIN and task is not None and task.cancelling():
        task.uncancel()
        task.cancel()
