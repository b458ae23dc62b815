"""`FakeEngine`: machines that are not there, on virtual time, with a network that may be bad."""

from __future__ import annotations

import contextvars
import heapq
import math
import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import count
from types import TracebackType
from typing import Any, Final, Self, TypeAlias, cast

import trio

from spry_py.lowlevel import check_count, check_seconds, check_type
from spry_py.remote import Hold, Letter, Order, Report
from spry_py.remote.reporter import install
from spry_py.remote.tenant import Tenant

Latency: TypeAlias = float | tuple[float, float]
Span: TypeAlias = tuple[float, float]

# how often it is tried to say that a process is dead
NOTICE_AGAIN: Final = 1.0
_OWNER: Final = "FakeEngine"


class FakeEngine:
    """An engine for `spry_py.remote.remote`, with machines that are not there::

        async with FakeEngine(latency=(0.01, 2.0), loss=0.1, partition=[(60, 120)]) as engine:
            async with open_system([Child("far", remote(engine, work))]):
                ...

    The whole protocol is at work, on trio's clock, so on virtual time if that is a `MockClock`:
    function, arguments and values are pickled, leases are renewed and run out. ``latency`` is how
    long (seconds) a letter takes, or between which bounds; ``loss`` and ``duplicates`` are the
    shares (0 to 1) of letters that never arrive, and that arrive twice. In the ``partition``, pairs
    of times on trio's clock, no letter arrives: then each side believes itself alone.
    `cut` and `mend` do the same by hand, for one machine or all. `crash` is the end of a machine.
    ``seed`` makes it all repeatable. There are so many ``nodes``, which take children in turn.

    ``letters`` counts those that were sent. A process that has to leave has its children cancelled,
    since code of the same process cannot be killed: a child that shields itself lives on here.

    Raises `TypeError` or `ValueError` naming the argument. Leaving the block ends all processes.
    """

    def __init__(
        self,
        latency: Latency = 0.0,
        loss: float = 0.0,
        duplicates: float = 0.0,
        partition: Sequence[Span] = (),
        seed: int = 0,
        *,
        nodes: int = 1,
    ) -> None:
        self._latency: Span = _bounds(latency)
        self._loss = _share("loss", loss)
        self._duplicates = _share("duplicates", duplicates)
        self._partition = _spans(partition)
        check_type(_OWNER, "seed", seed, int, "an int")
        check_count(_OWNER, "nodes", nodes, least=1)
        self._random = random.Random(seed)
        self._nodes = [f"node-{number}" for number in range(1, nodes + 1)]
        self._placed = 0
        self._apart: set[str] = set()
        self._is_closed = False
        # by name of the machine, and of the process on it
        self._processes: dict[tuple[str, str], FakeProcess] = {}
        # those that have not been waited for
        self._begun: list[FakeProcess] = []
        self._holds: dict[str, Hold] = {}
        self._wire = _Wire()
        # letters sent so far, also those that were lost
        self.letters: int = 0

    async def start(self, order: Order) -> Hold:
        """Have an order carried out on the next machine."""
        await trio.lowlevel.checkpoint()
        if self._is_closed or not self._nodes:
            raise RuntimeError(f"{_OWNER}: there is no machine to run {order.path!r}")
        install()
        node = self._nodes[self._placed % len(self._nodes)]
        self._placed += 1
        process = self._process(node, "" if order.host == "shared" else order.id)

        def send(letter: Letter) -> None:
            self._post(node, lambda: process.take(letter))

        hold = self._holds[order.id] = Hold(order, send)
        return hold

    def cut(self, node: str | None = None) -> None:
        """No letter to or from a machine, or any of them, arrives any more.

        Also none that is under way.
        """
        self._apart.update(self._nodes if node is None else (node,))

    def mend(self) -> None:
        """Letters arrive again, everywhere."""
        self._apart.clear()

    @property
    def nodes(self) -> tuple[str, ...]:
        """The machines that are alive."""
        return tuple(self._nodes)

    def crash(self, node: str, *, is_noticed: bool = True) -> None:
        """The end of a machine, which takes no more orders.

        It is noticed as soon as letters arrive, or else (``is_noticed=False``) never.
        """
        self._nodes.remove(node)
        for (where, _), process in list(self._processes.items()):
            if where == node:
                process.die(is_noticed=is_noticed)

    async def aclose(self) -> None:
        """End all processes, and wait until they have ended."""
        self._is_closed = True
        for process in list(self._processes.values()):
            process.die(is_noticed=False)
        self._wire.close()
        with trio.CancelScope(shield=True):
            for process in self._begun:
                await process.ended.wait()
            self._begun.clear()
            await self._wire.ended.wait()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    # For the processes

    def report(self, node: str, report: Report) -> None:
        """Post a letter to the program."""
        hold = self._holds.get(report.id)
        if hold is not None:
            self._post(node, lambda: hold.hear(report))

    def over(self, process: FakeProcess, orders: Sequence[str], *, is_noticed: bool) -> None:
        """A process is dead."""
        self._processes.pop((process.node, process.name), None)
        if is_noticed:
            for order in orders:
                self._notice(self._holds[order], process)

    def _notice(self, hold: Hold, process: FakeProcess) -> None:
        if hold.is_over or self._is_closed:
            return
        if self._is_apart(process.node) or self._random.random() < self._loss:
            self._wire.put(NOTICE_AGAIN, lambda: self._notice(hold, process))
            return
        self._wire.put(self._delay(), lambda: hold.dead(f"its process on {process.node} has died"))

    def _process(self, node: str, name: str) -> FakeProcess:
        process = self._processes.get((node, name))
        if process is None:
            process = self._processes[node, name] = FakeProcess(self, node, name)
            self._begun = [process, *(it for it in self._begun if not it.ended.is_set())]
        return process

    def _post(self, node: str, arrive: Callable[[], None]) -> None:
        self.letters += 1
        times = 1 + (self._random.random() < self._duplicates)
        for _ in range(times):
            if self._random.random() >= self._loss and not self._is_closed:
                self._wire.put(self._delay(), lambda: self._arrive(node, arrive))

    def _arrive(self, node: str, arrive: Callable[[], None]) -> None:
        if not self._is_apart(node):
            arrive()

    def _delay(self) -> float:
        return self._random.uniform(*self._latency)

    def _is_apart(self, node: str) -> bool:
        now = trio.current_time()
        return node in self._apart or any(begin <= now < end for begin, end in self._partition)


