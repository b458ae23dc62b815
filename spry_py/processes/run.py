"""One process as a child: born, asked to finish, killed if need be, and never left behind."""

from __future__ import annotations

import errno
import logging
import os
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from signal import SIGTERM
from typing import Any, Final, Generic, Protocol, TypeVar, cast

import trio
from trio.lowlevel import enable_ki_protection

from spry_py import Context, current_context
from spry_py.lowlevel import add_stack, carrier

from .birth import Birth
from .failed import UNKNOWN, ProcessFailed
from .output import Drain, Lines, Teller, nothing
from .post import Post

T_co = TypeVar("T_co", covariant=True)

LAST_LINES: Final = 20
TRACE_VARIABLES: Final = ("TRACEPARENT", "TRACESTATE", "BAGGAGE")
# what a service manager wants from this very process, and from none that it starts
MANAGER_VARIABLES: Final = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")


@dataclass(frozen=True, slots=True)
class Process(Generic[T_co]):
    """The started value of a child that is a process.

    ``value`` is the match of the `line` that made it ready; of a Python function, what it called
    ``task_status.started`` with.
    """

    pid: int
    argv: tuple[str, ...]
    value: T_co = cast(Any, None)  # noqa: RUF009
    _post: Post | None = field(default=None, repr=False, compare=False)

    async def send(self, message: object) -> None:
        """Send a message to a function that has a channel, as soon as there is room for one.

        At most 64 messages, or somewhat more than 1 MiB, are on their way; it waits until the
        function receives. Those of several tasks leave in the order in which they called. A
        cancelled one has sent nothing; once it has returned, the message arrives, unless the
        process dies.

        Raises `TypeError` if it cannot be pickled, `ValueError` if it is larger than 64 MiB then,
        `trio.BrokenResourceError` if the process has ended, `trio.ClosedResourceError` after
        `close`, and `RuntimeError` if there is no channel.
        """
        await self._channel().send(message)

    async def receive(self) -> Any:
        """Wait for the next message of the function, and return it. Cancelled, it takes none.

        Raises `trio.EndOfChannel` when the function has ended, or has closed its end, and all that
        it had sent has been received.
        """
        return await self._channel().receive()

    async def __aiter__(self) -> AsyncIterator[Any]:
        """The messages of the function, until it has ended or closed its end."""
        channel = self._channel()
        while True:
            try:
                message = await channel.receive()
            except trio.EndOfChannel:
                return
            yield message

    def close(self) -> None:
        """Send no more: the function receives what is left, and then the end."""
        self._channel().close()

    @property
    def unreceived(self) -> range:
        """The numbers of the messages that were sent, and not received by the function (yet).

        The first message has the number 1. When the process has ended, these are lost; a WARNING
        shows so.
        """
        return self._channel().unreceived

    def _channel(self) -> Post:
        if self._post is None:
            raise RuntimeError(
                f"process {self.argv[0]!r} (pid {self.pid}) has no channel: write "
                "process(fn, ..., channel=True)"
            )
        return self._post


class Ready(Protocol):
    """A way of finding out that a process is ready."""

    async def prepare(self, run: Run) -> None:
        """Arrange, before its birth, that ``run.ready(value)`` is called."""
        ...


