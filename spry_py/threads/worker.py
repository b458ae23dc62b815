"""One call of a blocking function in a worker thread, which an event asks to finish."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from typing import Final, Generic, TypeVar

import trio

from .stack import stack_of_thread

T = TypeVar("T")


class Worker(Generic[T]):
    """A function that runs once, in a thread of trio's.

    Its token is its own: threads that run as long as a child lives would use up those of trio's
    default limiter, and everybody else's `trio.to_thread.run_sync` would wait for ever. The
    function is given the event that is set when it is to finish.
    """

    __slots__ = ("_asked", "_function", "_ident", "_name")

    def __init__(self, name: str, function: Callable[[threading.Event], T]) -> None:
        self._name = name
        self._function = function
        self._ident: int | None = None
        self._asked = threading.Event()

    async def run(self, settled: Callable[[], Awaitable[object]]) -> T:
        """Run the function to its very end. It is asked to finish when ``settled()`` returns.

        Cancellation asks as well, and cannot do more: a thread cannot be ended from outside. Raises
        what the function raises.
        """
        ended: tuple[T, None] | tuple[None, BaseException]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._ask_after, settled)
            try:
                ended = await trio.to_thread.run_sync(
                    self.in_thread, thread_name=self._name, limiter=trio.CapacityLimiter(1)
                )
            except BaseException as exception:  # it has not begun: cancelled, or no more threads
                ended = None, exception
            # a cancellation that comes only now must not hide how the function has ended
            nursery.cancel_scope.shield = True
            nursery.cancel_scope.cancel()
        result, failure = ended
        try:
            if failure is not None:
                raise failure
            return result  # type: ignore[return-value]  # it goes with a failure that is None
        finally:
            del ended, failure, result

    async def _ask_after(self, settled: Callable[[], Awaitable[object]]) -> None:
        try:
            await settled()
        except trio.Cancelled:
            pass  # the thread is asked below; the scope around it goes on cancelling all else
        finally:
            self._asked.set()

    def in_thread(self) -> tuple[T, None] | tuple[None, BaseException]:
        self._ident = threading.get_ident()
        try:
            return self._function(self._asked), None
        except BaseException as exception:
            # not raised through trio, whose frames would only make the traceback longer
            return None, exception
        finally:
            self._ident = None

    def stack(self) -> str:
        """Where the function stands now, as traceback text, the innermost frame last."""
        text = stack_of_thread(self._ident, lambda frame: frame.f_code is _IN_THREAD)
        return f"  in its thread {self._name!r}:\n{text}" if text else ""


_IN_THREAD: Final = Worker[object].in_thread.__code__
