"""The plugin for pytest: the fixture ``spry`` and the marker ``@pytest.mark.spry``.

The wheel has this module at its top level. pytest imports the modules of all plugins that are
installed, in every project; one within ``spry_py`` would import the whole package there, trio and
OpenTelemetry with it, and before any measuring of coverage begins. So nothing is imported here but
pytest, and what a test needs once it uses it.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from spry_py.testing import Spry


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker with pytest."""
    config.addinivalue_line(
        "markers",
        "spry: run an async test with trio, on a MockClock that jumps over every sleep",
    )


@pytest.fixture
def spry() -> Spry:
    """Trees of an async test: ``handle, record = await spry.start(system, **options)``."""
    from spry_py.testing import Spry  # noqa: PLC0415 - not before it is used

    return Spry()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    """Have an async test of ours run as it should, unless another plugin runs it."""
    __tracebackhide__ = True
    if not _is_ours(item):
        return (yield)
    from spry_py.testing.under_pytest import Prepared  # noqa: PLC0415 - the same

    with Prepared(item):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the trees of a test that has failed."""
    report = yield
    trees = _fixtures(item).get("spry")
    if trees is not None and report.when == "call" and report.failed:
        report.sections.extend(trees.sections)
    return report


def _is_ours(item: pytest.Item) -> bool:
    return item.get_closest_marker("spry") is not None or "spry" in _fixtures(item)


def _fixtures(item: pytest.Item) -> dict[str, Any]:
    """The fixtures of a test; other items have none."""
    return getattr(item, "funcargs", None) or {}