@dataclass(frozen=True, slots=True)
class AtOnce:
    """A process is ready as soon as its program runs."""

    async def prepare(self, run: Run) -> None:
        run.on_executed = run.ready


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run, and how."""

    argv: tuple[str, ...]
    name: tuple[str, ...]
    env: Mapping[str, str] | None
    cwd: str | None
    stdin: bytes | None
    ready: Ready
    stop_signal: int = SIGTERM
    stop_group: bool = False

    def is_asked_for(self, code: int) -> bool:
        """Whether a process that was asked to finish has done so.

        The last is the status of a shell, and of a program that handles the signal itself.
        """
        return code in (0, -self.stop_signal, 128 + self.stop_signal)


class Run:
    """One incarnation of a process.

    Whatever reads or waits does so in a task of its own and only notes what has happened; `live`
    alone decides. ``failure`` is what it ends with, however it exits.
    """

    def __init__(self, plan: Plan) -> None:
        self.context: Context = current_context()
        self.failure: Exception | None = None
        self.argv: list[str] = list(plan.argv)
        self.variables: dict[str, str] = {}
        self.pass_fds: list[int] = []
        # of this program, to be closed as soon as the process has them
        self.given_away: list[int] = []
        self.tasks: list[Callable[[], Awaitable[object]]] = []
        self.on_line: Callable[[str], object] = id
        self.on_executed: Callable[[], object] = bool
        self.closing: ExitStack = ExitStack()
        # set before the birth, if there is to be a channel
        self.post: Post | None = None
        self.name: str = plan.name[0]
        self._plan: Plan = plan
        self.carrier: dict[str, str] = carrier(self.context)
        self._tell: Teller = Teller(self.context, self.carrier)
        self._drains: list[Drain] = []
        self._stderr: deque[str] = deque(maxlen=LAST_LINES)
        self._errno: bytes = b""
        self._is_ready: bool = False
        # the program itself runs, or never will
        self._executed: trio.Event = trio.Event()
        self._was_asked: bool = False
        self._value: object = None
        # ready, over or failed; and the latter two
        self._news: trio.Event = trio.Event()
        self._over: trio.Event = trio.Event()

    # What happens to it

    def ready(self, value: object = None) -> None:
        """It is ready; only the first time counts."""
        if not self._is_ready:
            self._is_ready, self._value = True, value
            self.on_line = id
            self._news.set()

    def give_up(self, failure: Exception) -> None:
        """It has failed; only the first cause counts."""
        if self.failure is None:
            self.failure = failure
        self._end()

    def _end(self) -> None:
        self._news.set()
        self._over.set()

    def log(self, text: str, level: int = logging.INFO) -> None:
        """Log something about it."""
        self._tell(text, self._birth.pid, level=level)

    # Its life

    @enable_ki_protection
    async def live(self, task_status: trio.TaskStatus[Process[Any]]) -> int:
        """Run it to its end, and return its exit status; raise if that is no good one."""
        # before its birth: from then on it may be asked to finish
        asked = self.context.cancel_on_settle()
        with self.closing:
            await self._plan.ready.prepare(self)
            self._give_birth()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._guard, partial(self._ask, asked))
                for task in (self._watch, *(drain.pump for drain in self._drains), *self.tasks):
                    nursery.start_soon(self._guard, task)
                await self._attend(nursery, task_status)
        return self._verdict()

    @enable_ki_protection
    async def _guard(self, task: Callable[[], Awaitable[object]]) -> None:
        try:
            await task()
        except Exception as exception:
            self.give_up(exception)

    async def _attend(
        self, nursery: trio.Nursery, task_status: trio.TaskStatus[Process[Any]]
    ) -> None:
        try:
            await self._news.wait()
            if self._is_ready:
                task_status.started(
                    Process(self._birth.pid, self._plan.name, self._value, self.post)
                )
            await self._over.wait()
        except Exception as exception:
            self.give_up(exception)
        finally:
            # first, since only one may wait for the end
            nursery.cancel_scope.cancel()
            with trio.CancelScope(shield=True):
                await self._birth.end()
                await self._rest()
            self._note_unreceived()

    async def _ask(self, asked: trio.CancelScope) -> None:
        with asked:
            await trio.sleep_forever()
        self._was_asked = True
        # before that the signal may be ignored, as in this program
        await self._executed.wait()
        self._birth.ask(self._plan.stop_signal, group=self._plan.stop_group)

    async def _watch(self) -> None:
        await self._birth.exited()
        if self._was_asked and self._plan.stop_group:
            await self._birth.group_ended()
        # what it leaves behind would only write on, and hold what its successor needs
        self._birth.kill_group()
        await self._rest()
        self._end()

    async def _rest(self) -> None:
        for drain in self._drains:
            await self._guard(drain.rest)

    def _note_unreceived(self) -> None:
        lost = self.post.unreceived if self.post is not None else ()
        if lost:
            which = f"messages {lost[0]} to {lost[-1]}" if len(lost) > 1 else f"message {lost[0]}"
            self.log(f"ended without receiving {which}", logging.WARNING)

    def _verdict(self) -> int:
        code = self._birth.returncode
        try:
            if self.failure is not None:
                raise self.failure
            if code is None:
                self.log(f"ended with {UNKNOWN}", logging.WARNING)
                raise self.failed()
            if self._was_asked and self._plan.is_asked_for(code):
                return code
            if code != 0:
                raise self.failed()
            if not self._is_ready:
                raise self.failed("before it was ready")
            return code
        finally:
            self.failure = None

    def failed(self, why: str = "") -> ProcessFailed:
        """The error of its failure. Only after its end."""
        pid, code = self._birth.pid, self._birth.returncode
        return ProcessFailed(self._plan.name, pid, code, tuple(self._stderr), why)

    # Its birth

    def add_drain(
        self, fd: int, feed: Callable[[bytes], object], hand_on: Callable[[float], float] = nothing
    ) -> None:
        """Have something read during its life, and closed after it."""
        drain = Drain(fd, feed, hand_on)
        self.closing.callback(drain.close)
        self._drains.append(drain)

    def _pipe(
        self, feed: Callable[[bytes], object], hand_on: Callable[[float], float] = nothing
    ) -> int:
        reading, writing = os.pipe()
        self.given_away.append(writing)
        self.add_drain(reading, feed, hand_on)
        return writing

    def _output(self, stream: str) -> int:
        lines = Lines(partial(self._on_line, stream), self._look, partial(self._on_lost, stream))
        return self._pipe(lines.feed, lines.hand_on)

    def _give_birth(self) -> None:
        with named(self.name), ExitStack() as parting:
            parting.callback(self._close_given_away)
            stdin: Any = subprocess.DEVNULL
            if self._plan.stdin is not None:
                # a file, not a pipe: no task has to stand by until it has been read
                stdin = parting.enter_context(tempfile.TemporaryFile())
                stdin.write(self._plan.stdin)
                stdin.seek(0)
            self._birth = Birth(
                self.argv,
                report=self._pipe(self._on_report),
                pass_fds=self.pass_fds,
                env=self._environment(),
                cwd=self._plan.cwd,
                stdin=stdin,
                stdout=self._output("stdout"),
                stderr=self._output("stderr"),
            )
        self.closing.callback(add_stack(self._where, self.context))

    def _close_given_away(self) -> None:
        for fd in self.given_away:
            os.close(fd)

    def _environment(self) -> dict[str, str]:
        env = dict(self._plan.env if self._plan.env is not None else _inherited())
        if self.carrier:
            for name in TRACE_VARIABLES:
                env.pop(name, None)
        env |= {name.upper(): value for name, value in self.carrier.items()}
        return env | self.variables

    def _where(self) -> str:
        return f"  process {self.name!r} (pid {self._birth.pid}) has not ended\n"

    # What it writes

    def _on_report(self, data: bytes) -> None:
        """From between fork and exec: why it came to nothing, or an end without a word."""
        self._errno += data
        if data:
            return
        self._executed.set()
        if self._errno:
            number = int(self._errno)
            name = self._plan.argv[0]
            self.give_up(OSError(number, f"{os.strerror(number)}: cannot run this program", name))
        else:
            self.on_executed()

    def _on_line(self, stream: str, line: str) -> None:
        if stream == "stderr":
            self._stderr.append(line)
        self._tell(line, self._birth.pid, stream)

    def _look(self, text: str) -> None:
        self.on_line(text)

    def _on_lost(self, stream: str, count: int) -> None:
        lines = "line" if count == 1 else "lines"
        self.log(
            f"{count} {lines} dropped, since it writes to {stream} faster than can be logged",
            logging.WARNING,
        )


def _inherited() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in MANAGER_VARIABLES}


@contextmanager
def named(program: str) -> Generator[None, None, None]:
    """What the system refuses without a name, or in that of the launcher, concerns a program."""
    try:
        yield
    except OSError as error:
        if error.filename in (None, sys.executable) and error.errno != errno.ENOENT:
            why = f"{error.strerror}: cannot run this program"
            raise OSError(error.errno, why, program) from error
        raise


def in_use(host: str, number: int) -> OSError:
    """The error of a start where another program listens already."""
    why = f"{host} port {number} is in use already, by something else than this child"
    return OSError(errno.EADDRINUSE, why)
