"""Dataclasses and pydantic models as arguments: their fields, and copies that share nothing that can change.

The fields are read from the state of the object itself, never through its serializers, properties or validators.
An object whose state is more than its fields, or that keeps some of them from being shown, has none to read.
"""

import dataclasses
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MemberDescriptorType
from typing import Any, Final, NamedTuple, cast
from weakref import WeakKeyDictionary

from pydantic import BaseModel, RootModel, TypeAdapter
from pydantic.dataclasses import is_pydantic_dataclass

from agent_identity.authority import NoFormError, form_of

__all__ = ["fields_of", "form", "rebuilt"]

_FIELDS_SET: Final = "__pydantic_fields_set__"
"""Part of the state of a model that is no content: which of its fields were given."""

_NO_SCHEMA: Final = frozenset({"default", "expected", "metadata"})
"""Keys of a schema under which there are values and functions, and no schemas."""


_ROOT_COPY: Final = cast("Callable[[object], BaseModel]", RootModel[object].__copy__)
_SCALARS: Final = frozenset({str, bool, int, float, type(None)})


class _Shape(NamedTuple):
    """The fields of a class, with the values that its objects have without holding them."""

    defaults: Mapping[str, object]


_SHAPES: Final[WeakKeyDictionary[type, _Shape | None]] = WeakKeyDictionary()


def fields_of(value: object) -> dict[str, object]:
    """Return the fields of a dataclass or model by name, and nothing else that it may say about itself.

    Raises:
        NoFormError: It is neither, or keeps something from being shown, or has more state than its fields.
    """
    kind = type(value)
    if not (issubclass(kind, BaseModel) or dataclasses.is_dataclass(kind)):
        raise NoFormError
    if kind not in _SHAPES:
        _SHAPES[kind] = _shape_of(kind)
    shape = _SHAPES[kind]
    if shape is None:
        raise NoFormError
    state = _state(value)
    state.pop(_FIELDS_SET, None)
    fields = {name: state.pop(name, default) for name, default in shape.defaults.items()}
    if any(field is dataclasses.MISSING for field in fields.values()) or not all(map(_is_empty, state.values())):
        raise NoFormError
    return fields


def _is_empty(rest: object) -> bool:
    return rest is None or (type(rest) is dict and not rest)


def _state(value: object) -> dict[str, object]:
    """Return all that an object holds, in its ``__dict__`` and its slots."""
    state = object.__getstate__(value)
    parts = cast("tuple[object, ...]", state if type(state) is tuple else (state,))
    return {name: item for part in parts for name, item in cast("dict[str, object]", part or {}).items()}


def _shape_of(kind: type[object]) -> _Shape | None:
    """Return the shape of a class, or None if its objects hide something."""
    if issubclass(kind, BaseModel):
        names = list(kind.model_fields)
    else:
        names = [field.name for field in dataclasses.fields(cast("Any", kind))]
    defaults = {name: inspect.getattr_static(kind, name, dataclasses.MISSING) for name in names}
    for name, default in defaults.items():
        if type(default) is MemberDescriptorType:
            defaults[name] = dataclasses.MISSING
        elif inspect.isdatadescriptor(default):
            return None
    # Other classes make or read objects in their own way, or have state that Python does not see, as lists do.
    own: tuple[object, ...] = (kind.__new__, kind.__getattribute__)
    if own != (object.__new__, object.__getattribute__) or _is_masked(kind):
        return None
    return _Shape(defaults)


def _is_masked(kind: type[object]) -> bool:
    """Return whether pydantic leaves a field out of what it shows, or shows what code of the class makes of it."""
    if not (issubclass(kind, BaseModel) or is_pydantic_dataclass(kind)):
        return False
    schema = cast("object", TypeAdapter(cast("type[object]", kind)).core_schema)
    # A class that refers to another one which is not there yet has no schema to read.
    return not isinstance(schema, dict) or any(map(_masks, _nodes(cast("object", schema))))


def _masks(node: Mapping[str, object]) -> bool:
    if node.get("serialization_exclude") or node.get("serialization_exclude_if"):
        return True
    serialization = node.get("serialization")
    if not isinstance(serialization, dict):
        return False
    function = cast("dict[str, object]", serialization).get("function")
    # pydantic has such functions for types of its own and of the standard library.
    return function is not None and not str(getattr(function, "__module__", "")).startswith("pydantic.")


def _nodes(schema: object) -> Iterator[Mapping[str, object]]:
    """Yield every mapping of a schema."""
    waiting, seen = [schema], set[int]()
    while waiting:
        node = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, dict):
            members = cast("dict[str, object]", node)
            yield members
            waiting += [item for name, item in members.items() if name not in _NO_SCHEMA]
        elif isinstance(node, list | tuple):
            waiting += cast("list[object]", node)


def rebuilt(value: object, fields: Mapping[str, object]) -> object:
    """Return a copy of a dataclass or model with other fields; none of its code runs."""
    kind = type(value)
    if issubclass(kind, BaseModel):
        # Not by the class itself, which may copy in a way of its own.
        copied = _ROOT_COPY(value) if issubclass(kind, RootModel) else BaseModel.__copy__(cast("BaseModel", value))
        vars(copied).update(fields)
        return copied
    made: object = object.__new__(kind)
    for name, item in fields.items():
        object.__setattr__(made, name, item)
    return made


def form(value: object) -> object:
    """Return the form in which a copy is judged, digested and shown: plain JSON, with decimals as their text."""
    kind = type(value)
    if kind in _SCALARS:
        return value
    if kind is dict:
        return _forms(cast("dict[str, object]", value))
    if kind is list or kind is tuple:
        items = [form(item) for item in cast("Sequence[object]", value)]
        return items if kind is list else tuple(items)
    try:
        return form_of(value)
    except NoFormError:
        fields = _forms(fields_of(value))
    return fields["root"] if isinstance(value, RootModel) else fields


def _forms(members: Mapping[str, object]) -> dict[str, object]:
    return {name: form(item) for name, item in members.items()}
