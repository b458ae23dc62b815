"""The error of a process that has failed."""

from __future__ import annotations

import signal

from spry_py import SpryError

PREVIEW = 120
UNKNOWN = "exit status unknown (SIGCHLD is ignored, or other code reaped it)"


class ProcessFailed(SpryError):
    """A process ended otherwise than it should.

    ``argv`` and ``pid`` identify it; ``returncode`` is as in `subprocess`: the exit status, or the
    negative number of a signal; ``None`` if it is unknown, since the program ignores SIGCHLD or has
    let other code reap it. ``stderr`` holds its last lines there, and ``why`` what else is known.
    """

    def __init__(
        self,
        argv: tuple[str, ...],
        pid: int,
        returncode: int | None,
        stderr: tuple[str, ...] = (),
        why: str = "",
    ) -> None:
        super().__init__(argv, pid, returncode, stderr, why)
        self.argv: tuple[str, ...] = argv
        self.pid: int = pid
        self.returncode: int | None = returncode
        self.stderr: tuple[str, ...] = stderr
        self.why: str = why

    @property
    def signal(self) -> str | None:
        """The name of the signal that ended it (``"SIGKILL"``), ``None`` if it exited."""
        code = self.returncode
        return name_of(-code) if code is not None and code < 0 else None

    def __str__(self) -> str:
        how = f"exit status {self.returncode}" if self.signal is None else self.signal
        if self.returncode is None:
            how = UNKNOWN
        first = f"process {self.argv[0]!r} (pid {self.pid}) ended with {how}"
        # the first line is all that some readers show
        if self.why:
            first += f" {self.why}"
        elif self.stderr:
            first += f"; last on stderr: {self.stderr[-1][:PREVIEW]}"
        return "\n".join([first, *(f"  stderr: {line}" for line in self.stderr)])


class RemoteFailure(SpryError):
    """Stands for an exception, raised in another process, that could not be brought over.

    Its text names type and message; the traceback is a note.
    """


def name_of(number: int) -> str:
    """The name of a signal; real-time signals have none."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
