"""What is kept for the paths of a tree, over all incarnations of what stands there.

Extensions keep things, and supervisors what has been counted of the children that they declare.

It is let go of when the key is forgotten: no incarnation can come any more that would go on with
it. What is not kept costs nothing.
"""

from __future__ import annotations

from collections.abc import Container
from typing import Protocol


class Keepsake(Protocol):
    """What is kept for one path."""

    def forgotten(self, *, with_tree: bool) -> None:
        """No child comes any more that could go on with it; perhaps the whole tree has ended.

        Must not raise.
        """


class Kept:
    """A place to keep something for one path, and the places below it."""

    __slots__ = ("below", "numbers", "thing")

    def __init__(self) -> None:
        # written by the extension that the child at this path belongs to
        self.thing: Keepsake | None = None
        # ends that failed, and restarts by hand, in former incarnations of the supervisor above
        self.numbers: tuple[int, int] = (0, 0)
        self.below: dict[str, Kept] = {}

    def at(self, path: str) -> Kept:
        """The place for a path below this one, made where there is none."""
        place = self
        for key in path.split("/"):
            below = place.below.get(key)
            if below is None:
                below = place.below[key] = Kept()
            place = below
        return place

    def count(self, path: str, counted: tuple[int, int]) -> None:
        """Keep what has been counted of a child, for the next incarnation of its supervisor."""
        self.at(path).numbers = counted

    def counted(self, path: str) -> tuple[int, int]:
        """What was counted of a child in former incarnations of its supervisor."""
        place = self._find(path)
        return place.numbers if place is not None else (0, 0)

    def forget(self, path: str) -> None:
        """A key is known no more: let go of what is kept for it, and below it."""
        above, _, key = path.rpartition("/")
        place = self._find(above) if above else self
        if place is not None and key in place.below:
            place.below.pop(key).let_go(with_tree=False)

    def forget_others(self, path: str, known: Container[str]) -> None:
        """A supervisor has come up: whatever is not ``known`` to it is not coming any more."""
        place = self._find(path)
        for key in [key for key in place.below if key not in known] if place is not None else ():
            self.forget(f"{path}/{key}")

    def _find(self, path: str) -> Kept | None:
        place: Kept | None = self
        for key in path.split("/"):
            place = place.below.get(key) if place is not None else None
        return place

    def let_go(self, *, with_tree: bool) -> None:
        """Let go of all there is; a loop, for trees may be deep."""
        pending: list[Kept] = [self]
        while pending:
            place = pending.pop()
            thing, place.thing = place.thing, None
            pending.extend(place.below.values())
            place.below.clear()
            if thing is not None:
                thing.forgotten(with_tree=with_tree)
