"""What the tests of blocking code share: a clock moved by hand, and waits that have an end.

Virtual time that runs by itself would run away from a thread; so these stories move it themselves.
"""

from __future__ import annotations

import functools
import queue
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from spry_py.threads import settling

SECONDS = 20.0

Jump = Callable[[float], Awaitable[None]]


def by_hand(test: Callable[[Jump], Awaitable[None]]) -> Callable[[], None]:
    """Run an async test that is given ``await jump(seconds)``; it must leave no task behind."""

    @functools.wraps(test)
    def tell() -> None:
        clock = MockClock()

        async def jump(seconds: float) -> None:
            clock.jump(seconds)
            await wait_all_tasks_blocked()

        async def main() -> None:
            before = trio.lowlevel.current_statistics().tasks_living
            with _hurried():
                await test(jump)
            assert trio.lowlevel.current_statistics().tasks_living == before

        trio.run(main, clock=clock)

    # pytest would take the parameter for a fixture
    del tell.__wrapped__
    return tell


@contextmanager
def _hurried() -> Iterator[None]:
    """Cancelled when `SECONDS` of real time are over."""
    token = trio.lowlevel.current_trio_token()
    with trio.CancelScope() as scope:
        timer = threading.Timer(SECONDS, token.run_sync_soon, (scope.cancel,))
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            timer.join()
    assert not scope.cancelled_caught, f"the story took more than {SECONDS:g} s"


class Puppet:
    """A blocking function that does, in its thread, what the story tells it to."""

    def __init__(self) -> None:
        self._orders: queue.SimpleQueue[tuple[Callable[[], object], bool]] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[object] = queue.SimpleQueue()
        self.runs = 0
        self.alive = 0

    def __call__(self) -> object:
        self.runs += 1
        self.alive += 1
        assert self.alive == 1, "two incarnations overlap"
        try:
            while True:
                order, is_last = self._orders.get(timeout=SECONDS)
                if is_last:
                    return order()
                self._answers.put(order())
        finally:
            self.alive -= 1

    async def do(self, order: Callable[[], object]) -> object:
        """Let the thread call this, and hand back what it returns."""
        self._orders.put((order, False))
        return await trio.to_thread.run_sync(functools.partial(self._answers.get, timeout=SECONDS))

    def finish(self, order: Callable[[], object] = lambda: None) -> None:
        """Let the function end as this does."""
        self._orders.put((order, True))


async def until(event: threading.Event) -> None:
    """Wait for something that happens in a thread."""
    assert await trio.to_thread.run_sync(event.wait, SECONDS)


def until_asked(value: object = None) -> object:
    """A blocking function that does nothing until it is asked to finish."""
    assert settling().wait(SECONDS)
    return value
