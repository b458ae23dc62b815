"""Which trees are looked at, and what their paths are called here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias
from weakref import WeakKeyDictionary

import trio

from spry_py import ChildHandle, ChildNotFound, SystemHandle
from spry_py.lowlevel import clock_of, token_of

Roots: TypeAlias = Callable[[], tuple[SystemHandle, ...]]


class Trees:
    """The roots that are looked at, each under a name that no other one has."""

    def __init__(self, roots: Roots) -> None:
        self._roots = roots
        # two trees of a process may have the same name
        self._names: dict[SystemHandle, str] = {}
        # how far the clock here is ahead of that of each other run of trio, seconds
        self._ahead: WeakKeyDictionary[trio.lowlevel.TrioToken, float] = WeakKeyDictionary()

    def __iter__(self) -> Iterator[tuple[str, SystemHandle]]:
        """The present roots with their names, in the order in which they began."""
        present = self._roots()
        for gone in self._names.keys() - set(present):
            del self._names[gone]
        for root in present:
            yield self.name_of(root), root

    def name_of(self, root: SystemHandle) -> str:
        """What a root is called here: its own name, unless another one has it."""
        name = self._names.get(root)
        if name is None:
            taken, name, number = set(self._names.values()), root.key, 2
            while name in taken:
                name, number = f"{root.key}#{number}", number + 1
            self._names[root] = name
        return name

    def ahead_of(self, handle: SystemHandle | ChildHandle) -> float:
        """How far the clock here is ahead of that of a tree: the same each time."""
        token = token_of(handle)
        if token is trio.lowlevel.current_trio_token():
            return 0.0
        ahead = self._ahead.get(token)
        if ahead is None:
            ahead = self._ahead[token] = trio.current_time() - clock_of(handle).current_time()
        return ahead

    def find(self, path: str) -> SystemHandle | ChildHandle:
        """The handle of a path. Raises `ChildNotFound`."""
        name, _, rest = path.partition("/")
        for known, root in self:
            if known == name:
                return root.find(rest) if rest else root
        known = ", ".join(name for name, _ in self)
        raise ChildNotFound(f"there is no tree {name!r} here; there is {known or 'none'}")

    def host_of(self, name: str) -> str | None:
        """The path of the child in whose code a root was opened, if that is seen here."""
        present = dict(self)
        host = present[name].host if name in present else None
        if host is None:
            return None
        for known, root in present.items():
            rest = _below(root, host.path)
            if rest is not None and _is_at(root, rest, host):
                return known + rest
        return None

    def system(self, path: str) -> SystemHandle:
        """The handle of a supervisor. Raises `ChildNotFound`."""
        found = self.find(path)
        system = found.as_system if isinstance(found, ChildHandle) else found
        if system is None:
            raise ChildNotFound(f"{path!r} is no supervisor, but a {found.kind}")
        return system

    def only(self) -> str:
        """The name of the one tree there is. Raises `ChildNotFound` if there are more, or none."""
        names = [name for name, _ in self]
        if len(names) == 1:
            return names[0]
        raise ChildNotFound(f"name a tree: path is one of {', '.join(names) or 'none'}")


def _below(root: SystemHandle, path: str) -> str | None:
    """What stands behind the path of a root in another one, if that is at or below it."""
    rest = path.removeprefix(root.path)
    return rest if len(rest) < len(path) and rest[:1] in ("", "/") else None


def _is_at(root: SystemHandle, rest: str, host: ChildHandle) -> bool:
    """Whether that is the way to this child: another tree may have the same names."""
    try:
        return host == root.find(rest[1:]) if rest else host.as_system == root
    except ChildNotFound:
        return False
