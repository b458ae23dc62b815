"""`RayEngine`: the engine of one gateway, in the program of the tree."""

from __future__ import annotations

from collections import deque
from functools import partial
from typing import Any, Final

import trio

from spry_py.processes import Process
from spry_py.remote import Hold, Letter, Order

from .notes import Destroy, Ended, FromGateway, Gone, ToGateway

# how long (seconds) late letters of what is over are replied to
KEPT: Final = 10.0
# how many letters go together at most, and of what size
AT_ONCE: Final = 256
BYTES_AT_ONCE: Final = 1 << 20
LARGEST: Final = 1 << 25


class RayEngine:
    """The started value of a gateway, for `spry_py.remote.remote`.

    It belongs to one incarnation of the gateway: put the gateway and its children under
    ``rest_for_one``, so that they are given the next one together.
    """

    def __init__(self, gateway: Process[Any], where: str) -> None:
        self._gateway = gateway
        self._where = where
        # written by `start` and `_forget`
        self._holds: dict[str, Hold] = {}
        # those that are over, each with the time when it is forgotten
        self._over: deque[tuple[float, str]] = deque()
        # the last letter of each order says all that those before it did
        self._letters: dict[str, Letter] = {}
        self._notes: deque[Destroy | Gone] = deque()
        self._news = trio.lowlevel.ParkingLot()
        # written by `attend`
        self._is_closed = False

    def __repr__(self) -> str:
        return f"<engine of {self._where}>"

    async def start(self, order: Order) -> Hold:
        """Have an order carried out on the cluster.

        Raises `RuntimeError` after the end of the gateway, and `ValueError` for what is too large.
        """
        await trio.lowlevel.checkpoint()
        if self._is_closed:
            raise RuntimeError(
                f"{order.path!r} cannot start: the gateway whose engine it has been given has "
                "ended; under rest_for_one it would be given that of the next"
            )
        if len(order.work) > LARGEST:
            raise ValueError(
                f"{order.path!r} cannot start: its function and arguments have {len(order.work)} "
                f"bytes when pickled, and at most {LARGEST} go through a gateway"
            )
        self._forget()
        destroy = partial(self._note, Destroy(order.id)) if order.host == "own" else None
        hold = Hold(order, self._post, destroy, partial(self._end, order.id))
        self._holds[order.id] = hold
        self._post(order)
        return hold

    async def attend(self) -> None:
        """Carry letters until the gateway has ended; then leases have to run out."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._carry)
                async for letters in self._gateway:
                    for letter in letters:
                        self._hear(letter)
                nursery.cancel_scope.cancel()
        finally:
            self._is_closed = True
            for hold in list(self._holds.values()):
                hold.cut("its gateway has ended")

    def _hear(self, letter: FromGateway) -> None:
        hold = self._holds.get(letter.id)
        if hold is None:
            return
        if isinstance(letter, Ended):
            end = hold.dead if letter.is_dead else hold.cut
            end(letter.why)
        else:
            hold.hear(letter)

    def _post(self, letter: Letter) -> None:
        self._letters[letter.id] = letter
        self._news.unpark()

    def _note(self, note: Destroy | Gone) -> None:
        self._notes.append(note)
        self._news.unpark()

    def _end(self, id_: str) -> None:
        self._over.append((trio.current_time() + KEPT, id_))
        self._note(Gone(id_))

    def _forget(self) -> None:
        now = trio.current_time()
        while self._over and self._over[0][0] <= now:
            self._holds.pop(self._over.popleft()[1], None)

    async def _carry(self) -> None:
        try:
            while True:
                while not (self._letters or self._notes):
                    await self._news.park()
                await self._gateway.send(self._batch())
        except trio.BrokenResourceError:
            # its end is told to `attend`
            return

    def _batch(self) -> list[ToGateway]:
        batch: list[ToGateway] = []
        size = 0
        while self._letters and len(batch) < AT_ONCE and size < BYTES_AT_ONCE:
            letter = self._letters.pop(next(iter(self._letters)))
            size += len(letter.work) if isinstance(letter, Order) else 0
            batch.append(letter)
        if not self._letters:
            # what ends an order comes behind its letters
            batch += self._notes
            self._notes.clear()
        return batch
