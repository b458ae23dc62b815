"""What may be asked of a child from here: restart, terminate, replay, stop."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from functools import partial
from http import HTTPStatus
from typing import Any, Final

import trio

from spry_py import ChildHandle, SpryError
from spry_py.lowlevel import log, token_of

from .lingering import Linger
from .rights import Action
from .tree import Json, shown
from .trees import Trees

# an action that takes longer goes on by itself
PATIENCE: Final = 30.0
# actions that are under way at the same time
MOST: Final = 64
# what is left to actions, and to the replies to them, when the observer is cancelled
LINGERS: Final = 1.0
_DOWN: Final = ("done", "stopped", "ignored")


class IsRoot(SpryError):
    """A root has no supervisor that could do this with it."""


class Actions:
    """Actions under way. Each is logged with who asked, and goes on when they leave."""

    def __init__(self, trees: Trees, nursery: trio.Nursery) -> None:
        self._trees = trees
        self._nursery = nursery
        self._under_way = 0

    async def do(self, action: Action, path: str, asker: str) -> tuple[int, Json]:
        """Do it, and return the status and what is to be sent about it."""
        if self._under_way >= MOST:
            sentence = f"{MOST} actions are under way already"
            return HTTPStatus.SERVICE_UNAVAILABLE, {"error": "Busy", "message": sentence}
        _log(path, f"{action} of {path} asked for by {asker}", action, asker)
        outcome: list[tuple[int, Json]] = []
        is_over = trio.Event()
        self._under_way += 1
        # of a stop of the whole program the caller still waits for the reply
        deed = partial(self._carry_out, action, path, asker, outcome, is_over)
        self._nursery.start_soon(Linger(LINGERS).run, deed)
        with trio.move_on_after(PATIENCE):
            await is_over.wait()
        if outcome:
            return outcome[0]
        message = f"{action} of {path} goes on"
        return HTTPStatus.ACCEPTED, {"action": action, "path": path, "message": message}

    async def _in_its_run(self, path: str, deed: Callable[[], Awaitable[Any]]) -> None:
        """Only in its own run of trio may a tree be changed."""
        token = token_of(self._trees.find(path))
        if token is trio.lowlevel.current_trio_token():
            await deed()
        else:
            there = partial(trio.from_thread.run, deed, trio_token=token)
            await trio.to_thread.run_sync(there, abandon_on_cancel=True)

    async def _carry_out(
        self,
        action: Action,
        path: str,
        asker: str,
        outcome: list[tuple[int, Json]],
        is_over: trio.Event,
    ) -> None:
        try:
            await self._in_its_run(path, partial(_DEEDS[action], self._trees, path))
        except Exception as error:
            outcome.append((HTTPStatus.CONFLICT, error_of(error)))
            _log(path, f"{action} of {path} was refused: {shown(str(error))}", action, asker)
        else:
            done = {"action": action, "path": path, "message": f"{action} of {path} is done"}
            outcome.append((HTTPStatus.OK, done))
        finally:
            self._under_way -= 1
            is_over.set()


def error_of(error: Exception) -> Json:
    """What an error of the tree is sent as: its type and its sentence."""
    return {"error": type(error).__name__, "message": shown(str(error), 2_000)}


def _log(path: str, message: str, action: Action, asker: str) -> None:
    fields = {"spry.observer.action": action, "spry.observer.asker": asker}
    # the path came from outside, and is in the message and in the name of the logger
    log(shown(path), logging.WARNING, shown(message), fields)


def _child(trees: Trees, path: str) -> ChildHandle:
    found = trees.find(path)
    if isinstance(found, ChildHandle):
        return found
    raise IsRoot(f"{path!r} is a root: it may be stopped or replayed, but is no one's child")


async def _restart(trees: Trees, path: str) -> None:
    """Whether it is alive or not: a person who sees it down wants it up."""
    child = _child(trees, path)
    if child.status in _DOWN:
        above, _, key = path.rpartition("/")
        await trees.system(above).restart_child(key)
    else:
        await child.restart()


async def _terminate(trees: Trees, path: str) -> None:
    await _child(trees, path).terminate()


async def _replay(trees: Trees, path: str) -> None:
    await trees.system(path).replay()


async def _stop(trees: Trees, path: str) -> None:
    await trees.system(path).stop()


_DEEDS: Final[dict[Action, Callable[[Trees, str], Awaitable[Any]]]] = {
    "restart": _restart,
    "terminate": _terminate,
    "replay": _replay,
    "stop": _stop,
}
