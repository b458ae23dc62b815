"""The other side of a Python function in a process of its own.

It is imported there by its file name, without the package, so that nothing has to be imported but
what the function needs.
"""

from __future__ import annotations

import inspect
import io
import os
import pickle
import runpy
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable
from contextlib import ExitStack, suppress
from importlib.machinery import PathFinder
from importlib.util import module_from_spec
from types import ModuleType, TracebackType
from typing import Any

MAIN = "__mp_main__"
HEAD = 8
AT_ONCE = 1 << 16
IMPORTING = "SPRY_PY_IMPORTING_MAIN"


class Control:
    """What parent and process write about the work: pickles, each after its length."""

    def __init__(self, sock: socket.socket) -> None:
        sock.set_inheritable(False)
        self._sock = sock
        self._lock = threading.Lock()

    def receive(self) -> Any:
        """The next message; raises `EOFError` if there is none."""
        length = int.from_bytes(self._read(HEAD), "big")
        return pickle.loads(self._read(length))

    def _read(self, length: int) -> bytes:
        data = bytearray()
        while len(data) < length:
            # no buffered reader: its lock, held by a thread, would break the end of the program
            piece = self._sock.recv(min(length - len(data), AT_ONCE))
            if not piece:
                raise EOFError
            data += piece
        return bytes(data)

    def send(self, kind: str, value: bytes = b"") -> None:
        """Send a message; the value is a pickle of its own, for the parent to judge."""
        message = pickle.dumps((kind, value))
        with self._lock:
            self._sock.sendall(len(message).to_bytes(HEAD, "big") + message)


class Status:
    """What the function is given as ``task_status``."""

    def __init__(self, control: Control) -> None:
        self._control = control

    def started(self, value: object = None) -> None:
        self._control.send("started", pickle.dumps(value))

    def heartbeat(self) -> None:
        self._control.send("heartbeat")


def run(control: Control) -> None:
    """Do what the parent has ordered, and send how it ended."""
    order = control.receive()
    threading.Thread(target=die_with_parent, args=(control,), daemon=True).start()
    signal.signal(signal.SIGTERM, leave)
    try:
        control.send("returned", pickled(call(control, order)))
    except Exception as exception:
        control.send("raised", packed(exception))
        # the parent knows it now: it need not be printed on stderr as well
        sys.exit(1)


def call(control: Control, order: dict[str, Any]) -> Any:
    prepare(order)
    fn, args = pickle.loads(order["work"])
    with ExitStack() as closing:
        given: dict[str, Any] = {}
        if order["channel"] is not None:
            given["channel"] = channel_of(order["channel"])
            closing.callback(given["channel"].close)
        if takes_status(fn):
            given["task_status"] = Status(control)
        else:
            control.send("started", pickle.dumps(None))
        return fn(*args, **given)


def channel_of(fd: int) -> Any:
    """The end of the channel that has been inherited."""
    spec = PathFinder.find_spec("spry_py.processes.channel", [os.path.dirname(__file__)])
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Channel(socket.socket(fileno=fd))


def prepare(order: dict[str, Any]) -> None:
    """Make this process look like the parent, as far as importing goes."""
    sys.path[:] = order["path"]
    sys.argv[:] = order["argv"]
    out: object = sys.stdout
    if isinstance(out, io.TextIOWrapper):
        # the parent reads lines
        out.reconfigure(line_buffering=True)
    if order["carrier"]:
        # what a propagator cannot read is no reason not to do the work
        with suppress(Exception):
            attach(order["carrier"])
    if order["main"] is not None:
        import_main(*order["main"])


def attach(carrier: dict[str, str]) -> None:
    """The function goes on in the trace in which its child was started."""
    from opentelemetry import context, propagate  # noqa: PLC0415 - slow, and not always wanted

    context.attach(propagate.extract(carrier))


def import_main(kind: str, where: str) -> None:
    """Import the parent's main program, without what it does only as such.

    Under the name that `multiprocessing` has made known for this.
    """
    module = ModuleType(MAIN)
    run_it = runpy.run_module if kind == "module" else runpy.run_path
    os.environ[IMPORTING] = "1"
    try:
        module.__dict__.update(run_it(where, run_name=MAIN))
    finally:
        del os.environ[IMPORTING]
    sys.modules["__main__"] = sys.modules[MAIN] = module


def takes_status(fn: Any) -> bool:
    try:
        return "task_status" in inspect.signature(fn).parameters
    except (TypeError, ValueError):
        return False


def pickled(value: object) -> bytes:
    try:
        return pickle.dumps(value)
    except Exception as exception:
        raise TypeError(
            f"the value {value!r:.200} cannot be sent to the parent process"
        ) from exception


def packed(exception: Exception) -> bytes:
    """The exception, if it survives the way, and its traceback as text in any case."""
    name = type.__dict__["__name__"].__get__(type(exception))
    message = in_words(lambda: str(exception), f"<{name} str() failed>")
    text = in_words(
        lambda: "".join(traceback.format_exception(type(exception), exception, foreign(exception))),
        f"{name}: {message}",
    )
    try:
        whole = pickle.dumps(exception)
        pickle.loads(whole)
    except Exception:
        whole = b""
    return pickle.dumps((whole, name, message, text))


def in_words(make: Callable[[], str], otherwise: str) -> str:
    """What ``make`` returns; it calls methods of an exception, which may fail."""
    try:
        return make()
    except Exception:
        return otherwise


def foreign(exception: Exception) -> TracebackType | None:
    """Its traceback from where this file is left."""
    place = exception.__traceback__
    while place is not None and place.tb_frame.f_code.co_filename == __file__:
        place = place.tb_next
    return place


def leave(number: int, frame: object) -> None:
    """SIGTERM: as Ctrl-C would, leave by way of every `finally`."""
    raise SystemExit(128 + number)


def die_with_parent(control: Control) -> None:
    """Wait for the end of the parent, which sends nothing more."""
    try:
        control.receive()
    except (EOFError, OSError):
        os.killpg(0, signal.SIGKILL)


def main() -> None:
    """Talk to the parent over the socket whose number is the last argument."""
    run(Control(socket.socket(fileno=int(sys.argv[-1]))))
