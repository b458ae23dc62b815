"""One mailbox, and the one task that waits at it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from typing import TYPE_CHECKING, Final

from trio.lowlevel import (
    Abort,
    RaiseCancelT,
    Task,
    current_task,
    enable_ki_protection,
    reschedule,
    wait_task_rescheduled,
)

if TYPE_CHECKING:
    from .messages import Message


# After so many children or messages everything else that can run has its turn, so that no crowd
# holds it up. Nothing is cancelled there: that comes where the code waits for something.
MOST_IN_A_ROW: Final = 100


class Mailbox(ABC):
    """Messages, in order of arrival."""

    def __init__(self) -> None:
        self.messages: deque[Message] = deque()
        # whether the loop waits for the next message, and for nothing else; written here alone
        self.is_idle = False
        self._parked: Task | None = None

    @abstractmethod
    def interrupted_by(self, exception: BaseException) -> None:
        """Ctrl-C has reached the task that waits."""

    def post(self, message: Message) -> None:
        """Leave a message for the loop, which handles it when its turn comes."""
        self.messages.append(message)
        self.ring()

    def ring(self) -> None:
        """Wake the loop if it is waiting; whatever it waits for, it looks again."""
        task = self._parked
        if task is not None:
            self._parked, self.is_idle = None, False
            reschedule(task)

    @enable_ki_protection
    async def pause(self, is_idle: bool = False) -> None:
        """Wait for `ring`. Only one task at a time: the loop, or the code it runs."""
        assert self._parked is None, "two tasks wait for one supervisor"
        self._parked, self.is_idle = current_task(), is_idle
        try:
            await wait_task_rescheduled(self._unpark)
        except KeyboardInterrupt as exception:
            # trio hands Ctrl-C to the main task, and this may be it
            self.interrupted_by(exception)
        finally:
            # also when the system function that waits here is thrown away half-way
            self._parked, self.is_idle = None, False

    def _unpark(self, _: RaiseCancelT) -> Abort:
        self._parked, self.is_idle = None, False
        return Abort.SUCCEEDED
