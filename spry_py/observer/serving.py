"""`Observer` and `serve`: the options of an observer, checked where they are written."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final, cast

import trio

from spry_py import SystemHandle
from spry_py.lowlevel import check_count, check_type

from .rights import ACTIONS, check_token

if TYPE_CHECKING:
    from .address import Address

PACKAGES: Final = ("h11", "rich")
PIP: Final = "pip install 'spry-py[observer]'"
_HIGHEST_PORT: Final = 65_535


@dataclass(frozen=True, slots=True)
class Observer:
    """The options of `serve`, as a value: ``run(shop, observe=Observer(port=8099))``.

    - ``socket``: listen on a unix socket of the user's own, for ``spry-py ps`` and its like. Who
      may open it may do everything.
    - ``port``: listen on 127.0.0.1 as well, for a browser; 0 takes any free port. Everybody on this
      machine can connect there, so a token is wanted; it stands in the URL.
    - ``allow``: what may be done over that port: any of ``"restart"``, ``"terminate"``,
      ``"replay"``, ``"stop"``. Nothing by default.
    - ``token``: 16 to 200 letters, digits or any of ``._~-``; a new random one unless given.
    - ``history``: how many incidents are kept, and how many entries of history are shown.

    Raises `TypeError` or `ValueError`, naming the field, the value and what is allowed.
    """

    socket: bool = True
    port: int | None = None
    allow: Collection[str] = ()
    token: str | None = field(default=None, repr=False)
    history: int = 1000

    def __post_init__(self) -> None:
        check_type("Observer", "socket", self.socket, bool, "a bool")
        if self.port is not None:
            check_count("Observer", "port", self.port)
            if self.port > _HIGHEST_PORT:
                raise ValueError(f"Observer: port must be at most 65535, not {self.port}")
        if self.port is None and not self.socket:
            raise ValueError("Observer: without socket=True it needs a port to listen on")
        _check_allow(self.allow)
        if self.token is not None:
            check_token(self.token)
        check_count("Observer", "history", self.history, least=1)

    async def __call__(
        self,
        root: SystemHandle | None = None,
        *,
        task_status: trio.TaskStatus[Address] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """`serve` with these options."""
        kinds = SystemHandle | None
        check_type("serve", "root", root, kinds, "the handle of a supervisor or None")
        if find_spec("h11") is None:
            raise RuntimeError(f"the observer needs a package more: {PIP}")
        # it speaks HTTP with that package
        from .listening import observe  # noqa: PLC0415

        await observe(self, root, task_status)


def _check_allow(allow: object) -> None:
    allowed = ", ".join(map(repr, ACTIONS))
    if isinstance(allow, str) or not isinstance(allow, Collection):
        raise TypeError(f"Observer: allow must be a collection of {allowed}, not {allow!r}")
    for action in cast("Collection[object]", allow):
        if action not in ACTIONS:
            raise ValueError(f"Observer: allow may hold {allowed}, not {action!r}")


async def serve(
    root: SystemHandle | None,
    *,
    socket: bool = True,
    port: int | None = None,
    allow: Collection[str] = (),
    token: str | None = None,
    history: int = 1000,
    task_status: trio.TaskStatus[Address] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Let people look into a tree from outside, until cancelled::

        address = await nursery.start(partial(serve, handle, port=0))

    ``root`` is the handle of a root or of any other supervisor, or ``None`` for all roots of this
    process, those to come included. The options are those of `Observer`. The started value is the
    `Address` it listens on. Put it beside the tree, not into it, to see the whole of it from the
    first moment to the last.

    Raises before it has started alone: `OSError` by the path or port where there is no place for
    it, `RuntimeError` where the extra ``observer`` is not installed. Later trouble is logged, and
    never touches a tree. Cancelling it closes all connections and removes the socket. After
    Erlang's ``observer``.
    """
    observer = Observer(socket, port, allow, token, history)
    await observer(root, task_status=task_status)
