"""Specifications are frozen: they are shared by all incarnations."""

from __future__ import annotations

import pytest
import trio

from spry_py import Child, DynamicSupervisor, PartitionSupervisor, RateLimited, SystemSupervisor

WORKER = Child("a", trio.sleep_forever)


@pytest.mark.parametrize(
    ("specification", "field"),
    [
        (WORKER, "restart"),
        (SystemSupervisor([WORKER]), "breaker"),
        (DynamicSupervisor(), "max_children"),
        (PartitionSupervisor(lambda index: WORKER, partitions=2), "name"),
        (RateLimited(), "within"),
    ],
)
def test_no_field_can_be_set_or_deleted(specification: object, field: str) -> None:
    before = getattr(specification, field)
    with pytest.raises(AttributeError):
        setattr(specification, field, "other")
    with pytest.raises(AttributeError):
        delattr(specification, field)
    assert getattr(specification, field) == before
