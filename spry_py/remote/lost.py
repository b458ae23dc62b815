"""The error of a child that is out of reach."""

from __future__ import annotations

from spry_py import SpryError


class RemoteLost(SpryError):
    """The machine, the worker or the gateway of a remote child is gone.

    ``path`` is the child's and ``why`` what is known. It is raised when the code is known to be
    dead, or when its lease has surely run out; until then it may have gone on.
    """

    def __init__(self, path: str, why: str) -> None:
        super().__init__(path, why)
        self.path: str = path
        self.why: str = why

    def __str__(self) -> str:
        return f"remote child {self.path!r} is lost: {self.why}"