class FakeProcess:
    """A process that carries out orders. It ends when it is left with none, and may begin anew."""

    def __init__(self, engine: FakeEngine, node: str, name: str) -> None:
        self._engine = engine
        self.node: str = node
        self.name: str = name
        self._tenants: dict[str, Tenant] = {}
        self._known: set[str] = set()
        self._news = trio.lowlevel.ParkingLot()
        self._token = trio.lowlevel.current_trio_token()
        self._scope = trio.CancelScope()
        self.is_dead: bool = False
        self.ended: trio.Event = trio.Event()
        self._nursery: trio.Nursery | None = None
        _in_background(self._main, f"{_OWNER} process on {node}")

    def take(self, letter: Letter) -> None:
        """Take a letter."""
        if self.is_dead:
            return
        if isinstance(letter, Order):
            self._begin(letter)
        elif letter.id in self._tenants:
            self._tenants[letter.id].hear(letter)

    def die(self, *, is_noticed: bool = True) -> None:
        """Leave at once."""
        if self.is_dead:
            return
        self.is_dead = True
        for tenant in self._tenants.values():
            tenant.die()
        self._scope.cancel()
        self._engine.over(self, tuple(self._known), is_noticed=is_noticed)

    def _begin(self, order: Order) -> None:
        if order.id in self._known:
            return
        self._known.add(order.id)
        # both are called from threads of the child, too
        clock = trio.lowlevel.current_clock().current_time
        tenant = Tenant(order, self.node, clock, self.die, self._wake)
        self._tenants[order.id] = tenant
        self._wake()

    def _wake(self) -> None:
        if trio.lowlevel.in_trio_run() and trio.lowlevel.current_trio_token() is self._token:
            self._news.unpark_all()
        else:
            with suppress(trio.RunFinishedError):
                self._token.run_sync_soon(self._news.unpark_all)

    async def _main(self) -> None:
        with self._scope:
            async with trio.open_nursery() as nursery:
                await self._serve(nursery)
        self.ended.set()

    async def _serve(self, nursery: trio.Nursery) -> None:
        begun: set[str] = set()
        while True:
            for id_, tenant in list(self._tenants.items()):
                if id_ not in begun:
                    begun.add(id_)
                    nursery.start_soon(tenant.run)
                self._attend(id_, tenant)
            tenants = self._tenants.values()
            due = min((min(it.due(), it.check_at()) for it in tenants), default=math.inf)
            with trio.move_on_at(due):
                await self._news.park()

    def _attend(self, id_: str, tenant: Tenant) -> None:
        tenant.check()
        report = tenant.report()
        if report is not None:
            self._engine.report(self.node, report)
        if tenant.is_forgotten():
            del self._tenants[id_]


