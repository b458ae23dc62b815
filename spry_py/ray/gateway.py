"""The gateway: a process that speaks with Ray, and with the program over a channel."""

from __future__ import annotations

import math
import os
import queue
import signal
import threading
import time
from collections import deque
from collections.abc import Sequence
from functools import partial
from typing import Final

from spry_py.processes import Channel, ProcessStatus
from spry_py.remote import Order, Report

from .cluster import Act, Cluster, Machine
from .end import End
from .notes import Destroy, Ended, FromGateway, Gone, ToGateway
from .settings import Settings
from .station import Station

# how long (seconds) Ray has to be there at the start
CONNECTS_WITHIN: Final = 60.0
TICK: Final = 0.5
# how long letters are carried to what is over, so that it need not send again
KEPT: Final = 10.0
# how long disconnecting may take; of a head that is gone, or after all else
LEAVES_WITHIN: Final = 10.0
LEAVES_AT_ONCE: Final = 1.0


def serve(settings: Settings, channel: Channel, task_status: ProcessStatus) -> None:
    """Be the gateway until asked to finish. Raises `ConnectionError` if Ray is not there."""
    Gateway(settings, channel, task_status).run()


class Gateway:
    """Has one `Station` for each process on the cluster, and carries letters to and from them.

    All of it runs in the main thread, which does what others have put into a queue.
    """

    def __init__(self, settings: Settings, channel: Channel, status: ProcessStatus) -> None:
        self._settings = settings
        self._channel = channel
        self._status = status
        self._acts: queue.SimpleQueue[Act] = queue.SimpleQueue()
        self._cluster = Cluster(settings, self._acts.put)
        # where each order is, until some time after its end
        self._routes: dict[str, Station | None] = {}
        self._over: deque[tuple[float, str]] = deque()
        # by node, and of all kinds
        self._shared: dict[str, Station] = {}
        self._stations: set[Station] = set()
        # orders for which there is no machine, and since when
        self._waiting: dict[str, tuple[Order, float]] = {}

    def run(self) -> None:
        """Serve until the program goes away, or a signal stops it."""
        try:
            self._connect()
            # Ray has a handler of its own below Python's, which prints a stack
            signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGTERM))
            self._status.started()
            threading.Thread(target=self._listen, daemon=True).start()
            while True:
                self._work(TICK)
                self._tick()
        except ConnectionError:
            # behind this error, when it has been sent, there may be a wait without end
            leave_within(LEAVES_AT_ONCE, 1)
            raise
        except SystemExit as leaving:
            # not through the end of the interpreter, which threads of Ray may not survive
            status = leaving.code if isinstance(leaving.code, int) else 1
            leave_within(LEAVES_WITHIN, status)
            self._cluster.close().wait()
            os._exit(status)

    def _connect(self) -> None:
        self._cluster.open()
        over_at = time.monotonic() + CONNECTS_WITHIN
        while self._cluster.seen_at == -math.inf and self._cluster.failure is None:
            if time.monotonic() > over_at:
                raise ConnectionError(
                    f"{self._settings.where} has not been there for {CONNECTS_WITHIN:g} s: is its "
                    "head running, and this machine one of the cluster?"
                )
            self._work(TICK)
        failure = self._cluster.failure
        if failure is not None:
            raise ConnectionError(f"cannot connect to {self._settings.where}: {failure}")

    def _work(self, timeout: float) -> None:
        """Do what is there to be done, for so many seconds at most if nothing is."""
        over_at = time.monotonic() + timeout
        try:
            while time.monotonic() < over_at:
                self._acts.get(timeout=timeout)()
        except queue.Empty:
            pass

    def _listen(self) -> None:
        for letters in self._channel:
            self._acts.put(partial(self._take, letters))
        self._acts.put(leave)

    def _tick(self) -> None:
        self._status.heartbeat()
        self._check_head()
        now = time.monotonic()
        while self._over and self._over[0][0] <= now:
            self._drop(self._over.popleft()[1])
        for order, _ in list(self._waiting.values()):
            self._place(order)
        self._check_waiting(now)
        for station in list(self._stations):
            station.tend()

    def _check_head(self) -> None:
        seconds = self._settings.reconnect
        if time.monotonic() > self._cluster.seen_at + seconds:
            raise ConnectionError(
                f"the head of {self._settings.where} has not been heard of for {seconds:g} s"
            )

    def _check_waiting(self, now: float) -> None:
        """Nothing waits for ever, as it would with Ray."""
        patience = self._settings.patience
        for order, since in list(self._waiting.values()):
            if now > since + patience:
                del self._waiting[order.id]
                self._send([Ended(order.id, self._why_not(order), is_dead=True)])
        for station in list(self._stations):
            if not station.is_up and now > station.born_at + patience:
                why = [self._why_not(order) for order in station.orders.values()]
                station.give_up(why[0] if why else "its process did not begin")

    def _why_not(self, order: Order) -> str:
        """Why there is no place for it, in words."""
        machines, seconds = self._cluster.machines, self._settings.patience
        wanted = ", ".join(f"{name}={amount:g}" for name, amount in order.resources.items())
        if any(machine.has(order.resources) for machine in machines):
            free = f"{wanted} free" if wanted and order.host == "own" else "a process ready"
            return f"for {seconds:g} s no machine of the cluster has had {free} for it"
        most = {
            name: max((it.amount(name) for it in machines), default=0) for name in order.resources
        }
        found = ", ".join(f"{name}={amount:g}" for name, amount in most.items())
        return (
            f"no machine of the cluster has {wanted}, which it wants, and none has come for "
            f"{seconds:g} s; the most that one of {len(machines)} has is {found or 'nothing'}"
        )

    # What comes from the program

    def _take(self, letters: Sequence[ToGateway]) -> None:
        for letter in letters:
            if isinstance(letter, Gone):
                self._gone(letter.id)
            elif isinstance(letter, Destroy):
                self._destroy(letter.id)
            elif isinstance(letter, Order) and letter.id not in self._routes:
                self._routes[letter.id] = None
                self._waiting[letter.id] = letter, time.monotonic()
                self._place(letter)
            else:
                station = self._routes.get(letter.id)
                if station is not None:
                    station.put(letter)

    def _gone(self, id_: str) -> None:
        self._waiting.pop(id_, None)
        self._over.append((time.monotonic() + KEPT, id_))
        station = self._routes.get(id_)
        if station is not None and station.orders[id_].host == "own":
            station.leave()

    def _destroy(self, id_: str) -> None:
        station = self._routes.get(id_)
        if station is not None:
            station.destroy()

    def _drop(self, id_: str) -> None:
        station = self._routes.pop(id_, None)
        if station is not None:
            station.orders.pop(id_, None)

    # Where to

    def _place(self, order: Order) -> None:
        """Give it a process, if there is a machine for it."""
        station = self._own(order) if order.host == "own" else self._shared_by(order)
        if station is not None:
            self._waiting.pop(order.id, None)
            self._routes[order.id] = station
            station.orders[order.id] = order
            station.put(order)

    def _own(self, order: Order) -> Station:
        # also if there is no machine for it: Ray may be set up to get one then
        return self._station(order, None)

    def _shared_by(self, order: Order) -> Station | None:
        machines = [it for it in self._cluster.machines if it.has(order.resources)]
        if not machines:
            return None
        machine = min(machines, key=self._load)
        station = self._shared.get(machine.id)
        if station is None:
            station = self._shared[machine.id] = self._station(order, machine)
        return station

    def _load(self, machine: Machine) -> int:
        station = self._shared.get(machine.id)
        return 0 if station is None else len(station.orders)

    def _station(self, order: Order, machine: Machine | None) -> Station:
        station = Station(self._cluster, self._send, self._ended)
        self._stations.add(station)
        self._cluster.make(order, machine, station.made)
        return station

    # What comes from there

    def _ended(self, station: Station, end: End) -> None:
        self._stations.discard(station)
        self._shared = {node: it for node, it in self._shared.items() if it is not station}
        for id_ in station.orders:
            self._routes[id_] = None
        self._send([Ended(id_, end.why, end.is_dead) for id_ in station.orders])

    def _send(self, letters: Sequence[Report] | Sequence[Ended]) -> None:
        if not letters:
            return
        try:
            self._channel.send(letters)
        except ValueError:
            self._send_each(letters)

    def _send_each(self, letters: Sequence[FromGateway]) -> None:
        """Send those that are not too large; of the others there is nothing more to come."""
        for letter in letters:
            try:
                self._channel.send([letter])
            except ValueError as error:
                self._channel.send(
                    [Ended(letter.id, f"what it reports is too large: {error}", False)]
                )


def leave() -> None:
    """The program is gone, or wants no more of this process."""
    raise SystemExit(0)


def leave_within(seconds: float, status: int) -> None:
    """End this process, also if Ray holds it up: a thread of its own sees to that."""
    timer = threading.Timer(seconds, os._exit, (status,))
    timer.daemon = True
    timer.start()
