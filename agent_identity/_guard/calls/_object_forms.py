"""Dataclasses and pydantic models as arguments: their fields, and copies without shared mutable state.

Fields are read from the state of the object itself, never through its serializers, properties or validators.
An object with more state than its fields, or with hidden fields, has no form.
"""

import dataclasses
import inspect
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from types import GetSetDescriptorType, MemberDescriptorType
from typing import Any, Final, NamedTuple, TypeGuard, TypeVar, cast
from weakref import WeakKeyDictionary

from agent_identity._common.models import is_root_model, models
from agent_identity._common.narrowing import is_array, is_dict, is_object, is_plain_array, is_plain_dict
from agent_identity._constraints.value_forms import DecimalText, NoFormError, form_of

_Key = TypeVar("_Key")

_FIELDS_SET: Final = "__pydantic_fields_set__"
_EMPTY: Final = ("__pydantic_extra__", "__pydantic_private__")
"""Names of model state besides the fields: the set of supplied fields; and members that hide something."""

_NO_SCHEMA: Final = frozenset({"default", "expected", "metadata"})
"""Schema keys whose values are data and functions, not schemas."""

_OWN_WAYS: Final = frozenset({"__new__", "__getattribute__", "__del__"})
"""Methods of a class that customize creation, access or destruction, or have state invisible to Python."""

_SCALARS: Final = frozenset({str, bool, int, float, type(None), DecimalText})


class _Shape(NamedTuple):
    """Storage of an object's state, by class."""

    defaults: Mapping[str, object]
    """The fields, with the class-level values of objects without an own value."""

    slots: Sequence[MemberDescriptorType]
    has_dict: bool


class Taken(NamedTuple):
    """The state read from an object, once: its fields, and the rest that a copy needs."""

    kind: type[object]
    fields: Mapping[str, object]
    rest: Mapping[str, object]


_SHAPES: Final[WeakKeyDictionary[type, _Shape | None]] = WeakKeyDictionary()


def taken(value: object) -> Taken:
    """Return the fields of a dataclass or model by name, ignoring its own accessors.

    Raises:
        NoFormError: The object is neither, hides something, or has more state than its fields.
    """
    kind = type(value)
    if not (issubclass(kind, models()) or dataclasses.is_dataclass(kind)):
        raise NoFormError
    if kind not in _SHAPES:
        _SHAPES[kind] = _shape_of(kind)
    shape = _SHAPES[kind]
    if shape is None:
        raise NoFormError
    state = _state(value, shape)
    fields = {name: state.pop(name, default) for name, default in shape.defaults.items()}
    state.pop("__orig_class__", None)  # Left by `Box[int](1)`.
    rest = _rest(state) if issubclass(kind, models()) else {}
    if state or any(field is dataclasses.MISSING for field in fields.values()):
        raise NoFormError
    return Taken(kind, fields, rest)


def _state(value: object, shape: _Shape) -> dict[str, object]:
    """Return the whole state of an object, from its ``__dict__`` and slots; ``__getattr__`` does not run."""
    held: object = object.__getattribute__(value, "__dict__") if shape.has_dict else {}
    if not is_plain_dict(held) or not is_object(held):
        raise NoFormError
    state = dict(held)
    for slot in shape.slots:
        with suppress(AttributeError):  # The slot is empty.
            item: object = slot.__get__(value)
            if slot.__name__ in state:
                raise NoFormError  # Two slots, or a slot and an attribute, only one of which is visible.
            state[slot.__name__] = item
    if any(type(name) is not str for name in state):
        raise NoFormError
    return state


def _rest(state: dict[str, object]) -> dict[str, object]:
    """Remove pydantic's own state from the state of a model, and return a copy of it."""
    rest: dict[str, object] = {name: state.pop(name) for name in (*_EMPTY, _FIELDS_SET) if name in state}
    for name in _EMPTY:
        hidden = rest.get(name)
        if hidden is None:
            continue
        if type(hidden) is not dict or hidden:
            raise NoFormError
        rest[name] = {}
    fields_set = rest.get(_FIELDS_SET)
    if not _is_set(fields_set):
        raise NoFormError
    rest[_FIELDS_SET] = names = set(fields_set)
    if any(type(name) is not str for name in names):
        raise NoFormError
    return rest


def _is_set(value: object) -> TypeGuard[set[object]]:
    return type(value) is set


def _shape_of(kind: type[object]) -> _Shape | None:
    """Return the shape of a class, or None if its objects hide something, or differ by identity alone."""
    if issubclass(kind, models()):
        names = list(kind.model_fields)
    else:
        names = [field.name for field in dataclasses.fields(cast("Any", kind))]
    fields = {name: inspect.getattr_static(kind, name, dataclasses.MISSING) for name in names}
    slotted = {name: dataclasses.MISSING for name, item in fields.items() if type(item) is MemberDescriptorType}
    defaults: dict[str, object] = {**fields, **slotted}
    members = [(name, item) for base in kind.__mro__[:-1] for name, item in vars(base).items()]
    # Without fields, only identity distinguishes objects.
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
    """Return whether pydantic excludes a field, or serializes it with code of the class."""
    if not issubclass(kind, models()) and "pydantic.dataclasses" not in sys.modules:
        return False
    from pydantic import TypeAdapter  # noqa: PLC0415  Few values are models.
    from pydantic.dataclasses import is_pydantic_dataclass  # noqa: PLC0415

    if not (issubclass(kind, models()) or is_pydantic_dataclass(kind)):
        return False
    adapter: TypeAdapter[object] = TypeAdapter(kind)
    schema: object = adapter.core_schema
    # A class with an unresolved forward reference has no readable schema.
    return not is_dict(schema) or any(map(_masks, _nodes(schema)))


def _masks(node: Mapping[object, object]) -> bool:
    if node.get("serialization_exclude") or node.get("serialization_exclude_if"):
        return True
    serialization = node.get("serialization")
    if not is_dict(serialization):
        return False
    function = serialization.get("function")
    # pydantic has such functions for its own and the standard library's types.
    return function is not None and not str(getattr(function, "__module__", "")).startswith("pydantic.")


def _nodes(schema: object) -> Iterator[Mapping[object, object]]:
    """Yield every mapping of a schema."""
    waiting, visited = [schema], set[int]()
    while waiting:
        node = waiting.pop()
        if id(node) in visited:
            continue
        visited.add(id(node))
        if is_dict(node):
            yield node
            waiting += [item for name, item in node.items() if name not in _NO_SCHEMA]
        elif is_array(node):
            waiting += node


def rebuilt(held: Taken, fields: Mapping[str, object]) -> object:
    """Rebuild an object from the read state, with copies of its fields; none of its code runs."""
    made: object = object.__new__(held.kind)
    for name, item in (*fields.items(), *held.rest.items()):
        object.__setattr__(made, name, item)
    return made


def form(value: object) -> object:
    """Return the judged, digested and shown form of a copy: plain JSON, with decimals as text."""
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
    return fields["root"] if is_root_model(kind) else fields


def _forms(members: Mapping[_Key, object]) -> dict[_Key, object]:
    return {name: form(item) for name, item in members.items()}
