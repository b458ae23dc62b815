"""A program as a service: what its surroundings hear of its tree, and may ask of it.

The health of a tree, over HTTP and to systemd, is an extension; this is the one place of the house
that knows of it, and only where a program is run as a service.
"""

from __future__ import annotations

import logging
import math
import os
import signal
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, NoReturn, TypeVar

import trio

from spry_py._handles.supervisors import SystemSupervisor
from spry_py._handles.system import SystemHandle
from spry_py._spec.check import check_seconds
from spry_py._spec.errors import Interrupted, SupervisorStopped, root_cause_of, summary_of
from spry_py._telemetry.logs import write
from spry_py._telemetry.tracebacks import traceback_of

if TYPE_CHECKING:
    from spry_py.health.health import Health
    from spry_py.health.systemd import Notifier

T = TypeVar("T")


class Service:
    """What a program has beside its tree, from before the boot to the very end.

    Whatever goes wrong with it once it is there touches nothing in the tree.
    """

    def __init__(
        self,
        supervisor: object,
        health: int | str | None = None,
        drain: float = 0.0,
        reload: bool = False,
    ) -> None:
        check_seconds("run", "drain", drain)
        self.drain = drain
        self.reload = _checked(supervisor, reload)
        self._address = None if health is None else _address_of(health)
        self._has_manager = bool(os.environ.get("NOTIFY_SOCKET"))
        # the probes have their place, or there are none: what is raised from now on is the tree's
        self.is_open = False
        self._health: Health | None = None
        self._notifier: Notifier | None = None
        self._wants_reload = trio.Event()

    async def around(self, name: str, body: Callable[[], Awaitable[T]]) -> T:
        """What ``body`` returns or raises. Raises before it if the probes have no place."""
        self._name = name
        if not (self._address or self._has_manager or self.reload):
            self.is_open = True
            return await body()
        # neither a failure in here nor that of the body may come out in a group
        outcome: list[Callable[[], T]] = []
        async with trio.open_nursery() as self._nursery:
            try:
                await self._open()
                result = await body()
            except BaseException as error:
                outcome.append(partial(_raise, error))
            else:
                outcome.append(lambda: result)
            if self._notifier is not None:
                self._guard(self._notifier.close)
            self._nursery.cancel_scope.cancel()
        return outcome.pop()()

    async def _open(self) -> None:
        if self._address is not None:
            from spry_py.health.serving import open_probes  # noqa: PLC0415

            host, port = self._address
            probes = await open_probes(host, port, lambda: self._health, self._name)
            for listener in probes.listeners:
                where = _url_of(listener.socket.getsockname())
                write(self._name, logging.INFO, f"serves its health at {where}", {})
            self._nursery.start_soon(self._alone, probes.serve)
        self.is_open = True

    def on_tree(self, root: SystemHandle) -> None:
        """There is a tree, and it is about to boot."""
        if self._address is not None or self._has_manager:
            from spry_py.health.health import Health  # noqa: PLC0415
            from spry_py.health.systemd import notifier_of  # noqa: PLC0415

            self._health = Health(root)
            self._notifier = notifier_of(self._health)
            if self._notifier is not None:
                self._nursery.start_soon(self._alone, self._notifier.run)
        if self.reload:
            self._nursery.start_soon(self._alone, partial(self._reload, root))

    # What signals want

    def leaves(self, until: float) -> None:
        """The tree goes on, but is to be left alone: it stops at ``until``."""
        write(self._name, logging.INFO, f"stops in {self.drain:g} s, or at the next signal", {})
        if self._health is not None:
            self._health.leave()
        if self._notifier is not None:
            self._notifier.leave(until)

    def stops(self) -> None:
        """The tree has been asked to stop."""
        if self._notifier is not None:
            self._notifier.leave(-math.inf)

    def ask_reload(self) -> None:
        """The configuration has changed; while a reload is under way this means one more."""
        self._wants_reload.set()

    async def _reload(self, root: SystemHandle) -> None:
        await root.wait_started()
        while True:
            await self._wants_reload.wait()
            self._wants_reload = trio.Event()
            if self._notifier is not None:
                self._notifier.reloading()
            try:
                await root.replay()
            except (SupervisorStopped, Interrupted):
                return
            except Exception as error:
                cause = root_cause_of(error)
                self._complain("was not reloaded", error if cause is None else cause)
            else:
                write(self._name, logging.INFO, f"{self._name} was reloaded", {})
            if self._notifier is not None:
                self._notifier.reloaded()

    # Trouble

    async def _alone(self, function: Callable[[], Awaitable[object]]) -> None:
        """Run it beside the tree, which must not hear of its failure."""
        try:
            await function()
        except SupervisorStopped:
            pass  # there was never anything to report
        except Exception as error:
            self._complain("goes on without what has failed beside it", error)

    def _guard(self, function: Callable[[], object]) -> None:
        try:
            function()
        except Exception as error:
            self._complain("ends without what has failed beside it", error)

    def _complain(self, text: str, error: BaseException) -> None:
        said = f"{self._name} {text}: {summary_of(error)}\n{traceback_of(error).rstrip()}"
        write(self._name, logging.ERROR, said, {})


def _checked(supervisor: object, reload: object) -> bool:
    """Accept the wish to be reloaded, of what can be, where it can reach us."""
    if not isinstance(reload, bool):
        raise TypeError(f"run: reload must be a bool, not {reload!r}")
    if reload and not isinstance(supervisor, SystemSupervisor):
        raise TypeError(
            f"run: reload runs the system function again, and {supervisor!r} has none; write a "
            "SystemSupervisor above it"
        )
    if reload and not hasattr(signal, "SIGHUP"):
        raise ValueError("run: reload is asked for by SIGHUP, which this system does not have")
    return reload


def _address_of(health: object) -> tuple[str, int]:
    from spry_py.health.address import address_of  # noqa: PLC0415

    return address_of("run: health", health)


def _url_of(address: tuple[object, ...]) -> str:
    host, port = address[:2]
    return f"http://[{host}]:{port}" if ":" in str(host) else f"http://{host}:{port}"


def _raise(error: BaseException) -> NoReturn:
    raise error
