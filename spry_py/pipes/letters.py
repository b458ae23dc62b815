"""What becomes of an item that no worker gets through: `DeadLetter`."""

from __future__ import annotations

import logging
import reprlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

import trio

from spry_py import Unrecoverable
from spry_py.lowlevel import log, repr_of_fields, summary_of


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An item that was given up, at which stage, and why.

    ``deliveries`` is how often it was delivered, but for deliveries that a stop cut short and that
    were made up for. ``exception`` is what the last worker failed with, and ``None`` where that is
    not known: in a `Pipe` that is not a part of a `pipeline`, or if the worker was stopped.
    ``path`` is the worker's, ``None`` outside a tree. An item that still waited in front of its
    stage, when its pipeline was gone for good, has had no delivery and no worker.
    """

    item: Any
    stage: str
    path: str | None
    deliveries: int
    exception: BaseException | None

    def __repr__(self) -> str:
        return repr_of_fields(self)


Letters: TypeAlias = trio.MemorySendChannel[DeadLetter]


class DownstreamClosed(Unrecoverable):
    """The next stage takes nothing any more, although this one has something for it.

    Starting this one again would not help, so it is not done: the supervisor gives up.
    """


def tell_of(letter: DeadLetter) -> None:
    """Log that an item was given up."""
    times = "1 delivery" if letter.deliveries == 1 else f"{letter.deliveries} deliveries"
    why = letter.exception
    reason = "" if why is None else f"; the last one failed with {summary_of(why)}"
    item = reprlib.repr(letter.item)
    _write(letter, f"stage {letter.stage!r} gave up {item} after {times}{reason}")


def post(letters: Iterable[DeadLetter], channel: Letters | None) -> int:
    """Put in what there is room for, without waiting; return how many did not fit."""
    lost = 0
    for letter in letters:
        try:
            if channel is None:
                raise trio.WouldBlock
            channel.send_nowait(letter)
        except (trio.WouldBlock, trio.BrokenResourceError, trio.ClosedResourceError):
            lost += 1
    return lost


def tell_of_loss(path: str, why: str, whose: str, dead: int, lost: int) -> None:
    """Log how many items were on their way and will not be worked on."""
    if dead:
        are = "item is a dead letter" if dead == 1 else "items are dead letters"
        log(path, logging.WARNING, f"{path} {why}: {dead} {are} now", {})
    if lost:
        items, are = ("item", "is") if lost == 1 else ("items", "are")
        log(path, logging.ERROR, f"{path} {why}: {lost} {items}{whose} {are} lost", {})


async def send(letter: DeadLetter, channel: Letters) -> None:
    """Hand a dead letter over, waiting for room; cancelled, it is not handed over."""
    try:
        await channel.send(letter)
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        item = reprlib.repr(letter.item)
        text = f"the channel for dead letters is closed: {item} of stage {letter.stage!r} is lost"
        _write(letter, text)


def _write(letter: DeadLetter, text: str) -> None:
    log(letter.path or letter.stage, logging.ERROR, text, {})
