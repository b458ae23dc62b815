"""`Cluster`: all that is asked of Ray, in the process of the gateway."""

from __future__ import annotations

import logging
import math
import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import Any, Final, TypeAlias

from spry_py.remote import Order

from .far_actor import FarActor
from .settings import Settings

Act: TypeAlias = Callable[[], object]

LOOK_EVERY: Final = 1.0
# calls of one actor at the same time: hello, deliver, collect and leave
CALLS: Final = 8
# of a local Ray: letters are small
OBJECT_STORE: Final = 100 << 20
# how Ray spells it
RECONNECT: Final = "RAY_gcs_rpc_server_reconnect_timeout_s"
# how Ray calls what it has words of its own for
NAMES: Final = {"num_cpus": "CPU", "num_gpus": "GPU", "memory": "memory"}


@dataclass(frozen=True, slots=True)
class Machine:
    """A node of the cluster, and all that it has."""

    id: str
    address: str
    resources: Mapping[str, float]

    def has(self, resources: Mapping[str, float]) -> bool:
        """Whether it has that much, in use or not."""
        return all(self.amount(name) >= amount for name, amount in resources.items())

    def amount(self, name: str) -> float:
        """How much it has of one resource."""
        return self.resources.get(NAMES.get(name, name), 0.0)


class Cluster:
    """Does one thing after another in a thread of its own, since any may block for ever.

    That thread lives as long as the process: a local Ray dies with the thread that has started it.
    ``emit`` takes what is to be done in the thread of the gateway.
    """

    def __init__(self, settings: Settings, emit: Callable[[Act], object]) -> None:
        self._settings = settings
        self._emit = emit
        self._ray: Any = None
        self._actors: Any = None
        self._acts: queue.SimpleQueue[Act] = queue.SimpleQueue()
        # written by the thread: what it has seen last, and when
        self.machines: tuple[Machine, ...] = ()
        self.seen_at: float = -math.inf
        self.failure: Exception | None = None

    def open(self) -> None:
        """Begin to connect."""
        threading.Thread(target=self._main, name="spry_py ray", daemon=True).start()

    def close(self) -> threading.Event:
        """Begin to disconnect; the event is set when that is done."""
        is_done = threading.Event()
        self._acts.put(partial(self._disconnect, is_done))
        return is_done

    def make(self, order: Order, machine: Machine | None, then: Callable[[Any], object]) -> None:
        """Begin to make an actor; ``then`` is called with it, or with an exception."""
        self._acts.put(lambda: self._emit(partial(then, self._made(order, machine))))

    def kill(self, actor: Any) -> None:
        """Begin to kill an actor."""
        self._acts.put(partial(self._kill, actor))

    def ask(self, method: Any, args: tuple[object, ...], then: Callable[[Any], object]) -> None:
        """Call a method of an actor; ``then`` is called with a future that is done."""
        future = method.remote(*args).future()

        def done(it: Future[Any]) -> None:
            self._emit(partial(then, it))

        future.add_done_callback(done)

    # In its thread

    def _main(self) -> None:
        try:
            self._connect()
            self._look()
        except Exception as exception:
            self.failure = exception
        self._emit(bool)
        look_at = time.monotonic() + LOOK_EVERY
        while True:
            try:
                self._acts.get(timeout=max(look_at - time.monotonic(), 0.0))()
            except queue.Empty:
                look_at = time.monotonic() + LOOK_EVERY
                # that it is not there is for the gateway to notice
                with suppress(Exception):
                    self._look()

    def _connect(self) -> None:
        settings = self._settings
        os.environ.update(settings.env)
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        # later than the gateway itself finds out, which has better words for it
        patience = math.ceil(settings.reconnect) + 5
        os.environ[RECONNECT] = str(patience)
        if settings.is_loopback:
            # or else Ray takes 127.0.0.1 for another address of this machine
            os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
        ray = import_module("ray")
        options: dict[str, Any] = {"address": settings.address}
        if settings.address is None:
            options = {
                "address": "local",
                "include_dashboard": False,
                "object_store_memory": OBJECT_STORE,
                "_node_ip_address": "127.0.0.1",
            }
        # In a thread that is not the main one it leaves the handler of SIGTERM alone.
        ray.init(namespace=settings.namespace, logging_level=logging.ERROR, **options)
        self._actors = ray.remote(FarActor)
        self._ray = ray

    def _disconnect(self, is_done: threading.Event) -> None:
        if self._ray is not None:
            self._ray.shutdown()
        is_done.set()
        threading.Event().wait()

    def _look(self) -> None:
        nodes = self._ray.nodes()
        self.machines = tuple(
            Machine(node["NodeID"], node["NodeManagerAddress"], node["Resources"])
            for node in nodes
            if node["Alive"]
        )
        self.seen_at = time.monotonic()

    def _made(self, order: Order, machine: Machine | None) -> Any:
        options: dict[str, Any] = {
            "max_restarts": 0,
            "max_task_retries": 0,
            "max_concurrency": CALLS,
        }
        if machine is None:
            options |= placed_by_ray(order)
            # names are unique in a namespace
            options["name"] = f"{order.path} {order.incarnation} {order.id}"
        else:
            strategies = import_module("ray.util.scheduling_strategies")
            strategy = strategies.NodeAffinitySchedulingStrategy(machine.id, soft=False)
            options |= {"num_cpus": 0, "scheduling_strategy": strategy}
            options["name"] = f"shared on {machine.address} {order.id}"
        try:
            return self._actors.options(**options).remote(tuple(sys.path), self._settings.env)
        except Exception as exception:
            return exception

    def _kill(self, actor: Any) -> None:
        # one that cannot be killed any more is dead, or out of reach
        with suppress(Exception):
            self._ray.kill(actor)


def placed_by_ray(order: Order) -> dict[str, Any]:
    """The resources of an order, as options of an actor."""
    named = {name: amount for name, amount in order.resources.items() if name in NAMES}
    others = {name: amount for name, amount in order.resources.items() if name not in NAMES}
    return {"num_cpus": 0, **named, "resources": others, "scheduling_strategy": "SPREAD"}
