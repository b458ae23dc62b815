"""Operating system processes as children: a command, or a Python function in its own process.

A process is asked to finish by SIGTERM, and has the ``shutdown`` seconds of its `Child` for that;
it is aborted by SIGKILL, and that is certain: before the child has ended, the process is dead and
reaped, and what it had started itself and left in its process group is killed as well, however the
process ended. (A program that leaves its group, as daemons do, leaves its supervisor.) Each process
leads a session of its own, so that Ctrl-C at a terminal reaches this program alone.

Exit status 0 is a normal end with the value 0, or the return value of the function. So is an end by
SIGTERM once it was sent (status 143 too): the value is the status. All else is `ProcessFailed`, or
the very exception that the function raised.

What it writes becomes log records of level INFO, a line each, with the fields ``process.pid`` and
``log.iostream`` (``stdout`` or ``stderr``); lines are cut at 4096 bytes. Whether anyone wants to
know or not, all is read: a process never waits for its output to be taken. The trace context goes
along in ``TRACEPARENT``, ``TRACESTATE`` and ``BAGGAGE``.

When this program dies, even by SIGKILL, its processes die as well. On Linux the kernel sees to that
(``PR_SET_PDEATHSIG``, which holds for the process itself, not for what it has started, and not for
a set-user-ID program). On other systems a Python function notices and kills its whole group, while
a command lives on. POSIX systems only.
"""

from __future__ import annotations

import os
import pickle
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol, TypeAlias

import trio

from ._check import check_count
from ._processes_failed import ProcessFailed, RemoteFailure
from ._processes_order import PROGRAM, Order
from ._processes_ready import Line, Notify, Port
from ._processes_run import AtOnce, Plan, Process, Run

__all__ = [
    "Command",
    "Function",
    "Process",
    "ProcessFailed",
    "ProcessStatus",
    "RemoteFailure",
    "command",
    "line",
    "notify",
    "port",
    "process",
]

Word: TypeAlias = str | os.PathLike[str]
Readiness: TypeAlias = Line | Port | Notify


class ProcessStatus(Protocol):
    """What a Python function in its own process is given as ``task_status``, if it takes that."""

    def started(self, value: object = None) -> None:
        """Say: ready. ``value`` (to be pickled) becomes the ``value`` of the started `Process`."""
        ...

    def heartbeat(self) -> None:
        """Say: still alive, as ``current_context().heartbeat()`` does for the child."""
        ...


@dataclass(frozen=True, slots=True)
class Command:
    """A program with its arguments, as the start function of a `Child`. Made by `command`."""

    child_kind: ClassVar[Literal["process"]] = "process"

    argv: tuple[str, ...]
    ready: Readiness | None = None
    env: tuple[tuple[str, str], ...] | None = None
    cwd: str | None = None
    stdin: bytes | None = None

    async def __call__(
        self, *, task_status: trio.TaskStatus[Process] = trio.TASK_STATUS_IGNORED
    ) -> int:
        """Run it to its end; the exit status. Raises `ProcessFailed`, and `OSError` at the start.

        Cancelling it kills the process at once.
        """
        ready = AtOnce() if self.ready is None else self.ready
        return await Run(
            Plan(self.argv, self.argv, _mapping(self.env), self.cwd, self.stdin, ready)
        ).live(task_status)


@dataclass(frozen=True, slots=True)
class Function:
    """A Python function with its arguments, as the start function of a `Child`: see `process`."""

    child_kind: ClassVar[Literal["process"]] = "process"

    fn: Callable[..., object]
    args: tuple[Any, ...] = field(hash=False)
    env: tuple[tuple[str, str], ...] | None = None
    cwd: str | None = None

    async def __call__(
        self, *, task_status: trio.TaskStatus[Process] = trio.TASK_STATUS_IGNORED
    ) -> Any:
        """Run it to its end; what it returned. Raises what it raised, or `ProcessFailed`.

        Cancelling it kills the process at once.
        """
        order = Order(self.fn, self.args)
        plan = Plan(PROGRAM, (_name_of(self.fn),), _mapping(self.env), self.cwd, None, order)
        await Run(plan).live(task_status)
        return None if order.returned is None else pickle.loads(order.returned)


