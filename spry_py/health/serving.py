"""`serve_health`: the probes as a start function, and what is needed for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from spry_py import SystemHandle

from .address import HERE, PORT, check_address
from .health import Health

if TYPE_CHECKING:
    from .server import Probes, Source


async def serve_health(
    root: SystemHandle | Health,
    host: str = HERE,
    port: int = PORT,
    *,
    task_status: trio.TaskStatus[list[trio.SocketListener]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve ``/livez``, ``/readyz`` and ``/startupz`` over HTTP until cancelled.

    Each is status 200 or 503, and a word: ``ok``, or ``degraded`` for a tree that is ready, or what
    it is not. With ``?verbose`` a line for each reason follows. GET and HEAD only; there is no
    token, since there is nothing to learn but the verdict. Give a `Health` for other limits than
    its own. The started value are the listeners, for a ``port`` of 0.

    A client has 5 seconds, and a head of 16 KiB; of more than 64 at a time the oldest is let go.
    Whatever clients and the network do, this goes on. Needs the extra ``health``: `RuntimeError`
    without it. Raises `OSError` if it cannot listen there, `TypeError` or `ValueError` for what is
    no address.
    """
    health = root if isinstance(root, Health) else Health(root)
    check_address("serve_health", host, port)
    probes = await open_probes(host, port, lambda: health, health.root.path)
    task_status.started(probes.listeners)
    await probes.serve()


async def open_probes(host: str, port: int, source: Source, path: str) -> Probes:
    """Listen there. Raises `OSError`, and `RuntimeError` without the extra ``health``."""
    try:
        # only those who serve them need h11
        from .server import Probes, listen  # noqa: PLC0415
    except ModuleNotFoundError as error:
        if error.name != "h11":
            raise
        raise RuntimeError(
            "serving health over HTTP needs a package more: pip install 'spry-py[health]'"
        ) from error
    return Probes(await listen(host, port), source, path)
