"""One cluster for all that need one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from raying import Farm


@pytest.fixture(scope="session")
def farm() -> Iterator[Farm]:
    farm = Farm()
    yield farm
    farm.end()