class _Wire:
    """What is to happen later, in one task."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = count()
        self._news = trio.lowlevel.ParkingLot()
        self._scope = trio.CancelScope()
        self._has_begun = False
        self.ended: trio.Event = trio.Event()

    def put(self, delay: float, act: Callable[[], None]) -> None:
        """Have something done after so many seconds."""
        heapq.heappush(self._heap, (trio.current_time() + delay, next(self._numbers), act))
        if not self._has_begun:
            self._has_begun = True
            _in_background(self._main, f"{_OWNER} wire")
        self._news.unpark_all()

    def close(self) -> None:
        """Let nothing happen any more."""
        self._scope.cancel()
        if not self._has_begun:
            self.ended.set()

    async def _main(self) -> None:
        with self._scope:
            while True:
                now = trio.current_time()
                while self._heap and self._heap[0][0] <= now:
                    heapq.heappop(self._heap)[2]()
                with trio.move_on_at(self._heap[0][0] if self._heap else math.inf):
                    await self._news.park()
        self.ended.set()


def _in_background(main: Callable[[], object], name: str) -> None:
    """Outside each tree, also if it is begun from inside one."""
    trio.lowlevel.spawn_system_task(main, name=name, context=contextvars.Context())  # type: ignore[arg-type]


def _share(name: str, value: float) -> float:
    check_seconds(_OWNER, name, value)
    if value > 1:
        raise ValueError(f"{_OWNER}: {name} must be a share from 0 to 1, not {value!r}")
    return value


def _bounds(latency: Latency) -> Span:
    pair = _pair(latency)
    if pair is None:
        if isinstance(latency, tuple):
            raise TypeError(
                f"{_OWNER}: latency must be seconds, or a pair of them, not {latency!r}"
            )
        pair = latency, latency
    least, most = pair
    check_seconds(_OWNER, "latency", least)
    check_seconds(_OWNER, "latency", most)
    if not least <= most < math.inf:
        raise ValueError(
            f"{_OWNER}: latency must be finite, the lower bound first, not {latency!r}"
        )
    return least, most


def _spans(partition: object) -> tuple[Span, ...]:
    if not isinstance(partition, Sequence):
        raise TypeError(f"{_OWNER}: partition must be pairs of times, and {partition!r} is none")
    return tuple(_span(span) for span in cast("Sequence[object]", partition))


def _span(span: object) -> Span:
    pair = _pair(span)
    if pair is None:
        raise TypeError(f"{_OWNER}: partition must be pairs of times, and {span!r} is none")
    begin, end = pair
    check_seconds(_OWNER, "partition", begin)
    check_seconds(_OWNER, "partition", end)
    if begin > end:
        raise ValueError(
            f"{_OWNER}: partition must be pairs of times, the earlier one first, not {span!r}"
        )
    return begin, end


def _pair(value: object) -> tuple[Any, Any] | None:
    if not isinstance(value, tuple | list):
        return None
    parts = tuple(cast("Sequence[Any]", value))
    return parts if len(parts) == 2 else None
