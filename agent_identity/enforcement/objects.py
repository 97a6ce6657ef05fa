"""Dataclasses and pydantic models as arguments: their fields, and copies that share nothing that can change.

The fields are read from the state of the object itself, never through its serializers, properties or validators.
An object whose state is more than its fields, or that keeps some of them from being shown, has none to read.
"""

import dataclasses
import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from types import GetSetDescriptorType, MemberDescriptorType
from typing import Any, Final, NamedTuple, TypeGuard, TypeVar, cast
from weakref import WeakKeyDictionary

from pydantic import BaseModel, RootModel, TypeAdapter
from pydantic.dataclasses import is_pydantic_dataclass

from agent_identity.authority import DecimalText, NoFormError, form_of
from agent_identity.narrowing import is_array, is_dict, is_object, is_plain_array, is_plain_dict

__all__ = ["Taken", "form", "rebuilt", "taken"]

_Key = TypeVar("_Key")

_FIELDS_SET: Final = "__pydantic_fields_set__"
_EMPTY: Final = ("__pydantic_extra__", "__pydantic_private__")
"""Names of what a model holds beside its fields: which of them were given; and members that hide something."""

_NO_SCHEMA: Final = frozenset({"default", "expected", "metadata"})
"""Keys of a schema under which there are values and functions, and no schemas."""

_OWN_WAYS: Final = frozenset({"__new__", "__getattribute__", "__del__"})
"""Methods of a class whose objects are made, read or ended in its own way, or have state that Python does not see."""

_SCALARS: Final = frozenset({str, bool, int, float, type(None), DecimalText})


class _Shape(NamedTuple):
    """Where the objects of a class hold what they hold."""

    defaults: Mapping[str, object]
    """The fields, with the values that objects have without holding them."""

    slots: Sequence[MemberDescriptorType]
    has_dict: bool


class Taken(NamedTuple):
    """What was read from an object, once: its fields, and what else a copy of it has to have."""

    kind: type[object]
    fields: Mapping[str, object]
    rest: Mapping[str, object]


_SHAPES: Final[WeakKeyDictionary[type, _Shape | None]] = WeakKeyDictionary()


def taken(value: object) -> Taken:
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
    state = _state(value, shape)
    fields = {name: state.pop(name, default) for name, default in shape.defaults.items()}
    state.pop("__orig_class__", None)  # Left by `Box[int](1)`.
    rest = _rest(state) if issubclass(kind, BaseModel) else {}
    if state or any(field is dataclasses.MISSING for field in fields.values()):
        raise NoFormError
    return Taken(kind, fields, rest)


def _state(value: object, shape: _Shape) -> dict[str, object]:
    """Return all that an object holds, in its ``__dict__`` and its slots; ``__getattr__`` does not run."""
    held: object = object.__getattribute__(value, "__dict__") if shape.has_dict else {}
    if not is_plain_dict(held) or not is_object(held):
        raise NoFormError
    state = dict(held)
    for slot in shape.slots:
        with suppress(AttributeError):  # It holds nothing.
            item: object = slot.__get__(value)
            if slot.__name__ in state:
                raise NoFormError  # Two slots, or a slot and an attribute, of which only one can be seen.
            state[slot.__name__] = item
    if any(type(name) is not str for name in state):
        raise NoFormError
    return state


def _rest(state: dict[str, object]) -> dict[str, object]:
    """Take from the state of a model what pydantic itself keeps there, and return it in objects of its own."""
    rest: dict[str, object] = {name: state.pop(name) for name in (*_EMPTY, _FIELDS_SET) if name in state}
    for name in _EMPTY:
        hidden = rest.get(name)
        if hidden is None:
            continue
        if type(hidden) is not dict or hidden:
            raise NoFormError
        rest[name] = {}
    given = rest.get(_FIELDS_SET)
    if not _is_set(given):
        raise NoFormError
    rest[_FIELDS_SET] = names = set(given)
    if any(type(name) is not str for name in names):
        raise NoFormError
    return rest


def _is_set(value: object) -> TypeGuard[set[object]]:
    return type(value) is set


def _shape_of(kind: type[object]) -> _Shape | None:
    """Return the shape of a class, or None if its objects hide something, or are told apart by identity alone."""
    if issubclass(kind, BaseModel):
        names = list(kind.model_fields)
    else:
        names = [field.name for field in dataclasses.fields(cast("Any", kind))]
    found = {name: inspect.getattr_static(kind, name, dataclasses.MISSING) for name in names}
    slotted = {name: dataclasses.MISSING for name, item in found.items() if type(item) is MemberDescriptorType}
    defaults: dict[str, object] = {**found, **slotted}
    members = [(name, item) for base in kind.__mro__[:-1] for name, item in vars(base).items()]
    # Without a field, only its identity can tell an object from another one.
    if not names or any(map(inspect.isdatadescriptor, defaults.values())) or _has_own_way(members) or _is_masked(kind):
        return None
    slots = [item for _, item in members if type(item) is MemberDescriptorType]
    return _Shape(defaults, slots, any(name == "__dict__" for name, _ in members))


def _has_own_way(members: Sequence[tuple[str, object]]) -> bool:
    return any(
        name in _OWN_WAYS or (name == "__dict__" and type(member) is not GetSetDescriptorType)
        for name, member in members
    )


def _is_masked(kind: type[object]) -> bool:
    """Return whether pydantic leaves a field out of what it shows, or shows what code of the class makes of it."""
    if not (issubclass(kind, BaseModel) or is_pydantic_dataclass(kind)):
        return False
    adapter: TypeAdapter[object] = TypeAdapter(kind)
    schema: object = adapter.core_schema
    # A class that refers to another one which is not there yet has no schema to read.
    return not is_dict(schema) or any(map(_masks, _nodes(schema)))


def _masks(node: Mapping[object, object]) -> bool:
    if node.get("serialization_exclude") or node.get("serialization_exclude_if"):
        return True
    serialization = node.get("serialization")
    if not is_dict(serialization):
        return False
    function = serialization.get("function")
    # pydantic has such functions for types of its own and of the standard library.
    return function is not None and not str(getattr(function, "__module__", "")).startswith("pydantic.")


def _nodes(schema: object) -> Iterator[Mapping[object, object]]:
    """Yield every mapping of a schema."""
    waiting, seen = [schema], set[int]()
    while waiting:
        node = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if is_dict(node):
            yield node
            waiting += [item for name, item in node.items() if name not in _NO_SCHEMA]
        elif is_array(node):
            waiting += node


def rebuilt(held: Taken, fields: Mapping[str, object]) -> object:
    """Return an object like the one that was read, with copies of its fields; none of its code runs."""
    made: object = object.__new__(held.kind)
    for name, item in (*fields.items(), *held.rest.items()):
        object.__setattr__(made, name, item)
    return made


def form(value: object) -> object:
    """Return the form in which a copy is judged, digested and shown: plain JSON, with decimals as their text."""
    kind = type(value)
    if kind in _SCALARS:
        return value
    if is_plain_dict(value):
        return _forms(value)
    if is_plain_array(value):
        items = [form(item) for item in value]
        return items if kind is list else tuple(items)
    try:
        return form_of(value)
    except NoFormError:
        fields = _forms(taken(value).fields)
    return fields["root"] if issubclass(kind, RootModel) else fields


def _forms(members: Mapping[_Key, object]) -> dict[_Key, object]:
    return {name: form(item) for name, item in members.items()}
