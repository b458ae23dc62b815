"""`RayEngine`: the engine of a gateway, in the program of the tree."""

from __future__ import annotations

from collections import deque
from functools import partial
from typing import Any, Final, Self

import trio

from spry_py.processes import Process
from spry_py.remote import Hold, Letter, Order

from .notes import Destroy, Ended, FromGateway, Gone, ToGateway
from .settings import Settings

# how long (seconds) late letters of what is over are replied to
KEPT: Final = 10.0
# how many letters go together at most, and of what size
AT_ONCE: Final = 256
BYTES_AT_ONCE: Final = 1 << 20
LARGEST: Final = 1 << 25


class RayEngine:
    """The started value of a gateway, for `spry_py.remote.remote`.

    It is the same for all incarnations of the gateway, as long as its key is known. What runs on
    the cluster is lost with an incarnation of it; what starts then waits for the next one.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings: Settings = settings
        # the living incarnation; written by `attend`
        self._gateway: Process[Any] | None = None
        self._changed = trio.lowlevel.ParkingLot()
        # written by `start` and `_forget`
        self._holds: dict[str, Hold] = {}
        # those that are over, each with the time when it is forgotten
        self._over: deque[tuple[float, str]] = deque()
        # the last letter of each order holds all that those before it did
        self._letters: dict[str, Letter] = {}
        self._notes: deque[Destroy | Gone] = deque()
        self._news = trio.lowlevel.ParkingLot()
        # written by `forgotten`
        self._is_closed = False

    def __repr__(self) -> str:
        return f"<engine of {self.settings.where}>"

    @property
    def is_attended(self) -> bool:
        """Whether there is a gateway now."""
        return self._gateway is not None

    async def start(self, order: Order) -> Hold:
        """Have an order carried out on the cluster; waits while there is no gateway.

        Raises `RuntimeError` if there is none for a minute, or will be none any more, and
        `ValueError` for what is too large.
        """
        await trio.lowlevel.checkpoint()
        if len(order.work) > LARGEST:
            raise ValueError(
                f"{order.path!r} cannot start: its function and arguments have {len(order.work)} "
                f"bytes when pickled, and at most {LARGEST} go through a gateway"
            )
        await self._attended(order)
        self._forget()
        destroy = partial(self._note, Destroy(order.id)) if order.host == "own" else None
        hold = Hold(order, self._post, destroy, partial(self._end, order.id))
        self._holds[order.id] = hold
        self._post(order)
        return hold

    async def _attended(self, order: Order) -> None:
        patience = self.settings.patience
        with trio.move_on_after(patience):
            while self._gateway is None and not self._is_closed:
                await self._changed.park()
        if self._gateway is None:
            why = f"has been down for {patience:g} s"
            if self._is_closed:
                why = "has ended for good; give it the engine of another one"
            where = self.settings.where
            raise RuntimeError(f"{order.path!r} cannot start: the gateway of {where} {why}")

    async def attend(self, gateway: Process[Any], status: trio.TaskStatus[Self]) -> None:
        """Carry letters until the gateway has ended; then leases have to run out."""
        self._gateway = gateway
        self._changed.unpark_all()
        status.started(self)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._carry, gateway)
                async for letters in gateway:
                    for letter in letters:
                        self._hear(letter)
                nursery.cancel_scope.cancel()
        finally:
            self._gateway = None
            for hold in list(self._holds.values()):
                hold.cut("its gateway has ended")
            # the next one knows nothing of these orders
            self._letters.clear()
            self._notes.clear()

    def forgotten(self, *, with_tree: bool) -> None:
        """No gateway comes any more."""
        self._is_closed = True
        self._changed.unpark_all()

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

    async def _carry(self, gateway: Process[Any]) -> None:
        try:
            while True:
                while not (self._letters or self._notes):
                    await self._news.park()
                await gateway.send(self._batch())
        except trio.BrokenResourceError:
            # `attend` sees its end
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
