"""Where the probes are served: a port, or a host and a port, as users write them."""

from __future__ import annotations

from typing import Final

HERE: Final = "127.0.0.1"
PORT: Final = 8081
HIGHEST_PORT: Final = 65535


def address_of(owner: str, value: object) -> tuple[str, int]:
    """Host and port of ``8081``, ``"8081"``, ``"0.0.0.0:8081"`` or ``"[::]:8081"``.

    A port alone is one of this machine alone. Raises `TypeError` or `ValueError`.
    """
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise TypeError(f"{owner} must be a port, or 'HOST:PORT', not {value!r}")
    host, _, port = str(value).rpartition(":")
    is_whole = bool(host) or ":" not in str(value)
    if not is_whole or not port.isascii() or not port.isdigit() or int(port) > HIGHEST_PORT:
        raise ValueError(
            f"{owner} must be a port from 0 to {HIGHEST_PORT}, or 'HOST:PORT' such as "
            f"'0.0.0.0:8081' or '[::]:8081', not {value!r}"
        )
    return host.removeprefix("[").removesuffix("]") or HERE, int(port)


def check_address(owner: str, host: object, port: object) -> None:
    """Accept a host and a port, 0 for any that is free."""
    if not isinstance(host, str):
        raise TypeError(f"{owner}: host must be a str, not {host!r}")
    if isinstance(port, bool) or not isinstance(port, int):
        raise TypeError(f"{owner}: port must be an int, not {port!r}")
    if not 0 <= port <= HIGHEST_PORT:
        raise ValueError(f"{owner}: port must be from 0 to {HIGHEST_PORT}, not {port!r}")
