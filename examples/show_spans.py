"""A file of spans shown as trees, one for each trace: python -m examples.show_spans FILE

Such a file comes from `spry-py run --traces FILE` or `spry_py.telemetry.configure(FILE)`. Each span
has a number; behind it stands the number of the span that it is linked to, and why.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Span = dict[str, Any]


def in_order(spans: list[Span]) -> list[tuple[int, Span]]:
    """All spans with their depths, trace by trace, in the order in which they began."""
    below: dict[str | None, list[Span]] = {}
    for span in sorted(spans, key=lambda span: str(span["start_time"])):
        below.setdefault(span["parent_id"], []).append(span)
    pending = [(0, span) for span in reversed(below.get(None, []))]
    ordered = []
    while pending:
        depth, span = pending.pop()
        ordered.append((depth, span))
        inner = below.get(span["context"]["span_id"], [])
        pending.extend((depth + 1, child) for child in reversed(inner))
    return ordered


def trees(spans: list[Span]) -> Iterator[str]:
    """A line for each span."""
    ordered = in_order(spans)
    numbers = {span["context"]["span_id"]: n for n, (_, span) in enumerate(ordered, 1)}
    for depth, span in ordered:
        number = numbers[span["context"]["span_id"]]
        links = "".join(link_of(link, numbers) for link in span["links"])
        yield f"{number:3}  {'  ' * depth}{text_of(span)}{links}"


def link_of(link: Span, numbers: dict[str, int]) -> str:
    return f"  -> {link['attributes']['spry.link']} {numbers[link['context']['span_id']]}"


def text_of(span: Span) -> str:
    """One span in a few words, with the type of its error."""
    attributes = span["attributes"]
    path = attributes.get("spry.child.path", attributes["spry.system.path"])
    error = span["status"].get("description", "").partition(":")[0]
    return f"{span['name']} {path}" + (f"  ({error})" if error else "")


def main(arguments: list[str]) -> None:
    (file,) = arguments
    with Path(file).open(encoding="utf-8") as lines:
        spans = [json.loads(line) for line in lines]
    for line in trees(spans):
        print(line)


if __name__ == "__main__":
    main(sys.argv[1:])
