"""Who was here, and how often: counted in a SQLite database, outside of all children."""

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeVar, TypeVarTuple

import trio

from spry_py import Context, current_context

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

DATA = Path(os.environ.get("GREETER_DATA", "."))
DATABASE = DATA / "visits.db"
BACKUPS = DATA / "backups"

TABLE = "CREATE TABLE IF NOT EXISTS visits (name TEXT PRIMARY KEY, count INTEGER NOT NULL)"
VISIT = """
    INSERT INTO visits VALUES (?, 1)
    ON CONFLICT (name) DO UPDATE SET count = count + 1 RETURNING count
"""


def connected(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, check_same_thread=False)
    connection.execute(TABLE)
    return connection


class Visits(Protocol):
    """What most users of the store need of it."""

    async def visit(self, name: str) -> int:
        """Count a visit, and return its number."""
        ...


class Store:
    """The visits in one database. Its calls run in a thread, one after another.

    A call that the database refuses raises `sqlite3.Error`, and the child that keeps this store has
    failed with it: it is restarted, and all that use it receive a new store.
    """

    def __init__(self, connection: sqlite3.Connection, keeper: Context) -> None:
        self._connection = connection
        self._keeper = keeper
        self._turn = trio.CapacityLimiter(1)

    async def visit(self, name: str) -> int:
        return await self._call(self._visit, name)

    async def visits(self) -> dict[str, int]:
        """All names, with the number of their visits."""
        return await self._call(self._visits)

    async def back_up(self, path: Path) -> None:
        """Write a copy of the database."""
        await self._call(self._back_up, path)

    async def close(self) -> None:
        """Wait for the call under way, and disconnect. Not to be cancelled."""
        with trio.CancelScope(shield=True):
            async with self._turn:
                self._connection.close()

    async def _call(self, function: Callable[[*Ts], T], *args: *Ts) -> T:
        try:
            return await trio.to_thread.run_sync(function, *args, limiter=self._turn)
        except sqlite3.Error as error:
            self._keeper.fail(error)
            raise

    def _visit(self, name: str) -> int:
        with self._connection:
            ((count,),) = self._connection.execute(VISIT, (name,)).fetchall()
        return int(count)

    def _visits(self) -> dict[str, int]:
        return dict(self._connection.execute("SELECT name, count FROM visits ORDER BY name"))

    def _back_up(self, path: Path) -> None:
        path.parent.mkdir(exist_ok=True)
        copy = sqlite3.connect(path)
        try:
            self._connection.backup(copy)
        finally:
            copy.close()


async def keep_store(path: Path, *, task_status: trio.TaskStatus[Store]) -> None:
    """A child: connects, lends the store out, and disconnects at its end."""
    store = Store(await trio.to_thread.run_sync(connected, path), current_context())
    try:
        task_status.started(store)
        await trio.sleep_forever()
    finally:
        await store.close()
