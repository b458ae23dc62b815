"""A file of spans shown as trees, one for each trace: python -m examples.show_spans FILE

Such a file comes from `spry-py run --traces FILE` or `spry_py.telemetry.configure(FILE)`.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def trees(file: str) -> Iterator[str]:
    """The lines of all trees, in the order in which the traces began."""
    with Path(file).open(encoding="utf-8") as lines:
        spans = sorted(map(json.loads, lines), key=lambda span: str(span["start_time"]))
    below: dict[str | None, list[dict[str, Any]]] = {}
    for span in spans:
        below.setdefault(span["parent_id"], []).append(span)
    pending = [(0, span) for span in reversed(below.get(None, []))]
    while pending:
        depth, span = pending.pop()
        yield "  " * depth + told(span)
        inner = below.get(span["context"]["span_id"], [])
        pending.extend((depth + 1, child) for child in reversed(inner))


def told(span: dict[str, Any]) -> str:
    """One span in one line, with the type of its error."""
    attributes = span["attributes"]
    path = attributes.get("spry.child.path", attributes["spry.system.path"])
    error = span["status"].get("description", "").partition(":")[0]
    return f"{span['name']} {path}" + (f"  ({error})" if error else "")


def main(arguments: list[str]) -> None:
    (file,) = arguments
    for line in trees(file):
        print(line)


if __name__ == "__main__":
    main(sys.argv[1:])
