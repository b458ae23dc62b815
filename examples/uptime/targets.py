"""Targets: the endpoints to watch, as a file names them.

One target per line, `[NAME] URL [every=SECONDS] [timeout=SECONDS]`. A word that begins with `#`
begins a comment.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

HTTP_PORT = 80
URLS = "http://HOST[:PORT][/PATH] or tcp://HOST:PORT"


@dataclass(frozen=True, slots=True)
class Target:
    """One endpoint; `every` seconds pass between two checks, and one may take `timeout` seconds."""

    name: str
    scheme: str
    host: str
    port: int
    path: str = "/"
    every: float = 10.0
    timeout: float = 5.0


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that names no target: its number, counted from 1, and what is wrong with it."""

    number: int
    reason: str


def read_targets(path: str) -> tuple[list[Target], list[BadLine]]:
    """The targets in the file, in its order, and the lines that could not be used."""
    lines_by_name: dict[str, int] = {}
    targets: list[Target] = []
    bad_lines: list[BadLine] = []
    # Split before decoding: bytes that are not UTF-8 then spoil their own line only.
    for number, line in enumerate(Path(path).read_bytes().splitlines(), start=1):
        try:
            target = parse_target(line.decode("utf-8-sig" if number == 1 else "utf-8"))
            if target is None:
                continue
            if target.name in lines_by_name:
                first = lines_by_name[target.name]
                raise ValueError(f"{target.name!r} is watched already, see line {first}")
        except ValueError as error:
            bad_lines.append(BadLine(number, str(error)))
        else:
            lines_by_name[target.name] = number
            targets.append(target)
    return targets, bad_lines


def parse_target(line: str) -> Target | None:
    """The target of one line, `None` if it is empty; raises `ValueError` with what is wrong."""
    words = words_of(line)
    if not words:
        return None
    if not any("://" in word for word in words[:2]):
        raise ValueError(f"no {URLS} in {' '.join(words)!r}")
    named = "://" not in words[0]
    url, options = (words[1], words[2:]) if named else (words[0], words[1:])
    scheme, host, port, path = parse_url(url)
    name = words[0] if named else url.replace("//", "", 1).strip("/").replace("/", "_")
    if "/" in name or not name.isprintable():
        raise ValueError(f"the name {name!r} holds a '/' or a control character")
    return Target(name, scheme, host, port, path, **seconds_of(options))


def words_of(line: str) -> list[str]:
    words: list[str] = []
    for word in line.split():
        if word.startswith("#"):
            break
        words.append(word)
    return words


def parse_url(url: str) -> tuple[str, str, int, str]:
    if not (url.isascii() and url.isprintable()):
        raise ValueError(f"{url!r} holds characters that a URL must escape")
    parts = urlsplit(url)
    if parts.scheme not in ("http", "tcp"):
        raise ValueError(f"{url!r} is neither http:// nor tcp://")
    if not parts.hostname or "@" in parts.netloc:
        raise ValueError(f"{url!r}: HOST or HOST:PORT must follow the '//'")
    return parts.scheme, parts.hostname, port_of(parts), path_of(parts)


def port_of(parts: SplitResult) -> int:
    try:
        port = HTTP_PORT if parts.port is None and parts.scheme == "http" else parts.port
    except ValueError:
        port = None
    if not port:
        raise ValueError(f"{parts.geturl()!r} needs a port between 1 and 65535")
    return port


def path_of(parts: SplitResult) -> str:
    if parts.scheme == "tcp" and (parts.path.strip("/") or parts.query):
        raise ValueError(f"{parts.geturl()!r}: nothing may follow the port of a tcp:// target")
    return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def seconds_of(options: list[str]) -> dict[str, float]:
    seconds: dict[str, float] = {}
    for option in options:
        key, _, text = option.partition("=")
        if key not in ("every", "timeout"):
            raise ValueError(f"{option!r} is neither every=SECONDS nor timeout=SECONDS")
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not 0.0 < value < math.inf:
            raise ValueError(f"{option!r}: the seconds must be a number above 0")
        seconds[key] = value
    return seconds
