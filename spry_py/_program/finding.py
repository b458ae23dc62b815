"""Finding what ``MODULE:SYSTEM`` names: a module by its name or its file, and a system in it."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import CodeType
from typing import TYPE_CHECKING, Any

from spry_py._kernel.life import is_own
from spry_py._spec.child import Supervisor
from spry_py._spec.errors import SpryError, name_of, place_of, set_place
from spry_py._spec.naming import program_name

from .run import as_supervisor

if TYPE_CHECKING:
    from spry_py._handles.scope import Scope


class UsageError(Exception):
    """What was asked for cannot be run. Caused by what the user's own code raised, if it did."""


def load(name: str, arguments: Sequence[str]) -> tuple[Any, str]:
    """The supervisor that ``MODULE:SYSTEM`` names, with ``arguments`` handed to it; and its name.

    A list is named after the attribute that it was found under.
    """
    module_name, colon, attribute = name.rpartition(":")
    if not (module_name and colon and attribute):
        raise UsageError(f"{name!r} is not of the form MODULE:SYSTEM")
    found: Any = _module(module_name)
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise UsageError(f"module {module_name!r} has no {attribute!r}")
        found = getattr(found, part)
    system = _with_arguments(found, arguments, name)
    try:
        supervisor = as_supervisor(system, {})
    except (TypeError, ValueError, SpryError) as error:
        raise UsageError(f"{name} is not a system: {error}") from None
    is_named = supervisor.name != program_name()
    return supervisor, supervisor.name if is_named else attribute.rpartition(".")[2]


def _module(name: str) -> Any:
    if name.endswith(".py") or os.sep in name:
        return _file(Path(name))
    _search_first(Path.cwd())
    return _imported(name)


def _file(path: Path) -> Any:
    """The module in a file, under the name by which other modules beside it import it."""
    if not path.is_file():
        raise UsageError(f"there is no file {str(path)!r}")
    path = path.resolve()
    names = [] if path.stem == "__init__" else [path.stem]
    directory = path.parent
    while (directory / "__init__.py").is_file():
        names.insert(0, directory.name)
        directory = directory.parent
    _search_first(directory)
    module = _imported(".".join(names))
    if Path(getattr(module, "__file__", None) or "").resolve() != path:
        raise UsageError(
            f"{str(path)!r} cannot be imported as {module.__name__!r}: another module has that "
            "name; give the file another one"
        )
    return module


def _imported(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and f"{name}.".startswith(f"{error.name}."):
            raise UsageError(f"there is no module {error.name!r}") from None
        raise _raised_by(f"importing {name}", error) from error


def _search_first(directory: Path) -> None:
    """Look for modules there before anywhere else, as ``python -m`` and ``python FILE`` do."""
    place = str(directory)
    sys.path[:] = [place, *(other for other in sys.path if other != place)]
    importlib.invalidate_caches()


def _raised_by(what: str, error: Exception) -> UsageError:
    """The error that shows what the user's own code raised, from its first frame on."""
    frames = place_of(error)
    while frames is not None and _is_machinery(frames.tb_frame.f_code):
        frames = frames.tb_next
    set_place(error, frames)
    return UsageError(f"{what} raised {name_of(error)}")


def _is_machinery(code: CodeType) -> bool:
    file = code.co_filename
    return is_own(code) or file == importlib.__file__ or file.startswith("<frozen importlib")


def _is_made(found: object) -> bool:
    return isinstance(found, Supervisor | list | tuple)


def _with_arguments(found: Any, arguments: Sequence[str], name: str) -> Any:
    if _is_made(found):
        if arguments:
            raise UsageError(f"{name} takes no arguments, but was given {list(arguments)}")
        return found
    if inspect.iscoroutinefunction(found):
        return _bound(found, arguments, name)
    if callable(found):
        _check_signature(found, arguments, name)
        return _made_by(found, arguments, name)
    raise UsageError(f"{name} is not a system but {found!r}")


def _made_by(factory: Any, arguments: Sequence[str], name: str) -> Any:
    try:
        return factory(*arguments)
    except Exception as error:
        raise _raised_by(name, error) from error


def _bound(function: Any, arguments: Sequence[str], name: str) -> Any:
    _check_signature(function, ["scope", *arguments], name)
    if not arguments:
        return function

    async def system(scope: Scope) -> None:
        await function(scope, *arguments)

    system.__name__ = function.__name__
    return system


def _check_signature(function: Any, arguments: Sequence[str], name: str) -> None:
    try:
        inspect.signature(function).bind(*arguments)
    except TypeError as error:
        raise UsageError(f"{name} does not take these arguments: {error}") from None
    except ValueError:
        pass  # some functions written in C have no signature: calling it will show
