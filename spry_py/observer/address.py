"""Where an observer listens: a socket of its own in a directory of ours, for the owner alone."""

from __future__ import annotations

import errno
import os
import socket
import stat
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Final

# what the shortest `sun_path` holds (macOS: 104 with the zero behind it)
LONGEST: Final = 103
# what the watchdog has last seen is left beside the socket, under this suffix
REPORT: Final = ".blocked"


@dataclass(frozen=True, slots=True)
class Address:
    """Where an observer is found: the path of its socket, and the URL of its page.

    ``None`` for what was not asked for. The URL has the token in its fragment, so it is not shown
    in the ``repr``.
    """

    socket: str | None
    url: str | None = field(repr=False)


def directory() -> Path:
    """The directory of the sockets of this user, whether or not it is there."""
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    if runtime:
        return Path(runtime) / "spry_py"
    return Path(tempfile.gettempdir()) / f"spry_py-{os.geteuid()}"


def check_directory(place: Path) -> None:
    """Refuse a directory that others may write to, or have put there. Raises `OSError`."""
    found = place.lstat()
    if not stat.S_ISDIR(found.st_mode):
        raise NotADirectoryError(
            errno.ENOTDIR, "the observer's sockets need a directory here, and no link", str(place)
        )
    if found.st_uid != os.geteuid():
        raise PermissionError(
            errno.EPERM, f"the directory belongs to user {found.st_uid}, not to us", str(place)
        )
    if found.st_mode & 0o077:
        mode = stat.S_IMODE(found.st_mode)
        raise PermissionError(
            errno.EPERM,
            f"the directory must be for us alone (0700, not {mode:04o})",
            str(place),
        )


def own_directory() -> Path:
    """The directory of the sockets, made if it is missing. Raises `OSError` by its path."""
    place = directory()
    with suppress(FileExistsError):
        place.mkdir(mode=0o700)
    check_directory(place)
    return place


def listen(backlog: int) -> tuple[socket.socket, Path]:
    """A socket that listens under a name made of the process's number.

    Raises `OSError` by the path where there is no place for it, and `RuntimeError` on systems
    without unix sockets.
    """
    if not hasattr(socket, "AF_UNIX") or not hasattr(os, "geteuid"):
        raise RuntimeError("this system has no unix sockets: give socket=False, and a port")
    place = own_directory()
    for path in _names(place):
        if len(os.fsencode(path)) > LONGEST:
            raise OSError(
                errno.ENAMETOOLONG, f"a socket's path may have {LONGEST} bytes", str(path)
            )
        listener = _bound(path)
        if listener is not None:
            listener.listen(backlog)
            return listener, path
    raise AssertionError("there is no last name")  # pragma: no cover


def _names(place: Path) -> Iterator[Path]:
    yield place / f"{os.getpid()}.sock"
    yield from (place / f"{os.getpid()}-{number}.sock" for number in count(2))


def _bound(path: Path) -> socket.socket | None:
    """A socket bound to a path; ``None`` if another one listens there."""
    if path.exists() and is_alive(path):
        return None
    clear(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(str(path))
        path.chmod(0o600)
    except OSError as error:
        listener.close()
        raise OSError(error.errno, error.strerror, str(path)) from None
    return listener


def is_alive(path: Path) -> bool:
    """Whether a process listens there, however busy it is."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except BlockingIOError:
            return True  # its queue is full
        except OSError:
            return False
        return True


def clear(path: Path) -> None:
    """Remove a socket that is not in use any more, and what was left beside it."""
    for file in (path, report_of(path)):
        with suppress(FileNotFoundError):
            file.unlink()


def report_of(path: Path) -> Path:
    """The file in which the watchdog leaves its last report."""
    return path.with_suffix(REPORT)


def found() -> tuple[list[Path], int]:
    """The sockets that are in use, oldest first, and how many dead ones were cleared away.

    Raises `OSError` if the directory is not ours.
    """
    place = directory()
    try:
        check_directory(place)
    except FileNotFoundError:
        return [], 0
    alive: list[Path] = []
    cleared = 0
    for path in sorted(place.glob("*.sock"), key=_age):
        if is_alive(path):
            alive.append(path)
        else:
            clear(path)
            cleared += 1
    return alive, cleared


def _age(path: Path) -> float:
    try:
        return path.lstat().st_mtime
    except FileNotFoundError:
        return 0.0
