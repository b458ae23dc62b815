"""`Alarm`: the end of a process by the system itself, whatever the process does."""

from __future__ import annotations

import math
import signal

# by which part of a lease later than its end; the other side waits for twice that
LATER = 0.005


class Alarm:
    """Set to the end of a lease, in case that no thread of this process can see to it then.

    As when a function in C holds on to the interpreter, or the process was stopped: SIGALRM, which
    nothing handles, ends the process then, or as soon as it goes on. Code that handles SIGALRM
    itself keeps it, and does without this. Only the thread that keeps the leases calls it.
    """

    def __init__(self) -> None:
        self._is_set = False

    def set(self, seconds: float) -> None:
        """Ring in so many seconds; ``inf`` is never."""
        if not hasattr(signal, "setitimer"):  # pragma: no cover - no such system
            return
        if signal.getsignal(signal.SIGALRM) is not signal.SIG_DFL:
            self._is_set = False
        elif seconds < math.inf:
            self._is_set = True
            signal.setitimer(signal.ITIMER_REAL, max(seconds, 1e-6))
        elif self._is_set:
            self._is_set = False
            signal.setitimer(signal.ITIMER_REAL, 0)
