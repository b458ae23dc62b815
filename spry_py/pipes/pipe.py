"""`Pipe`: one worker's connection to its upstream and its downstream; outlives the worker."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Generic, TypeVar

import trio
from trio.lowlevel import enable_ki_protection

from spry_py import Context, current_context
from spry_py.lowlevel import check_choice, check_count, check_key, supervisor_of

from .hand import ON_CRASH, InHand, OnCrash, Outcome, Rules, System
from .letters import DeadLetter, DownstreamClosed, send, tell_of
from .spans import tell_delivery

T = TypeVar("T")
U = TypeVar("U")


class Pipe(Generic[T, U]):
    """What one worker takes items from, and hands results to; outlives the worker.

    ::

        async def work(pipe: Pipe[str, str]) -> None:
            async for line in pipe:             # one item is in hand, until the loop comes back
                if line.isspace():
                    pipe.drop()                 # pass nothing on
                else:
                    pipe.replace(line.strip())  # pass this on instead of the item itself

    When the loop comes back for the next item, the one in hand is passed on, and only then the next
    one is taken. If the worker ends in the middle of an item, for whatever reason, the item stays
    in hand, and ``on_crash`` decides what the next worker on this pipe does with it:

    - ``"redeliver"``: it is delivered again. Each item is worked on at least once, and passed on
      once. A delivery that ended because the worker was stopped does not count; after
      ``max_deliveries`` others the item is given up, and becomes a `DeadLetter`.
    - ``"forward"``: it is passed on as it is (or as ``replace`` and ``drop`` have made it) and the
      worker goes on with the next one. No item is delivered twice.

    What was done in the middle of an item, such as a `put`, is done again when it is redelivered.
    An item that the loop has come back for is never delivered again, even if its worker ends before
    downstream has room. Cancelled at any await, an item is either still in hand or passed on.
    ``await anext(pipe)`` before the loop, for a header, is a delivery like those of the loop.

    Both channels are trio's memory channels; each pipe needs clones of its own. Without upstream
    the worker is a source, which only puts; without downstream a sink. Dead letters wait until
    there is room in the channel ``dead_letters``, and are only logged if there is none. One worker
    at a time. A worker that is asked to settle is given no further item: its loop ends.

    After the ``Pipe`` of the Rust crate sisyphus, whose way is ``"forward"``.
    """

    def __init__(
        self,
        stage: str,
        upstream: trio.MemoryReceiveChannel[T] | None = None,
        downstream: trio.MemorySendChannel[U] | None = None,
        *,
        on_crash: OnCrash = "redeliver",
        max_deliveries: float = 3,
        dead_letters: trio.MemorySendChannel[DeadLetter] | None = None,
        transforms: bool = False,
    ) -> None:
        """``transforms``: a crashed item cannot be forwarded as it is, and becomes a dead letter.

        Raises `TypeError` or `ValueError`, naming the field, the value and what is allowed.
        """
        check_key("Pipe", "stage", stage)
        owner = f"Pipe {stage!r}"
        _check_channel(owner, "upstream", upstream, trio.MemoryReceiveChannel)
        _check_channel(owner, "downstream", downstream, trio.MemorySendChannel)
        _check_channel(owner, "dead_letters", dead_letters, trio.MemorySendChannel)
        check_choice(owner, "on_crash", on_crash, ON_CRASH)
        check_count(owner, "max_deliveries", max_deliveries, infinite=True, least=1)
        self._rules = Rules(stage, on_crash, max_deliveries, transforms)
        self._upstream = upstream
        self._downstream = downstream
        self._dead_letters = dead_letters
        self._held: InHand | None = None
        self._passed_on = 0
        self._is_busy = False
        self._has_looped = False
        # the worker that the last item was given to, and its supervisor
        self._worker: Context | None = None
        self._system: System | None = None
        # upstream has ended, and everything that came from there was taken
        self._is_dry = False
        self._is_finished = False
        # asked to stop, work off what waits upstream while the supervisor is stopping too
        self._supervisor: Context | None = None

    @property
    def stage(self) -> str:
        """The name of the stage, as errors and dead letters show it."""
        return self._rules.stage

    @property
    def passed_on(self) -> int:
        """How many values downstream has taken from this pipe, in all incarnations of its worker.

        A source that is started again finds here where to go on.
        """
        return self._passed_on

    @property
    def deliveries(self) -> int:
        """Which delivery of the item in hand this is: 1, 2, …; 0 with nothing in hand."""
        return self._held.deliveries if self._held is not None else 0

    @property
    def is_finished(self) -> bool:
        """Whether its worker has come to its end, so that there is nothing more to come."""
        return self._is_finished

    def __repr__(self) -> str:
        return f"Pipe({self.stage!r}, passed_on={self._passed_on})"

    # The loop

    def __aiter__(self) -> Pipe[T, U]:
        # outside a tree nothing else shows where one worker ends and the next one begins
        if self._has_looped and self._held is not None and _context_here() is None:
            self._held.is_given = False
        self._has_looped = True
        return self

    @enable_ki_protection
    async def __anext__(self) -> T:
        """Pass on the item in hand, then take the next one. Used by ``async for``.

        The loop ends when upstream has ended, or when the worker is asked to settle. Raises
        `DownstreamClosed`; `RuntimeError` without upstream, and while another task is in here.
        """
        if self._upstream is None:
            raise RuntimeError(f"stage {self.stage!r} has no upstream: it can only put")
        self._enter()
        try:
            if self._held is None:
                self._held = InHand(await self._take(self._upstream))
            elif not self._is_to_be_redelivered(self._held):
                await self._let_go(self._held)
                self._held = InHand(await self._take(self._upstream))
            else:
                await trio.lowlevel.checkpoint()
            return self._give(self._held)
        finally:
            self._is_busy = False

    def _give(self, held: InHand) -> T:
        worker = _context_here()
        if worker != self._worker:
            # looked up once for each worker, and no context, which holds the whole tree
            above = supervisor_of(worker) if worker is not None else None
            self._system = (above.path, above.incarnation) if above is not None else None
            self._worker = worker
        item: T = held.give(worker, self._system)
        return item

    def _enter(self) -> None:
        if self._is_busy:
            raise RuntimeError(
                f"the pipe of stage {self.stage!r} is busy: it serves one worker at a time; for "
                "several workers give each its own (workers=n)"
            )
        self._is_busy = True

    def _is_to_be_redelivered(self, held: InHand) -> bool:
        if not held.is_leaving:
            is_back = self._is_given_here(held)
            self._over(held, held.leave() if is_back else held.decide(self._rules))
        return not held.is_leaving

    def _is_given_here(self, held: InHand) -> bool:
        """Whether the worker that calls has been given it, and none before that one."""
        return held.is_given and held.context == _context_here()

    def _over(self, held: InHand, outcome: Outcome) -> None:
        """A delivery is over."""
        tell_delivery(self.stage, held, outcome)
        if held.letter is not None:
            tell_of(held.letter)

    async def _take(self, upstream: trio.MemoryReceiveChannel[T]) -> T:
        context = _context_here()
        try:
            if context is None:
                return await upstream.receive()
            with context.cancel_on_settle():
                return await upstream.receive()
            if self._supervisor is not None and self._supervisor.is_settling:
                # the workers upstream have been stopped before: what waits here is all there is
                return upstream.receive_nowait()
        except (trio.EndOfChannel, trio.ClosedResourceError):
            self._is_dry = True
        except trio.WouldBlock:
            pass
        raise StopAsyncIteration

    # The item in hand

    def replace(self, value: U, *more: U) -> None:
        """Pass on ``value`` instead of the item in hand, and ``more`` behind it.

        It is passed on when the loop comes back, as the item would have been; the last call counts.
        Raises `RuntimeError` with nothing in hand.
        """
        self._in_hand("replace").values = deque((value, *more))

    def drop(self) -> None:
        """Pass on nothing instead of the item in hand. Raises `RuntimeError` as `replace`."""
        self._in_hand("drop").values = deque()

    def _in_hand(self, call: str) -> InHand:
        held = self._held
        if held is None or held.is_leaving or not self._is_given_here(held):
            raise RuntimeError(f"{call}: stage {self.stage!r} has no item in hand")
        return held

    # Downstream

    @enable_ki_protection
    async def put(self, value: U) -> None:
        """Hand ``value`` downstream now, waiting for room; cancelled, it was not handed over.

        For sources, and for what a worker makes beside its items. Raises `DownstreamClosed`, and
        `RuntimeError` without downstream.
        """
        if self._downstream is None:
            raise RuntimeError(
                f"stage {self.stage!r} has no downstream: nothing takes what it puts"
            )
        await self._send(value, self._downstream)

    async def _send(self, value: Any, downstream: trio.MemorySendChannel[Any]) -> None:
        try:
            await downstream.send(value)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as closed:
            raise DownstreamClosed(
                f"stage {self.stage!r} has something to pass on, but its downstream is closed"
            ) from closed
        # no checkpoint between the hand-over and the count, nor up to where it is forgotten
        self._passed_on += 1

    async def _let_go(self, held: InHand) -> None:
        """Pass on what is left of the item; cancelled, what is not passed on yet stays."""
        assert held.is_leaving
        assert held.values is not None
        if held.letter is not None and self._dead_letters is not None:
            # nothing else is passed on of it, so it is forgotten before the next checkpoint
            assert not held.values
            await send(held.letter, self._dead_letters)
        while held.values and self._downstream is not None:
            await self._send(held.values[0], self._downstream)
            held.values.popleft()
        self._held = None

    @enable_ki_protection
    async def finish(self) -> None:
        """The worker has come to its end: pass on the item in hand, and close both channels.

        For a worker that was asked to settle before upstream has ended, the channels stay open: its
        next incarnation goes on. In a `pipeline` this is called when the worker's function returns.
        A checkpoint only while there is something to pass on. Raises `DownstreamClosed`;
        cancelled, nothing is closed and nothing is lost.
        """
        self._enter()
        try:
            held = self._held
            if held is not None and not held.is_leaving:
                if self._is_given_here(held):
                    self._over(held, held.leave())
                elif not self._stops():
                    # its worker has returned without ever asking what is in hand
                    self._over(held, held.die(self._rules))
            if held is not None and held.is_leaving:
                await self._let_go(held)
            if not self._stops():
                self.close()
        finally:
            self._is_busy = False

    def _stops(self) -> bool:
        context = _context_here()
        return context is not None and context.is_settling and not self._is_dry

    def close(self) -> None:
        """Whatever its worker makes of that, nothing more comes through it."""
        self._is_finished = True
        for channel in (self._upstream, self._downstream):
            if channel is not None:
                channel.close()

    # For pipelines

    def follow(self, rules: Rules, dead_letters: trio.MemorySendChannel[DeadLetter] | None) -> None:
        """Go by other rules from now on, with what is in hand, too."""
        self._rules = rules
        self._dead_letters = dead_letters

    def take_from(self, upstream: trio.MemoryReceiveChannel[T] | None) -> None:
        """Take items from somewhere else from now on."""
        if self._upstream is not None:
            self._upstream.close()
        self._upstream = upstream
        self._is_dry = False

    def hand_to(self, downstream: trio.MemorySendChannel[U] | None) -> None:
        """Pass values on to somewhere else from now on."""
        if self._downstream is not None:
            self._downstream.close()
        self._downstream = downstream

    def abandon(self, *, waiting: bool) -> list[DeadLetter]:
        """No worker comes any more: close it, and return letters for the item in hand.

        With ``waiting``, for all that lies in front of it as well.
        """
        letters: list[DeadLetter] = []
        held, self._held = self._held, None
        if held is not None:
            if not held.is_leaving:
                tell_delivery(self.stage, held, held.abandon(self._rules))
            letters += held.letters(self._rules, self._downstream is not None)
        if waiting and self._upstream is not None:
            letters += [
                DeadLetter(item, self.stage, None, 0, None) for item in _drained(self._upstream)
            ]
        self.close()
        return letters

    def attend(self, supervisor: Context | None) -> None:
        """A worker is at work; its ``supervisor`` stops the workers upstream before it.

        ``None`` when it is over: a context holds the tree, which the pipe must not keep alive.
        """
        self._supervisor = supervisor

    def note(self, exception: BaseException | None) -> None:
        """Its worker has failed."""
        if self._held is not None and not self._held.is_leaving:
            self._held.note(exception)


def _drained(upstream: trio.MemoryReceiveChannel[T]) -> Iterator[T]:
    with suppress(trio.WouldBlock, trio.EndOfChannel, trio.ClosedResourceError):
        while True:
            yield upstream.receive_nowait()


def _context_here() -> Context | None:
    try:
        return current_context()
    except RuntimeError:
        return None


def _check_channel(owner: str, field: str, value: object, kind: type) -> None:
    if value is not None and not isinstance(value, kind):
        raise TypeError(f"{owner}: {field} must be a trio.{kind.__name__} or None, not {value!r}")
