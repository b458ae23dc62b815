"""Frozen dataclasses that cost a tenth at import.

`dataclasses` compiles seven methods for each class, which was two fifths of the import of spry_py.
The classes made here share methods that go through the fields; to all else they are what
``dataclasses.dataclass(frozen=True, slots=True)`` makes. What is made at each end of a child writes
its ``__init__`` itself.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from reprlib import recursive_repr
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass  # noqa: PLC0414 - what type checkers see
    from inspect import Signature

    Fields = Mapping[str, dataclasses.Field[Any]]
else:

    def dataclass(*, frozen: bool, slots: bool, init: bool = True) -> Callable[[type], type]:
        """Makes classes as that of `dataclasses` does, if they are frozen and have slots."""
        assert frozen
        assert slots
        return _made


def _made(cls: type) -> type:
    own = _fields_declared_in(cls)
    fields = dict[str, "dataclasses.Field[Any]"]()
    for base in reversed(cls.__mro__[1:]):
        fields |= base.__dict__.get("__dataclass_fields__", {})
    slots = tuple(name for name in own if name not in fields)
    fields |= own
    # slots cannot be added to a class, and defaults would be in their way
    left_out = own.keys() | {"__dict__", "__weakref__"}
    kept = {name: value for name, value in cls.__dict__.items() if name not in left_out}
    order = [field for field in fields.values() if not field.kw_only]
    named = [field for field in fields.values() if field.kw_only]
    kept |= {
        "__slots__": slots,
        "__dataclass_fields__": fields,
        "__match_args__": tuple(field.name for field in order),
    }
    made = type(cls)(cls.__name__, cls.__bases__, _SHARED | kept)
    made.__qualname__ = cls.__qualname__
    writes = [(field, getattr(made, field.name).__set__) for field in (*order, *named)]
    made._frozen_writes = len(order), writes  # type: ignore[attr-defined]
    return made


def _fields_declared_in(cls: type) -> Fields:
    """What `dataclasses` reads out of the annotations of a class, but not those of its bases."""
    annotations = cls.__annotations__
    if not annotations:
        return {}
    namespace = {name: cls.__dict__[name] for name in annotations if name in cls.__dict__}
    namespace |= {"__annotations__": annotations, "__module__": cls.__module__, "__doc__": " "}
    read: Any = dataclasses.dataclass(init=False, repr=False, eq=False)(type("", (), namespace))
    fields: Fields = read.__dataclass_fields__
    return fields


# What they share


def _init(self: Any, /, *args: object, **named: object) -> None:
    count, writes = self._frozen_writes
    given = len(args)
    if given > count:
        _refuse(self, args, named)
    for (_, write), value in zip(writes, args, strict=False):
        write(self, value)
    left = dict(named)
    for field, write in writes[given:]:
        if field.name in left:
            write(self, left.pop(field.name))
        elif field.default is not dataclasses.MISSING:
            write(self, field.default)
        elif field.default_factory is not dataclasses.MISSING:
            write(self, field.default_factory())
        else:
            _refuse(self, args, named)
    if left:
        _refuse(self, args, named)
    if (check := getattr(self, "__post_init__", None)) is not None:
        check()


def _refuse(self: object, args: tuple[object, ...], named: dict[str, object]) -> None:
    """Raise `TypeError` in the words of the signature, which these arguments do not fit."""
    try:
        _signature_of(type(self)).bind(*args, **named)
    except TypeError as error:
        raise TypeError(f"{type(self).__name__}: {error}") from None


def _compared(self: Any) -> tuple[object, ...]:
    fields = self.__dataclass_fields__.values()
    return tuple(getattr(self, field.name) for field in fields if field.compare)


def _eq(self: object, other: object) -> bool:
    return _compared(self) == _compared(other) if type(self) is type(other) else NotImplemented


def _hash(self: object) -> int:
    return hash(_compared(self))


@recursive_repr()
def _repr(self: Any) -> str:
    fields = self.__dataclass_fields__.values()
    shown = (f"{field.name}={getattr(self, field.name)!r}" for field in fields if field.repr)
    return f"{type(self).__qualname__}({', '.join(shown)})"


def _setattr(self: Any, name: str, value: object) -> None:
    if _is_kept(self, name):
        raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")
    object.__setattr__(self, name, value)


def _delattr(self: Any, name: str) -> None:
    if _is_kept(self, name):
        raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")
    object.__delattr__(self, name)


def _is_kept(self: Any, name: str) -> bool:
    """A class below that is no dataclass may have attributes of its own."""
    return "__dataclass_fields__" in type(self).__dict__ or name in self.__dataclass_fields__


def _signature_of(cls: Any) -> Signature:
    from inspect import Parameter, Signature  # noqa: PLC0415 - as in most of all programs

    parameters: list[Parameter] = []
    for field, _ in cls._frozen_writes[1]:
        kind = Parameter.KEYWORD_ONLY if field.kw_only else Parameter.POSITIONAL_OR_KEYWORD
        made = field.default_factory if field.default is dataclasses.MISSING else field.default
        default = Parameter.empty if made is dataclasses.MISSING else made
        parameters.append(Parameter(field.name, kind, default=default, annotation=field.type))
    return Signature(parameters, return_annotation=None)


class _ItsSignature:
    """The ``__signature__`` of a class, unless it writes its ``__init__`` itself.

    Its instances have none: they may be called, with other arguments.
    """

    def __get__(self, instance: object, owner: Any) -> Signature:
        if instance is not None or owner.__init__ is not _init:
            raise AttributeError("__signature__")
        return _signature_of(owner)


@dataclasses.dataclass(frozen=True, slots=True, init=False, repr=False, eq=False)
class _Real:
    """What a class of `dataclasses` has that is the same in all of them is taken from this."""


_REAL: Final = ("__dataclass_params__", "__getstate__", "__setstate__", "__replace__")
_SHARED: Final[dict[str, Any]] = {
    **{name: value for name, value in _Real.__dict__.items() if name in _REAL},
    "__init__": _init,
    "__eq__": _eq,
    "__hash__": _hash,
    "__repr__": _repr,
    "__setattr__": _setattr,
    "__delattr__": _delattr,
    "__signature__": _ItsSignature(),
}