def command(
    *argv: Word,
    ready: Readiness | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Word | None = None,
    stdin: bytes | None = None,
) -> Command:
    """A program as a child: ``Child("web", command("nginx", "-g", "daemon off;"), shutdown=10)``.

    It is started when ``ready`` says so: at a `line` of its output, an open `port`, its `notify`;
    at once without. Its started value is a `Process`, its value the exit status (also as a task:
    ``await pool.run(command("make"))``). A program that
    cannot be run is a failed start with the `OSError` that `subprocess` would raise; one that ends
    before it is ready has failed its start. ``start_timeout`` of the `Child` limits that, and no
    process stays behind.

    ``env`` holds all its variables (those of this program by default), ``cwd`` the directory it
    runs in, ``stdin`` what it reads there (nothing by default).

    Raises `TypeError` or `ValueError` naming the argument. After supervisord and systemd.
    """
    words = tuple(_word("argv", word) for word in argv)
    if not words or not words[0]:
        raise ValueError(f"command: argv must be a program and its arguments, not {argv!r}")
    if not isinstance(ready, Readiness | None):
        raise TypeError(f"command: ready must be line(), port(), notify() or None, not {ready!r}")
    if not isinstance(stdin, bytes | None):
        raise TypeError(f"command: stdin must be bytes or None, not {stdin!r}")
    return Command(words, ready, _items("command", env), _directory("command", cwd), stdin)


def process(
    fn: Callable[..., object],
    *args: Any,
    env: Mapping[str, str] | None = None,
    cwd: Word | None = None,
) -> Function:
    """A Python function as a child, in a process of its own: ``Child("sum", process(fn, 1, 2))``.

    The process is a new interpreter that imports what it needs, as with `multiprocessing`'s
    ``spawn``: function, arguments and values are pickled, and a program that starts this way needs
    its ``if __name__ == "__main__":``. The function is started when it is called; if it takes a
    parameter ``task_status`` (a `ProcessStatus`), when it calls ``task_status.started(value)``.

    Its value is what ``fn(*args)`` returns. What it raises is the reason of the termination: the
    same exception, with its traceback as a note; what cannot be pickled comes as `RemoteFailure`.
    SIGTERM raises `SystemExit` in it, so that its ``finally`` blocks run, unless it sets a handler
    of its own. ``env`` and ``cwd`` as for `command`. The trace goes on: the start of the child is
    the current span of the function.

    Raises `TypeError` for what cannot be pickled.
    """
    if not callable(fn):
        raise TypeError(f"process: fn must be a function, not {fn!r}")
    try:
        pickle.dumps((fn, args))
    except Exception as exception:
        raise TypeError(
            f"process: fn and args must be picklable, as functions at the top of a module are, but "
            f"{fn!r} with {args!r} is not: {exception}"
        ) from exception
    return Function(fn, args, _items("process", env), _directory("process", cwd))


def line(pattern: str | re.Pattern[str]) -> Line:
    """Ready when a line of its stdout or stderr matches (`re.search`).

    The match is the ``value`` of the started `Process`. Lines that a program keeps in a buffer,
    as many do when they write to no terminal, have not been written.
    """
    if not isinstance(pattern, str | re.Pattern):
        raise TypeError(f"line: pattern must be a str or a compiled one, not {pattern!r}")
    return Line(re.compile(pattern))


def port(host: str, number: int) -> Port:
    """Ready when it accepts a TCP connection there, tried every 0.05 s.

    If somebody else does so already, the start fails with `OSError` (``EADDRINUSE``).
    """
    if not isinstance(host, str) or not host:
        raise TypeError(f"port: host must be a name or an address, not {host!r}")
    check_count("port", "number", number, least=1)
    return Port(host, number)


def notify() -> Notify:
    """Ready when it sends ``READY=1``, by the protocol of systemd's ``sd_notify``.

    ``WATCHDOG=1`` is a heartbeat of the child, ``STATUS=…`` a log record. Most programs send
    ``WATCHDOG=1`` only if ``WATCHDOG_USEC`` in their ``env`` says how often.
    """
    return Notify()


def _word(name: str, word: object) -> str:
    text = os.fspath(word) if isinstance(word, os.PathLike) else word
    if not isinstance(text, str):
        raise TypeError(f"command: {name} must be str or paths, not {word!r}")
    if "\0" in text:
        raise ValueError(f"command: {name} must be without null characters, not {word!r}")
    return text


def _items(owner: str, env: Mapping[str, str] | None) -> tuple[tuple[str, str], ...] | None:
    if env is None:
        return None
    if not isinstance(env, Mapping) or not all(
        isinstance(name, str) and isinstance(value, str) for name, value in env.items()
    ):
        raise TypeError(f"{owner}: env must be a mapping of str to str, not {env!r}")
    return tuple(sorted(env.items()))


def _mapping(env: tuple[tuple[str, str], ...] | None) -> dict[str, str] | None:
    return None if env is None else dict(env)


def _directory(owner: str, cwd: Word | None) -> str | None:
    if not isinstance(cwd, str | os.PathLike | None):
        raise TypeError(f"{owner}: cwd must be a path, not {cwd!r}")
    return None if cwd is None else os.fspath(cwd)


def _name_of(fn: Callable[..., object]) -> str:
    name = getattr(fn, "__qualname__", None)
    return repr(fn) if name is None else f"{fn.__module__}.{name}"


# where users import them from
for _public in (Process, ProcessFailed, RemoteFailure):
    _public.__module__ = __name__
