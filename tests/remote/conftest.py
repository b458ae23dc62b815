"""What all tests of remote children share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import faraway


@pytest.fixture(autouse=True)
def new_record() -> Iterator[None]:
    faraway.begin()
    yield
    faraway.begin()
