"""Operating system processes as children: a command, or a Python function in its own process.

A process is asked to finish by SIGTERM (or its ``stop_signal``), and has the ``shutdown`` seconds
of its `Child` for that; it is aborted by SIGKILL, and that is certain: before the child has ended,
the process is dead and reaped, and what it had started itself and left in its process group is
killed as well, however the process ended. (A program that leaves its group, as daemons do, leaves
its supervisor.) Each process leads a session of its own, so that Ctrl-C at a terminal reaches this
program alone.

Exit status 0 is a normal end with the value 0, or the return value of the function. So is an end by
SIGTERM once it was sent (status 143 too): the value is the status. All else is `ProcessFailed`, or
the very exception that the function raised. A status that is lost, because this program ignores
SIGCHLD or lets other code reap its children, is no success.

Whatever signals this program blocks or ignores, a process begins as after a login: none is blocked,
and each does what it does by default. As the first process of a container, this program also reaps
what dies in the sessions of its processes and is left to it.

What it writes becomes log records of level INFO, a line each, with the fields ``process.pid`` and
``log.iostream`` (``stdout`` or ``stderr``); lines are cut at 4096 bytes. All is read, wanted or
not: a process never waits for its output to be taken. Of what it writes faster than that can be
logged, lines are dropped, and a WARNING counts them once a second. The trace context goes along in
``TRACEPARENT``, ``TRACESTATE`` and ``BAGGAGE``.

When this program dies, even by SIGKILL, its processes die as well. On Linux the kernel sees to that
(``PR_SET_PDEATHSIG``, which holds for the process itself, not for what it has started, and not for
a set-user-ID program). On other systems a Python function notices and kills its whole group, while
a command lives on. POSIX systems only.
"""

from __future__ import annotations

import inspect
import os
import pickle
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from signal import SIGTERM, valid_signals
from typing import (
    Any,
    ClassVar,
    Final,
    Generic,
    Literal,
    Protocol,
    TypeAlias,
    TypeVar,
    cast,
    overload,
)

import trio

from spry_py.lowlevel import check_count, check_type

from .channel import Channel
from .failed import ProcessFailed, RemoteFailure
from .order import PROGRAM, Order
from .ready import Line, Notify, Port
from .run import AtOnce, Plan, Process, Run

