"""Processes as such: how one comes into the world, and how it leaves it for certain."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Final

import trio

# Between fork and the program itself: dies with its parent, and says why if it cannot go on. In
# Python, since only Python is certain to be there; as a program of its own, since what runs between
# fork and exec in a program with threads may deadlock. Python ignores two signals, and what is
# ignored stays ignored; it may also change a variable to say how it reads text.
LAUNCHER: Final = """\
import os, signal, sys
told, parent, locale = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
os.set_inheritable(told, False)
for name in ("SIGTERM", "SIGPIPE", "SIGXFSZ"):
    signal.signal(getattr(signal, name), signal.SIG_DFL)
os.environ["LC_CTYPE"] = locale
if not locale:
    del os.environ["LC_CTYPE"]
try:
    if sys.platform == "linux":
        import ctypes
        ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)
    os.execvp(sys.argv[4], sys.argv[4:])
except OSError as error:
    os.write(told, str(error.errno).encode())
    os._exit(127)
"""

POLL: Final = 0.02
GROUP_ENDS_WITHIN: Final = 0.5


class Birth:
    """A process from its birth until it is dead and reaped, with all of its group.

    Its streams are for the caller to read and close.
    """

    def __init__(
        self,
        argv: Sequence[str],
        *,
        told: int,
        pass_fds: Sequence[int],
        env: Mapping[str, str],
        cwd: str | None,
        stdin: int | IO[bytes],
        stdout: int,
        stderr: int,
    ) -> None:
        given = [str(told), str(os.getpid()), env.get("LC_CTYPE", "")]
        # Here and not in a worker thread, as trio would do it: for Linux the parent is the thread
        # that forked, and a process that is to die with its parent would die with that thread.
        self._popen = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", LAUNCHER, *given, *argv],
            pass_fds=(told, *pass_fds),
            env=env,
            cwd=cwd,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
        )
        self.pid: int = self._popen.pid
        try:
            self._pidfd: int | None = os.pidfd_open(self.pid)
        except (AttributeError, OSError):
            # not Linux, or an old one, or a sandbox
            self._pidfd = None

    @property
    def returncode(self) -> int:
        """As in `subprocess`; only after `end`."""
        assert self._popen.returncode is not None
        return self._popen.returncode

    def ask(self) -> None:
        """Send SIGTERM."""
        self._signal(os.kill, signal.SIGTERM)

    def kill_group(self) -> None:
        """Send SIGKILL to the process and to what it has left in its group."""
        self._signal(os.killpg, signal.SIGKILL)

    def _signal(self, send: Callable[[int, int], object], number: int) -> None:
        # once it is reaped, its number may be somebody else's
        if self._popen.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            send(self.pid, number)

    async def exited(self) -> None:
        """Wait until it has ended, without reaping it: so long nobody else has its number."""
        if self._pidfd is not None:
            await trio.lowlevel.wait_readable(self._pidfd)
            return
        while not self._has_exited():  # noqa: ASYNC110 - there is nothing to be told by
            await trio.sleep(POLL)

    def _has_exited(self) -> bool:
        if not hasattr(os, "waitid"):
            # some systems cannot look without reaping: there its group is left alone
            return self._popen.poll() is not None
        try:
            options = os.WEXITED | os.WNOHANG | os.WNOWAIT
            return os.waitid(os.P_PID, self.pid, options) is not None
        except ChildProcessError:
            return True

    async def end(self) -> None:
        """Kill whatever is left of it, and wait until that is over. Not to be cancelled."""
        self.kill_group()
        await self.exited()
        self._popen.wait()
        if self._pidfd is not None:
            os.close(self._pidfd)
            self._pidfd = None
        with trio.move_on_after(GROUP_ENDS_WITHIN):
            while self._has_group():  # noqa: ASYNC110 - there is nothing to be told by
                await trio.sleep(POLL)

    def _has_group(self) -> bool:
        """Whether others of its group are still dying."""
        try:
            os.killpg(self.pid, 0)
        except (ProcessLookupError, PermissionError):
            return False
        return sys.platform != "linux" or any(map(self._is_dying, Path("/proc").glob("[0-9]*")))

    def _is_dying(self, process: Path) -> bool:
        """Whether it is of this group, and no zombie: these are for their new parent to reap."""
        try:
            stat = (process / "stat").read_text(errors="replace")
        except OSError:
            return False
        # number (name) state parent group …
        state, _, group = stat.rpartition(")")[2].split()[:3]
        return int(group) == self.pid and state not in "ZX"
