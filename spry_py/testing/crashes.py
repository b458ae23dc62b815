"""`crash`: what no test can wait for, brought about from outside."""

from __future__ import annotations

from spry_py import ChildHandle, SystemHandle


def crash(handle: SystemHandle, path: str, error: Exception) -> None:
    """Let a child fail with ``error``, from outside: its code needs no back door.

    ``path`` is that of the child as events have it, ``"app/db"``. The child is cancelled, and ends
    `Failed` with ``error`` whatever it does then, as with `spry_py.ChildHandle.fail`. Returns at
    once, before it has ended.

    Raises `ChildNotFound`, `RuntimeError` if no incarnation of it is alive, and `TypeError` for
    anything but an `Exception`.
    """
    child = child_at(handle, path)
    if child.status not in ("starting", "running", "stopping"):
        raise RuntimeError(f"{child.path!r} is {child.status}: there is nothing that could crash")
    child.fail(error)


def child_at(handle: SystemHandle, path: str) -> ChildHandle:
    """The child with that whole path. Raises `ChildNotFound`."""
    return handle.find(path.removeprefix(f"{handle.path}/"))