__all__ = [
    "Channel",
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
T_co = TypeVar("T_co", covariant=True)

HIGHEST_PORT: Final = 65535


class ProcessStatus(Protocol):
    """What a Python function in its own process is given as ``task_status``, if it takes that."""

    def started(self, value: object = None) -> None:
        """Be started. ``value`` (to be pickled) becomes the ``value`` of the started `Process`."""
        ...

    def heartbeat(self) -> None:
        """Send a heartbeat, as ``current_context().heartbeat()`` does for the child."""
        ...


@dataclass(frozen=True, slots=True)
class Command(Generic[T_co]):
    """A program with its arguments, as the start function of a `Child`. Made by `command`."""

    child_kind: ClassVar[Literal["process"]] = "process"

    argv: tuple[str, ...]
    ready: Readiness | None = None
    env: tuple[tuple[str, str], ...] | None = None
    cwd: str | None = None
    stdin: bytes | None = None
    stop_signal: int = SIGTERM
    stop_group: bool = False

    async def __call__(
        self, *, task_status: trio.TaskStatus[Process[T_co]] = trio.TASK_STATUS_IGNORED
    ) -> int:
        """Run it to its end; the exit status. Raises `ProcessFailed`, and `OSError` at the start.

        Cancelling it kills the process at once.
        """
        plan = Plan(
            self.argv,
            self.argv,
            _mapping(self.env),
            self.cwd,
            self.stdin,
            AtOnce() if self.ready is None else self.ready,
            self.stop_signal,
            self.stop_group,
        )
        return await Run(plan).live(task_status)


@dataclass(frozen=True, slots=True)
class Function:
    """A Python function with its arguments, as the start function of a `Child`: see `process`."""

    child_kind: ClassVar[Literal["process"]] = "process"

    fn: Callable[..., object]
    args: tuple[Any, ...] = field(hash=False)
    env: tuple[tuple[str, str], ...] | None = None
    cwd: str | None = None
    channel: bool = False

    async def __call__(
        self, *, task_status: trio.TaskStatus[Process[Any]] = trio.TASK_STATUS_IGNORED
    ) -> Any:
        """Run it to its end; what it returned. Raises what it raised, or `ProcessFailed`.

        Cancelling it kills the process at once.
        """
        order = Order(self.fn, self.args, has_channel=self.channel)
        plan = Plan(PROGRAM, (_name_of(self.fn),), _mapping(self.env), self.cwd, None, order)
        await Run(plan).live(task_status)
        return None if order.returned is None else pickle.loads(order.returned)


@overload
def command(
    *argv: Word,
    ready: Line,
    env: Mapping[str, str] | None = None,
    cwd: Word | None = None,
    stdin: bytes | None = None,
    stop_signal: int = SIGTERM,
    stop_group: bool = False,
) -> Command[re.Match[str]]: ...


@overload
def command(
    *argv: Word,
    ready: Port | Notify | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Word | None = None,
    stdin: bytes | None = None,
    stop_signal: int = SIGTERM,
    stop_group: bool = False,
) -> Command[None]: ...


def command(
    *argv: Word,
    ready: Readiness | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Word | None = None,
    stdin: bytes | None = None,
    stop_signal: int = SIGTERM,
    stop_group: bool = False,
) -> Command[Any]:
    """A program as a child: ``Child("web", command("nginx", "-g", "daemon off;"), shutdown=10)``.

    ``ready`` is what makes it started: a `line` of its output, an open `port`, its `notify`; it is
    started at once without. Its started value is a `Process`, its value the exit status (also as a
    task: ``await pool.run(command("make"))``). A program that
    cannot be run is a failed start with the `OSError` that `subprocess` would raise; one that ends
    before it is ready has failed its start. ``start_timeout`` of the `Child` limits that, and no
    process stays behind.

    ``env`` holds all its variables (by default those of this program, without those by which
    systemd asks this program for news), ``cwd`` the directory it runs in, ``stdin`` what it reads
    there (nothing by default).

    ``stop_signal`` asks it to finish (for example `signal.SIGINT`). With ``stop_group`` its process
    group is asked, and (on Linux) has the ``shutdown`` seconds to end: for a server behind a shell,
    which would otherwise be killed as soon as the shell has ended.

    Raises `TypeError` or `ValueError` naming the argument. After supervisord and systemd.
    """
    words = tuple(_word("command", "argv", word) for word in argv)
    if not words or not words[0]:
        raise ValueError(f"command: argv must be a program and its arguments, not {argv!r}")
    kinds = Readiness | None
    check_type("command", "ready", ready, kinds, "line(), port(), notify() or None")
    check_type("command", "stdin", stdin, bytes | None, "bytes or None")
    _check_signal(stop_signal)
    check_type("command", "stop_group", stop_group, bool, "True or False")
    variables, directory = _items("command", env), _directory("command", cwd)
    return Command(words, ready, variables, directory, stdin, int(stop_signal), stop_group)


def process(
    fn: Callable[..., object],
    *args: Any,
    env: Mapping[str, str] | None = None,
    cwd: Word | None = None,
    channel: bool = False,
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

    With ``channel`` messages go both ways: the function takes a parameter ``channel`` (a
    `Channel`), and `Process` has ``send``, ``receive`` and ``async for``. A message is pickled;
    what a process has not received when it dies is lost, and logged by its number.

    Raises `TypeError` for what cannot be pickled, and for an async function.
    """
    if inspect.iscoroutine(fn):
        fn.close()
    if not callable(fn):
        raise TypeError(f"process: fn must be a function, not {fn!r}")
    if _is_async(fn):
        raise TypeError(
            f"process: fn must be a plain function, not the async one {fn!r}; give a function that "
            "calls trio.run"
        )
    try:
        pickle.dumps((fn, args))
    except Exception as exception:
        raise TypeError(
            f"process: fn and args must be picklable, as functions at the top of a module are, but "
            f"{fn!r} with {args!r} is not: {exception}"
        ) from exception
    check_type("process", "channel", channel, bool, "True or False")
    if channel and not _takes_channel(fn):
        raise TypeError(
            f"process: with channel=True the function must take a parameter channel, and {fn!r} "
            "does not"
        )
    return Function(fn, args, _items("process", env), _directory("process", cwd), channel)


def line(pattern: str | re.Pattern[str]) -> Line:
    """Ready when a line of its stdout or stderr matches (`re.search`).

    The line is as it was written, without its end (up to 65,536 bytes of it; what is no UTF-8 is
    escaped); a prompt that no newline has followed yet counts as well. The match is the ``value``
    of the started `Process`. Lines that a program keeps in a buffer, as many do when they write to
    no terminal, have not been written. Raises `ValueError` for what is no regular expression.
    """
    check_type("line", "pattern", pattern, str | re.Pattern, "a str or a compiled one")
    try:
        return Line(re.compile(pattern))
    except re.error as error:
        raise ValueError(
            f"line: pattern must be a regular expression, not {pattern!r}: {error}"
        ) from None


def port(host: str, number: int) -> Port:
    """Ready when it accepts a TCP connection there, tried every 0.05 s.

    If another program does so already, the start fails with `OSError` (``EADDRINUSE``).
    """
    _check_host(host)
    check_count("port", "number", number, least=1)
    if number > HIGHEST_PORT:
        raise ValueError(f"port: number must be an int, {HIGHEST_PORT} or less, not {number!r}")
    return Port(host, number)


def notify() -> Notify:
    """Ready when it sends ``READY=1``, by the protocol of systemd's ``sd_notify``.

    ``WATCHDOG=1`` is a heartbeat of the child, ``STATUS=…`` a log record. Most programs send
    ``WATCHDOG=1`` only if their ``env`` sets ``WATCHDOG_USEC``.
    """
    return Notify()


def _is_async(fn: Any) -> bool:
    """Whether a call of it would only make a coroutine or a generator, and run nothing."""
    while isinstance(fn, partial):
        fn = fn.func
    kinds = (inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction)
    return any(is_one(it) for is_one in kinds for it in (fn, type(fn).__call__))


def _takes_channel(fn: Callable[..., object]) -> bool:
    try:
        parameters = inspect.signature(fn).parameters.values()
    except (TypeError, ValueError):
        # some builtins do not have it
        return False
    return any(it.name == "channel" or it.kind is it.VAR_KEYWORD for it in parameters)


def _word(owner: str, name: str, word: object) -> str:
    text: object = os.fspath(cast("Word", word)) if isinstance(word, os.PathLike) else word
    if not isinstance(text, str):
        raise TypeError(f"{owner}: {name} must be str or paths, not {word!r}")
    if "\0" in text:
        raise ValueError(f"{owner}: {name} must be without null characters, not {word!r}")
    try:
        os.fsencode(text)
    except UnicodeEncodeError as error:
        raise ValueError(f"{owner}: {name} must be what can be encoded, not {word!r}") from error
    return text


def _check_host(host: object) -> None:
    if not isinstance(host, str) or not host:
        raise TypeError(f"port: host must be a name or an address, not {host!r}")


def _check_signal(stop_signal: object) -> None:
    if isinstance(stop_signal, bool) or not isinstance(stop_signal, int):
        raise TypeError(f"command: stop_signal must be a signal, not {stop_signal!r}")
    if stop_signal not in valid_signals():
        raise ValueError(f"command: stop_signal must be a signal, not {stop_signal!r}")


def _is_of_str(env: object) -> bool:
    if not isinstance(env, Mapping):
        return False
    pairs = cast("Mapping[object, object]", env).items()
    return all(isinstance(name, str) and isinstance(value, str) for name, value in pairs)


def _items(owner: str, env: Mapping[str, str] | None) -> tuple[tuple[str, str], ...] | None:
    if env is None:
        return None
    if not _is_of_str(env):
        raise TypeError(f"{owner}: env must be a mapping of str to str, not {env!r}")
    for name, value in env.items():
        if not name or "=" in name:
            raise ValueError(f"{owner}: env must have names without '=', and not {name!r}")
        _word(owner, "env", name)
        _word(owner, f"env[{name!r}]", value)
    return tuple(sorted(env.items()))


def _mapping(env: tuple[tuple[str, str], ...] | None) -> dict[str, str] | None:
    return None if env is None else dict(env)


def _directory(owner: str, cwd: Word | None) -> str | None:
    check_type(owner, "cwd", cwd, str | os.PathLike | None, "a path")
    if cwd is None:
        return None
    directory = _word(owner, "cwd", cwd)
    if not directory:
        raise ValueError(f"{owner}: cwd must be a path, not {cwd!r}")
    return directory


def _name_of(fn: Callable[..., object]) -> str:
    name = getattr(fn, "__qualname__", None)
    return repr(fn) if name is None else f"{fn.__module__}.{name}"


# where users import them from
for _public in (Channel, Process, ProcessFailed, RemoteFailure):
    _public.__module__ = __name__
