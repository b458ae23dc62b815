"""Sending a Python function to a process of its own, and hearing from it."""

from __future__ import annotations

import os
import pickle
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, Final

from spry_py.processes import call as _processes_call

from .call import HEAD, IMPORTING, MAIN
from .failed import RemoteFailure
from .post import Post, write_all
from .run import Run, named

NAME: Final = _processes_call.__name__
# what the other side begins with; its directory may be one in a zip file
BEGIN: Final = f"""\
import importlib.machinery, importlib.util, sys
spec = importlib.machinery.PathFinder.find_spec({NAME!r}, sys.argv[1:2])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
module.main()
"""
WHERE: Final = os.path.dirname(os.path.abspath(_processes_call.__file__))
# -P, since what is imported is looked for where this program looks
PROGRAM: Final = (sys.executable, "-P", "-c", BEGIN, WHERE)


class Messages:
    """Bytes into messages: pickles, each after its length."""

    def __init__(self, hear: Callable[[str, bytes], object]) -> None:
        self._hear = hear
        self._begun = bytearray()

    def feed(self, data: bytes) -> None:
        self._begun += data
        while len(self._begun) >= HEAD:
            end = HEAD + int.from_bytes(self._begun[:HEAD], "big")
            if len(self._begun) < end:
                break
            kind, value = pickle.loads(self._begun[HEAD:end])
            del self._begun[:end]
            self._hear(kind, value)


class Order:
    """A function and its arguments, for one run.

    Ready when it calls ``task_status.started``, or, if it does not take that, when it is called.

    ``returned`` is the pickle of what it has returned.
    """

    def __init__(
        self, fn: Callable[..., object], args: tuple[Any, ...], *, has_channel: bool = False
    ) -> None:
        self._fn = fn
        self._args = args
        self._has_channel = has_channel
        self.returned: bytes | None = None

    async def prepare(self, run: Run) -> None:
        if IMPORTING in os.environ:
            raise RuntimeError(
                "a Python function cannot be started in a process of its own while such a process "
                "imports the main program: put what starts the tree below "
                '`if __name__ == "__main__":`'
            )
        channel = open_channel(run) if self._has_channel else None
        message = self._message(run.carrier, channel)
        theirs, ours = inherited(run, Messages(partial(self._heard, run)).feed)
        run.argv.append(str(theirs))
        run.tasks.append(partial(write_all, ours, message))

    def _message(self, carrier: dict[str, str], channel: int | None) -> bytes:
        work = pickle.dumps((self._fn, self._args))
        main = main_program() if b"__main__" in work else None
        if main is not None:
            # what comes back may be of a class defined there
            sys.modules.setdefault(MAIN, sys.modules["__main__"])
        order = {
            "work": work,
            "main": main,
            "path": [absolute(entry) for entry in sys.path],
            "argv": sys.argv,
            "carrier": carrier,
            "channel": channel,
        }
        message = pickle.dumps(order)
        return len(message).to_bytes(HEAD, "big") + message

    def _heard(self, run: Run, kind: str, value: bytes) -> None:
        if kind == "started":
            run.ready(pickle.loads(value))
        elif kind == "heartbeat":
            run.context.heartbeat()
        elif kind == "returned":
            self.returned = value
        elif run.failure is None:
            run.failure = failure_of(value)


def inherited(run: Run, feed: Callable[[bytes], object]) -> tuple[int, int]:
    """A pair of sockets: the number of theirs, and of ours, which is read into ``feed``."""
    with named(run.name):
        ours, theirs = socket.socketpair()
    number = theirs.fileno()
    run.pass_fds.append(number)
    run.given_away.append(theirs.detach())
    fd = ours.detach()
    run.add_drain(fd, feed)
    return number, fd


def open_channel(run: Run) -> int:
    """Give the run a channel, and return the number of the socket at its other end."""
    run.post = post = Post(run.context.path)
    number, fd = inherited(run, post.feed)
    run.tasks.append(partial(post.write, fd))
    return number


def failure_of(value: bytes) -> Exception:
    """The exception that the function has raised, with the traceback that it had there."""
    whole, kind, message, text = pickle.loads(value)
    try:
        exception: Exception = pickle.loads(whole)
    except Exception:
        exception = RemoteFailure(f"{kind}: {message}")
    with suppress(Exception):  # it may refuse attributes
        exception.add_note(f"in the process:\n{text.rstrip()}")
    return exception


def main_program() -> tuple[str, str] | None:
    """How another process finds what runs as ``__main__`` here."""
    main = sys.modules["__main__"]
    file = getattr(main, "__file__", None)
    spec = getattr(main, "__spec__", None)
    if spec is None:
        return ("path", os.path.abspath(file)) if file is not None else None
    if spec.name == "__main__":
        # a directory, or a zip file
        return "path", os.path.dirname(os.path.abspath(spec.origin))
    return "module", spec.name


def absolute(entry: str) -> str:
    """Where modules are looked for, whatever directory the process runs in."""
    is_here = not entry or os.path.exists(entry)
    return os.path.abspath(entry) if is_here else entry
