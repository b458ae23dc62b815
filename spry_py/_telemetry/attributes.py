"""The names and values that spans, metric points and log records carry, the same in all."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from spry_py._spec.errors import sole_leaf_of

if TYPE_CHECKING:
    from spry_py._kernel.facts import AboutChild, AboutSystem
    from spry_py._spec.termination import TerminationReport

Attributes: TypeAlias = dict[str, Any]

SCOPE: Final = "spry_py"


@cache
def library_version() -> str:
    """The version of the installed distribution."""
    # reads files, and costs as much to import as a tenth of trio
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415

    try:
        return version(SCOPE)
    except PackageNotFoundError:  # pragma: no cover - run from a tree that was never installed
        return "0"


def system_attributes(system: AboutSystem) -> Attributes:
    """What all spans carry."""
    return {"spry.system.path": system.path, "spry.system.incarnation": system.own.number}


def child_attributes(child: AboutChild) -> Attributes:
    """What all spans and records about the last incarnation of a child carry."""
    system = child.loop
    return {
        "spry.system.path": system.path,
        "spry.system.incarnation": system.own.number,
        "spry.child.key": child.key,
        "spry.child.path": child.path,
        "spry.child.incarnation": child.number,
        "spry.child.kind": child.kind,
        "spry.restart.type": child.child.restart,
    }


def report_attributes(report: TerminationReport) -> Attributes:
    """What a termination span carries."""
    attributes: Attributes = {
        "spry.termination.reason": reason_name(report),
        "spry.termination.burden": report.burden,
        "spry.child.lifetime": report.lifetime or 0.0,
    }
    exception = report.exception
    if exception is not None:
        attributes["error.type"] = type_name(exception)
    return attributes


def reason_name(report: TerminationReport) -> str:
    """The kind of a reason, in one lower-case word."""
    if report.failed:
        return "failed"
    return "normal" if type(report.reason).__name__ == "Normal" else "aborted"


# What OpenTelemetry wants for an error that has no type.
OTHER: Final = "_OTHER"
# A child has outlived its time.
TIMEOUT: Final = "timeout"


def error_type(exception: BaseException | None) -> str:
    """The value of ``error.type`` for a failure."""
    return type_name(exception) if exception is not None else OTHER


def type_name(exception: BaseException) -> str:
    """The full name of an exception's type; of the leaf's, for a group of one."""
    return full_name(type(sole_leaf_of(exception)))


def full_name(kind: type) -> str:
    """The full name of a type; without the module for a builtin one."""
    module = _module_of(kind)
    if module == "builtins":
        return _qualname_of(kind)
    return f"{module if isinstance(module, str) else '<unknown>'}.{_qualname_of(kind)}"


# of the type itself: a class may define attributes of these names
_module_of: Final[Callable[[type], object]] = vars(type)["__module__"].__get__
_qualname_of: Final[Callable[[type], str]] = vars(type)["__qualname__"].__get__
