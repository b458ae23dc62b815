"""docs/how-to/pytest.md: its tests are run by pytest, in one project, and pass."""

from __future__ import annotations

import re
from pathlib import Path

from programs import finished

PAGE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "pytest.md"
FENCE = re.compile(r"^```py\n(.*?)^```$", re.MULTILINE | re.DOTALL)
QUICK = ("-p", "no:cacheprovider", "-p", "no:trio", "-p", "no:anyio", "-p", "no:hypothesispytest")


def test_the_tests_of_the_page_pass(tmp_path: Path) -> None:
    source = "\n".join(FENCE.findall(PAGE.read_text(encoding="utf-8")))
    (tmp_path / "test_page.py").write_text(source, encoding="utf-8")
    command = ["-m", "pytest", "-q", "-W", "error", "--strict-markers", *QUICK]
    result = finished(command, tmp_path)
    # one of them is run with three seeds
    count = source.count("async def test_") + 2
    assert f"{count} passed in" in result.stdout, result.stdout
    assert result.returncode == 0
