"""Processes as such: how one comes into the world, and how it leaves it for certain."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Final, NamedTuple

import trio

# Between fork and the program itself: dies with its parent, and reports why it cannot go on. In
# Python, since only Python is certain to be there; as a program of its own, since what runs between
# fork and exec in a program with threads may deadlock. What is blocked or ignored here would stay
# so in the program, and Python itself ignores two signals; it may also change the variable for how
# it reads text.
LAUNCHER: Final = """\
import os, signal, sys
report, parent, locale = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
os.set_inheritable(report, False)
for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
    signal.signal(number, signal.SIG_DFL)
signal.pthread_sigmask(signal.SIG_SETMASK, ())
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
    os.write(report, str(error.errno).encode())
    os._exit(127)
"""

POLL: Final = 0.02
LONGEST_POLL: Final = 0.32
GROUP_ENDS_WITHIN: Final = 0.5
# how often the first process of a container looks for what others have left to it
REAPS_EVERY: Final = 1.0
# stands for an exit status that is lost, as in `subprocess`
LOST: Final = sys.maxsize

# of processes started here, by those who start and end them; in a first process also of ended ones
# of which something still lives
_sessions: set[int] = set()


class Birth:
    """A process from its birth until it is dead and reaped, with all of its group.

    Its streams are for the caller to read and close.
    """

    def __init__(
        self,
        argv: Sequence[str],
        *,
        report: int,
        pass_fds: Sequence[int],
        env: Mapping[str, str],
        cwd: str | None,
        stdin: int | IO[bytes],
        stdout: int,
        stderr: int,
    ) -> None:
        given = [str(report), str(os.getpid()), env.get("LC_CTYPE", "")]
        # Here and not in a worker thread, as trio would do it: for Linux the parent is the thread
        # that forked, and a process that is to die with its parent would die with that thread.
        self._popen = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", LAUNCHER, *given, *argv],
            pass_fds=(report, *pass_fds),
            env=env,
            cwd=cwd,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
        )
        self.pid: int = self._popen.pid
        _sessions.add(self.pid)
        try:
            self._pidfd: int | None = os.pidfd_open(self.pid)
        except (AttributeError, OSError):
            # not Linux, or an old one, or a sandbox
            self._pidfd = None

    @property
    def returncode(self) -> int | None:
        """As in `subprocess`, but ``None`` if other code has reaped it. Only after `end`."""
        code = self._popen.returncode
        assert code is not None
        return None if code == LOST else code

    def ask(self, number: int, *, group: bool) -> None:
        """Send a signal, to all of its group or to itself alone."""
        self._signal(os.killpg if group else os.kill, number)

    def kill_group(self) -> None:
        """Send SIGKILL to the process and to what it has left in its group."""
        self._signal(os.killpg, signal.SIGKILL)

    def _signal(self, send: Callable[[int, int], object], number: int) -> None:
        # once it is reaped, its number may be that of another process
        if self._popen.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            send(self.pid, number)

    async def exited(self) -> None:
        """Wait until it has ended, without reaping it: so long no other process has its number."""
        while True:
            with trio.move_on_after(REAPS_EVERY if os.getpid() == 1 else math.inf):
                await self._exited()
                return
            reap_orphans()

    async def _exited(self) -> None:
        if self._pidfd is not None:
            await trio.lowlevel.wait_readable(self._pidfd)
            return
        while not self._has_exited():  # noqa: ASYNC110 - nothing can be waited for here
            await trio.sleep(POLL)

    def _has_exited(self) -> bool:
        if not hasattr(os, "waitid"):
            # some systems cannot look without reaping: there its group is left alone
            return self._reap(os.WNOHANG)
        try:
            options = os.WEXITED | os.WNOHANG | os.WNOWAIT
            return os.waitid(os.P_PID, self.pid, options) is not None
        except ChildProcessError:
            return True

    def _reap(self, options: int = 0) -> bool:
        """Whether it is reaped now. Not by `subprocess`, for which a lost status is success."""
        if self._popen.returncode is None:
            try:
                self._popen.returncode = self._wait(options)
            except ChildProcessError:
                self._popen.returncode = LOST
        return self._popen.returncode is not None

    def _wait(self, options: int) -> int | None:
        if self._pidfd is None:
            pid, status = os.waitpid(self.pid, options)
            return os.waitstatus_to_exitcode(status) if pid else None
        # its number may be that of another child by now, if other code has reaped it
        end = os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED | options)
        assert end is not None
        return end.si_status if end.si_code == os.CLD_EXITED else -end.si_status

    async def group_ended(self) -> None:
        """Wait until it has ended with all of its group. (Only Linux can see the latter.)"""
        await self.exited()
        pause = POLL
        while sys.platform == "linux" and self._is_group_alive():
            await trio.sleep(pause)
            pause = min(2 * pause, LONGEST_POLL)

    async def end(self) -> None:
        """Kill whatever is left of it, and wait until that is over. Not to be cancelled."""
        self.kill_group()
        await self.exited()
        self._reap()
        if self._pidfd is not None:
            os.close(self._pidfd)
            self._pidfd = None
        with trio.move_on_after(GROUP_ENDS_WITHIN):
            while self._has_group():  # noqa: ASYNC110 - nothing can be waited for here
                await trio.sleep(POLL)
        reap_orphans()
        forget_session(self.pid)

    def _has_group(self) -> bool:
        """Whether others of its group are still dying."""
        try:
            os.killpg(self.pid, 0)
        except (ProcessLookupError, PermissionError):
            return False
        return sys.platform != "linux" or self._is_group_alive()

    def _is_group_alive(self) -> bool:
        """Whether any of it is no zombie: these are for their parent to reap."""
        return any(
            other.group == self.pid and not other.is_dead for other in map(look_at, processes())
        )


class Look(NamedTuple):
    """What the system shows of a process."""

    is_dead: bool
    group: int
    session: int


def look_at(pid: int) -> Look:
    """As seen by Linux; one that is gone is dead, and of no group."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return Look(True, 0, 0)
    # number (name) state parent group session …
    state, _, group, session = stat.rpartition(")")[2].split()[:4]
    return Look(state in "ZX", int(group), int(session))


def processes() -> Iterator[int]:
    """All that this process can see."""
    return (int(path.name) for path in Path("/proc").glob("[0-9]*"))


def reap_orphans() -> None:
    """Reap what has died in a session begun here, and was left to this process by its parent.

    That is so in the first process of a container. Never by ``waitpid(-1)``, which would take the
    ends of their children from others.
    """
    if not _has_zombies():
        return
    for children in Path("/proc/self/task").glob("*/children"):
        for pid in map(int, _words(children)):
            look = look_at(pid)
            # the leader is for its own `Birth`
            if look.is_dead and look.session in _sessions and look.session != pid:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)


def forget_session(session: int) -> None:
    """It has ended; but what is left of it will be left to a first process."""
    if os.getpid() == 1:
        _sessions.intersection_update(look_at(pid).session for pid in processes())
    else:
        _sessions.discard(session)


def _has_zombies() -> bool:
    try:
        return os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except (AttributeError, ChildProcessError):
        return False


def _words(file: Path) -> list[str]:
    try:
        return file.read_text().split()
    except OSError:
        return []
