"""``spry-py incidents``: where the spans come from, and where the page goes."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable
from http.client import HTTPException
from pathlib import Path
from typing import Final, TextIO
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

from ._account import page
from ._incidents import stories_of
from ._span_lines import Reading, read_spans

CANNOT_READ: Final = 2
PATIENCE: Final = 10.0
"""Seconds that a server may stay silent."""

_NARROWEST, _WIDEST = 60, 100
_PLAIN: Final = str.maketrans("━✗╌▲─↻…·■▒▸█✓⋮┄", "-x.^-~..#=>#+:.")


def retell(source: str, whole: bool) -> int:
    """Print the incidents in a file, at a URL, or in what comes in (``-``).

    Returns the exit status: 2 if nothing could be read, else 0, whatever it was that was read.
    """
    try:
        reading = _read(source)
    except (OSError, ValueError, HTTPException) as error:
        print(f"spry-py: cannot read {source}: {_reason(error)}", file=sys.stderr)
        return CANNOT_READ
    if reading.unreadable:
        lines = "1 line" if reading.unreadable == 1 else f"{reading.unreadable} lines"
        print(f"spry-py: {lines} could not be read as spans", file=sys.stderr)
    columns = shutil.get_terminal_size((_WIDEST, 24)).columns
    width = min(max(columns, _NARROWEST), _WIDEST)
    _print(page(stories_of(reading.spans), reading.count, width, whole), sys.stdout)
    return 0


def _read(source: str) -> Reading:
    if source == "-":
        return read_spans(sys.stdin.buffer)
    if source.startswith(("http://", "https://")):
        with urlopen(source, timeout=PATIENCE) as response:
            return read_spans(response)
    with Path(source).open("rb") as file:
        return read_spans(file)


def _reason(error: Exception) -> str:
    if isinstance(error, URLError) and not isinstance(error, HTTPError):
        return str(getattr(error.reason, "strerror", None) or error.reason)
    return (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__


def _print(lines: Iterable[str], out: TextIO) -> None:
    encoding = out.encoding or "utf-8"
    try:
        for line in lines:
            print(_encodable(line, encoding), file=out)
        out.flush()
    except BrokenPipeError:
        # the reader has seen enough; without this the interpreter complains when it ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), out.fileno())


def _encodable(line: str, encoding: str) -> str:
    """The line, in plainer signs where those of the picture cannot be shown."""
    try:
        line.encode(encoding)
    except UnicodeEncodeError:
        return line.translate(_PLAIN).encode(encoding, "backslashreplace").decode(encoding)
    return line
