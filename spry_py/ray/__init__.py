"""Children on a `Ray <https://docs.ray.io>`_ cluster: an engine for `spry_py.remote`.

::

    async def farm(scope: Scope) -> None:
        gateway = ray_gateway("10.0.0.1:6379", namespace="farm")
        engine = await scope.start(Child("gateway", gateway, start_timeout=90, shutdown=15))
        await scope.start(Child("parse", remote(engine, parse, queue)))
        await scope.start(Child("render", remote(engine, render, host="own")))

    run(SystemSupervisor(farm, strategy="rest_for_one"))

Ray is spoken by the *gateway*, a process that is a child like any other: it may die, as it does
when the head of the cluster dies, or hang, without harm to the program, which imports no Ray. It
carries letters to and from one actor in each process on the cluster. Only the tree restarts: Ray
never does.

A child of ``host="own"`` is an actor of its own, placed by Ray with the ``resources`` of `remote`
(``num_cpus``, ``num_gpus``, ``memory`` in bytes, or names of the cluster's own). With ``"shared"``
there is one actor for each machine, which takes nothing from its resources; those of the child
decide which machines may be chosen, and the one with the fewest children is.

Needs the extra ``ray``, ``pip install 'spry-py[ray]'``, here and on all machines of the cluster, in
the same version. The gateway has to run on one of them.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Final, Literal

import trio

from spry_py import current_context
from spry_py.lowlevel import check_seconds, check_type, kept_for, out_of_group
from spry_py.processes import Process, process

from .engine import RayEngine
from .gateway import serve
from .settings import Settings

__all__ = ["RayEngine", "RayGateway", "ray_gateway"]

PATIENCE: Final = 60.0


@dataclass(frozen=True, slots=True)
class RayGateway:
    """What `ray_gateway` makes: a start function for `Child`. Frozen; equal if its fields are.

    ``patience`` is how long (seconds) a child waits for a machine on which it fits.
    """

    child_kind: ClassVar[Literal["process"]] = "process"

    address: str | None
    namespace: str
    reconnect: float = 5.0
    env: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    patience: float = PATIENCE

    async def __call__(
        self, *, task_status: trio.TaskStatus[RayEngine] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Run it until it is stopped. Raises `ConnectionError`, or `ProcessFailed` if it dies.

        Cancelling it kills the process at once. The cluster ends its actors then.
        """
        settings = Settings(self.address, self.namespace, self.reconnect, self.env, self.patience)
        engine = _engine_of(settings)
        try:
            async with trio.open_nursery() as nursery:
                gateway: Process[None] = await nursery.start(process(serve, settings, channel=True))
                nursery.start_soon(engine.attend, gateway, task_status)
        except BaseExceptionGroup as group:
            error = out_of_group(group)
            if error is group:
                raise
            raise error from None


def _engine_of(settings: Settings) -> RayEngine:
    """The one that earlier incarnations of this child had, unless it is of another cluster."""
    place = kept_for(current_context())
    former = place.thing
    if isinstance(former, RayEngine) and (former.settings == settings or former.is_attended):
        # two gateways in one child have two
        return RayEngine(settings) if former.is_attended else former
    engine = place.thing = RayEngine(settings)
    if former is not None:
        former.forgotten(with_tree=False)
    return engine


def ray_gateway(
    address: str | None = None,
    *,
    namespace: str,
    reconnect: float = 5.0,
    env: Mapping[str, str] | None = None,
) -> RayGateway:
    """A start function whose started value is an engine for `remote`: see `spry_py.ray`.

    ``address`` is that of the cluster's head, as ``"10.0.0.1:6379"``. Without one a local Ray is
    started, for trying out, which is reached from this machine alone and ends with the gateway.
    The actors are in the ``namespace``, with names made of their children's paths.

    A head that is not heard of for ``reconnect`` seconds is given up: the gateway fails with
    `ConnectionError`, and is started anew by its supervisor's policy. It heartbeats twice a
    second. When it is gone, its children are lost when their leases have run out; under
    ``rest_for_one`` all of them are brought back with the next one. The engine is the same for all
    its incarnations: what starts in between waits for the next one, for a minute. A start takes
    seconds, and one without a head up to a minute: give it a ``start_timeout``. Disconnecting takes
    a second or two.

    ``env`` holds variables that are set in addition, in the gateway and for the code on the
    cluster. Modules are looked for there where they are here as well, after all other places.

    A child that fits on no machine is lost after a minute, with a text that names what is missing.

    Raises `RuntimeError` without the extra, and `TypeError` or `ValueError` naming the argument.
    """
    _check_address(address)
    check_type("ray_gateway", "namespace", namespace, str, "a str")
    if not namespace:
        raise ValueError("ray_gateway: namespace must not be empty")
    check_seconds("ray_gateway", "reconnect", reconnect, zero=False)
    if reconnect == math.inf:
        raise ValueError("ray_gateway: reconnect must be finite")
    items = _items(env)
    if importlib.util.find_spec("ray") is None:
        raise RuntimeError("ray_gateway needs a package more: pip install 'spry-py[ray]'")
    return RayGateway(address, namespace, float(reconnect), items)


def _check_address(address: object) -> None:
    check_type("ray_gateway", "address", address, str | None, "a str or None")
    if address is None:
        return
    host, colon, port = str(address).rpartition(":")
    if not (host and colon and port.isdecimal()) or "/" in host:
        raise ValueError(
            "ray_gateway: address must be host and port of the cluster's head, as "
            f"'10.0.0.1:6379', not {address!r}"
        )


def _items(env: Mapping[str, str] | None) -> tuple[tuple[str, str], ...]:
    check_type("ray_gateway", "env", env, Mapping | None, "a mapping of str to str")
    items = tuple(sorted((env or {}).items()))
    for name, value in items:
        for text in (name, value):
            check_type("ray_gateway", "env", text, str, "a mapping of str to str")
    return items


# where users import them from
for _public in (RayEngine, RayGateway):
    _public.__module__ = __name__
del _public
