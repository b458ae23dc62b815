"""What the whole suite stands on: which spry_py it tests, and how it searches."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import hypothesis

import spry_py

ROOT = Path(__file__).resolve().parent.parent

# Last, not first: `examples` comes from the checkout, spry_py from where it is installed.
sys.path.append(str(ROOT))

# A child process in ROOT would otherwise look there first, and find the spry_py of the checkout.
os.environ["PYTHONSAFEPATH"] = "1"

# A test that passes once passes always, on a loaded machine as well. To search further:
# `pytest --hypothesis-profile=explore`.
hypothesis.settings.register_profile("steady", deadline=None, derandomize=True, database=None)
hypothesis.settings.register_profile("explore", deadline=None, max_examples=2000)
hypothesis.settings.load_profile("steady")


def pytest_report_header() -> str:
    """Say which spry_py is tested, so that the log of a run shows it."""
    return f"spry_py: {Path(spry_py.__file__).parent}"
