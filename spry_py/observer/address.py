"""Where an observer listens: a socket of its own in a directory of ours, for the owner alone."""

from __future__ import annotations

import errno
import os
import re
import socket
import stat
import tempfile
import time
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
_NAME: Final = re.compile(r"[0-9]+(-[0-9]+)?\.sock")
# a socket has its path a moment before it listens, seconds
_NEWBORN: Final = 1.0


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


class Place:
    """A socket that listens, and its path, for as long as that leads to it."""

    def __init__(self, listener: socket.socket, path: Path) -> None:
        self.listener = listener
        self.path = path
        self._file = _file_at(path)
        # a copy of this process, made by `os.fork`, has no right to the path
        self._process = os.getpid()

    @property
    def is_there(self) -> bool:
        """Whether who opens the path gets here: others may have removed or replaced it."""
        return self._file is not None and _file_at(self.path) == self._file

    def leave(self) -> None:
        """Listen no more, and remove the socket if it is still this one."""
        self.listener.close()
        if self.is_there and self._process == os.getpid():
            with suppress(OSError):  # who may not remove it leaves it
                clear(self.path)


def _file_at(path: Path) -> tuple[int, int] | None:
    with suppress(OSError):
        found = path.lstat()
        return found.st_dev, found.st_ino
    return None


def take_place(backlog: int) -> Place:
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
        taken = _bound(path, backlog)
        if taken is not None:
            return taken
    raise AssertionError("there is no last name")  # pragma: no cover


def take_again(path: Path, backlog: int) -> Place:
    """A socket that listens under this path again. Raises `OSError`."""
    own_directory()
    taken = _bound(path, backlog)
    if taken is None:
        raise OSError(errno.EADDRINUSE, "another one listens there", str(path))
    return taken


def _names(place: Path) -> Iterator[Path]:
    yield place / f"{os.getpid()}.sock"
    yield from (place / f"{os.getpid()}-{number}.sock" for number in count(2))


def _bound(path: Path, backlog: int) -> Place | None:
    """A socket that listens under a path; ``None`` if another one does."""
    if is_alive(path):
        return None
    clear(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(str(path))
        path.chmod(0o600)
        listener.listen(backlog)
    except OSError as error:
        listener.close()
        raise OSError(error.errno, error.strerror, str(path)) from None
    return Place(listener, path)


def is_alive(path: Path) -> bool:
    """Whether a process listens there, however busy it is, and whether or not it lets us in."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        except OSError:
            return True  # its queue is full, among others
        return True


def clear(path: Path) -> None:
    """Remove a socket that is not in use any more, and what was left beside it."""
    for file in (path, report_of(path), new_report_of(path)):
        with suppress(FileNotFoundError):
            file.unlink()


def report_of(path: Path) -> Path:
    """The file in which the watchdog leaves its last report."""
    return path.with_suffix(REPORT)


def new_report_of(path: Path) -> Path:
    """The same file as long as it is being written."""
    return path.with_suffix(".new")


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
    for path in sorted(filter(_is_ours, place.iterdir()), key=_age):
        if is_alive(path):
            alive.append(path)
        elif abs(time.time() - _age(path)) > _NEWBORN:
            clear(path)
            cleared += 1
    return alive, cleared


def _is_ours(path: Path) -> bool:
    """Whether it is the socket of an observer; what else is there is left alone."""
    with suppress(OSError):
        return bool(_NAME.fullmatch(path.name)) and stat.S_ISSOCK(path.lstat().st_mode)
    return False


def _age(path: Path) -> float:
    try:
        return path.lstat().st_mtime
    except FileNotFoundError:
        return 0.0
