"""Store: how often each target was up, kept by SQLite.

SQLite blocks, so it runs in worker threads, one call at a time. The calls come from the tasks of
those who use the store. If the database fails, that is the store's failure and not only the
caller's: the store fails its own context, and its supervisor opens a new one and gives it to all.
"""

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import trio

from spry_py import Context, current_context

from .check import Check

T = TypeVar("T")

SCHEMA = """
CREATE TABLE IF NOT EXISTS tally (
    name TEXT PRIMARY KEY,
    checks INTEGER NOT NULL,
    ups INTEGER NOT NULL,
    up INTEGER NOT NULL,
    last_error TEXT
)
"""
RECORD = """
INSERT INTO tally VALUES (:name, 1, :up, :up, :error)
ON CONFLICT (name) DO UPDATE SET
    checks = checks + 1,
    ups = ups + excluded.up,
    up = excluded.up,
    last_error = coalesce(excluded.last_error, last_error)
"""
TALLIES = "SELECT name, checks, ups, up, last_error FROM tally"


@dataclass(frozen=True, slots=True)
class Tally:
    """What is known of one target: how many checks, how many of them good, and how it was last."""

    checks: int
    ups: int
    up: bool
    last_error: str | None


class StoreFailed(Exception):
    """The store could not do what it was asked to do."""


class Store:
    """The started value of `keep_store`; once that has ended, calls raise `StoreFailed`."""

    def __init__(self, connection: sqlite3.Connection, context: Context) -> None:
        self._connection = connection
        self._context = context
        self._one_at_a_time = trio.CapacityLimiter(1)
        self._closed = False

    async def record(self, name: str, check: Check) -> None:
        values = {"name": name, "up": check.up, "error": check.error}
        await self._in_thread(lambda: self._connection.execute(RECORD, values))

    async def tallies(self) -> dict[str, Tally]:
        rows = await self._in_thread(lambda: self._connection.execute(TALLIES).fetchall())
        return {name: Tally(checks, ups, bool(up), error) for name, checks, ups, up, error in rows}

    async def close(self) -> None:
        """Wait for the call that is running, if there is one, then close; not to be interrupted."""
        self._closed = True
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(self._connection.close, limiter=self._one_at_a_time)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        if self._closed:
            raise StoreFailed("the store is closed")
        try:
            return await trio.to_thread.run_sync(work, limiter=self._one_at_a_time)
        except sqlite3.Error as error:
            # A call that was waiting when the store closed is no sign of a bad database.
            if not self._closed:
                self._context.fail(error)
            raise StoreFailed(str(error)) from error


async def keep_store(path: str, *, task_status: trio.TaskStatus[Store]) -> None:
    """Keep the database open until asked to finish: by then no child that used it is left."""
    context = current_context()
    store = Store(await trio.to_thread.run_sync(open_database, path), context)
    try:
        task_status.started(store)
        await context.settled()
    finally:
        await store.close()


def open_database(path: str) -> sqlite3.Connection:
    # Calls come from whichever worker thread is free; the limiter sees to it that they never meet.
    connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
    try:
        connection.execute(SCHEMA)
    except sqlite3.Error:
        connection.close()
        raise
    return connection
