"""Frozen values: to the outside, dataclasses as the standard library makes them."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
from collections.abc import Callable
from typing import Any

import pytest

from spry_py import RateLimited
from spry_py._spec import values


@values.dataclass(frozen=True, slots=True)
class Base:
    """With all that a field may be."""

    one: int
    two: float = 2.0
    quiet: object = dataclasses.field(default=None, kw_only=True, compare=False, repr=False)


@values.dataclass(frozen=True, slots=True)
class Both(Base):
    """What ours makes of it."""

    three: list[int] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True, slots=True)
class TheirBase:
    """The same by the standard library."""

    one: int
    two: float = 2.0
    quiet: object = dataclasses.field(default=None, kw_only=True, compare=False, repr=False)


@dataclasses.dataclass(frozen=True, slots=True)
class Theirs(TheirBase):
    """The same by the standard library."""

    three: list[int] = dataclasses.field(default_factory=list)


ours: Any = Both
theirs: Any = Theirs

READINGS: list[Callable[[Any], object]] = [
    lambda kind: [(f.name, f.type, f.kw_only, f.init) for f in dataclasses.fields(kind)],
    lambda kind: kind.__match_args__,
    lambda kind: list(inspect.signature(kind).parameters),
    lambda kind: repr(kind(1, three=[4])).partition("(")[2],
    lambda kind: dataclasses.asdict(kind(1, 5.0, [4], quiet="x")),
    lambda kind: kind(1, quiet=3) == kind(1, quiet=4),
    lambda kind: kind(1) == kind(2),
    lambda kind: kind(1) == (1, 2.0, []),
    lambda kind: hash(kind(1, 2.0, ())) == hash(kind(1, 2.0, (), quiet=4)),
    lambda kind: dataclasses.replace(kind(1), two=3.0).two,
    lambda kind: pickle.loads(pickle.dumps(kind(1, three=[7]))).three,
    lambda kind: copy.deepcopy(kind(1, three=[7])) == kind(1, three=[7]),
    lambda kind: kind(1).three is kind(1).three,
    lambda kind: hasattr(kind(1), "__dict__"),
    lambda kind: issubclass(dataclasses.dataclass(frozen=True)(type("Below", (kind,), {})), kind),
]


@pytest.mark.parametrize("reading", READINGS)
def test_they_read_like_those_of_the_standard_library(reading: Callable[[Any], object]) -> None:
    assert reading(ours) == reading(theirs)


REFUSED: list[Callable[[Any], object]] = [
    lambda kind: kind(),
    lambda kind: kind(1, 2.0, [], None),
    lambda kind: kind(1, one=1),
    lambda kind: kind(1, four=4),
    lambda kind: setattr(kind(1), "one", 2),
    lambda kind: delattr(kind(1), "one"),
    lambda kind: hash(kind(1)),
]


@pytest.mark.parametrize("wrong", REFUSED)
def test_they_refuse_what_those_refuse(wrong: Callable[[Any], object]) -> None:
    with pytest.raises((TypeError, AttributeError)) as expected:
        wrong(theirs)
    with pytest.raises(expected.type):
        wrong(ours)


def test_a_class_below_that_is_no_dataclass_has_attributes_of_its_own() -> None:
    class Mine(RateLimited):
        def __init__(self) -> None:
            super().__init__(max_restarts=1)

    mine: Any = Mine()
    mine.note = "mine"
    assert (mine, list(inspect.signature(Mine).parameters)) == (Mine(), [])
    with pytest.raises(dataclasses.FrozenInstanceError):
        mine.max_restarts = 2


def test_what_a_subclass_adds_may_be_taken_away_again() -> None:
    class Loose(Both):
        more: int

    loose = Loose(1)
    loose.more = 2
    assert loose.more == 2
    del loose.more
    assert not hasattr(loose, "more")
    with pytest.raises(dataclasses.FrozenInstanceError, match="cannot delete field 'one'"):
        del loose.one  # pyright: ignore[reportAttributeAccessIssue]
