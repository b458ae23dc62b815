"""``spry-py incidents``: where the spans come from, and where the page goes."""

from __future__ import annotations

import errno
import json
import os
import shutil
import sys
import zlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from http.client import HTTPException
from itertools import chain
from pathlib import Path
from typing import IO, Final, TextIO
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

from .model import Story, stories_of
from .prose import page, sentences, story_as_json
from .reading import Reading, read_spans
from .timeline import picture

CANNOT_READ: Final = 2
PATIENCE: Final = 10.0
"""Seconds that a server may stay silent."""

_GZIP: Final = b"\x1f\x8b"
# for zlib: a header of gzip, and none of another kind
_GZIP_ALONE: Final = 31
_NARROWEST, _WIDEST = 60, 100
_PLAIN: Final = str.maketrans("━✗╌▲─↻…·■▒▸█✓⋮┄", "-x.^-~..#=>#+:.")


def retell(source: str, whole: bool, for_programs: bool) -> int:
    """Print the incidents in a file, at a URL, or in what comes in (``-``).

    As a page, or as JSON ``for_programs``, in the form that a running program gives it.
    Returns the exit status: 2 if nothing could be read as a span, else 0.
    """
    try:
        reading = _read(source)
    except (OSError, ValueError, HTTPException) as error:
        _complain(f"cannot read {source}: {_reason(error)}")
        return CANNOT_READ
    if reading.is_nothing:
        _complain(f"nothing in {source} could be read as a span")
        return CANNOT_READ
    if reading.unreadable:
        lines = "1 line" if reading.unreadable == 1 else f"{reading.unreadable} lines"
        _complain(f"{lines} could not be read as spans")
    stories = stories_of(reading.spans)
    if for_programs:
        _print([_json(stories, whole)], sys.stdout)
        return 0
    columns = shutil.get_terminal_size((_WIDEST, 24)).columns
    width = min(max(columns, _NARROWEST), _WIDEST)
    _print(page(stories, reading.count, width, whole), sys.stdout)
    return 0


def _json(stories: Iterable[Story], whole: bool) -> str:
    """The latest first, as from a running program."""
    shown = [
        story_as_json(
            story,
            list(sentences(story)),
            [line.rstrip() for line in picture(story, _WIDEST, whole)],
        )
        for story in stories
    ]
    return json.dumps({"incidents": shown[::-1]}, indent=2)


def _complain(text: str) -> None:
    with suppress(OSError, ValueError):
        print(f"spry-py: {text}", file=sys.stderr)


def _read(source: str) -> Reading:
    if source == "-":
        if sys.stdin is None:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        return read_spans(_lines_of(sys.stdin.buffer))
    if source.startswith(("http://", "https://")):
        with urlopen(source, timeout=PATIENCE) as response:
            return read_spans(_lines_of(response))
    with Path(source).open("rb") as file:
        return read_spans(_lines_of(file))


def _lines_of(stream: IO[bytes]) -> Iterator[bytes]:
    """The lines of a stream, which may be compressed by gzip, whole or not."""
    first = stream.readline()
    if not first.startswith(_GZIP):
        yield first
        yield from stream
        return
    rest = b""
    for part in _inflated(chain([first], stream)):
        *lines, rest = (rest + part).split(b"\n")
        yield from lines
    yield rest


def _inflated(parts: Iterable[bytes]) -> Iterator[bytes]:
    decoder = zlib.decompressobj(_GZIP_ALONE)
    try:
        for part in parts:
            yield decoder.decompress(part)
            while decoder.eof and decoder.unused_data:
                rest, decoder = decoder.unused_data, zlib.decompressobj(_GZIP_ALONE)
                yield decoder.decompress(rest)
        is_whole = decoder.eof
    except zlib.error:
        is_whole = False
    if not is_whole:
        yield b"\n(the rest)"  # counts as one line that cannot be read


def _reason(error: Exception) -> str:
    if isinstance(error, URLError) and not isinstance(error, HTTPError):
        return str(getattr(error.reason, "strerror", None) or error.reason)
    return (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__


def _print(lines: Iterable[str], out: TextIO | None) -> None:
    if out is None:
        return  # closed when the program began
    encoding = out.encoding or "utf-8"
    try:
        for line in lines:
            print(_encodable(line, encoding), file=out)
        out.flush()
    except (OSError, ValueError):
        _let_go_of(out)


def _let_go_of(out: TextIO) -> None:
    """The reader has seen enough, or the disk is full: no complaint when the interpreter ends."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), out.fileno())


def _encodable(line: str, encoding: str) -> str:
    """The line, in plainer signs where those of the picture cannot be shown."""
    try:
        line.encode(encoding)
    except UnicodeEncodeError:
        return line.translate(_PLAIN).encode(encoding, "backslashreplace").decode(encoding)
    return line
