"""Words of tools: the names of a tool's arguments, and the values that it lists for some of them."""

import enum
import types
from collections.abc import Collection, Iterable, Mapping
from typing import Annotated, Final, Literal, NamedTuple, Union, get_args, get_origin

from agent_identity._common.narrowing import is_array, is_mapping

_MAX_DEPTH: Final = 8


class ToolWords(NamedTuple):
    """The words that a tool itself puts into the arguments of its calls; they carry no content of others.

    Attributes:
        choices: By argument, the values that it lists.
        names: The names of its arguments; ``None`` if they are not known. Any other name is made up by the caller.
    """

    choices: Mapping[str, frozenset[object]]
    names: Collection[str] | None


NO_WORDS: Final = ToolWords({}, None)


def is_choice(value: object, choices: frozenset[object]) -> bool:
    """Return whether a value, or each element of a list, is one of those that a tool declares."""
    if is_array(value):
        return all(is_choice(item, choices) for item in value if not is_array(item)) and not any(map(is_array, value))
    return type(value) in (str, int) and value in choices


def choices_of_hints(hints: Mapping[str, object]) -> dict[str, frozenset[object]]:
    """Return the values of parameters whose annotations list them: ``Literal`` and enumerations.

    Args:
        hints: The annotations by parameter.
    """
    found = {name: _listed(hint, _MAX_DEPTH) for name, hint in hints.items() if name != "return"}
    return {name: frozenset(values) for name, values in found.items() if values}


def _listed(hint: object, depth: int) -> list[object] | None:
    """Return all values of an annotation, without ``None``; ``None`` if it does not list them."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Literal:
        return _plain(value.value if isinstance(value, enum.Enum) else value for value in parts)
    if isinstance(hint, type) and issubclass(hint, enum.Enum) and not issubclass(hint, enum.Flag):
        return _plain(member.value for member in hint)
    if not depth or not parts:
        return None
    if origin is Annotated or origin in (list, tuple, set, frozenset):
        return _joined(parts[:1], depth) if origin is Annotated else _joined(parts, depth)
    return _joined(parts, depth) if origin in (Union, types.UnionType) else None


def _joined(parts: Iterable[object], depth: int) -> list[object] | None:
    return _together([_listed(part, depth - 1) for part in parts if part not in (type(None), Ellipsis)])


def choices_of_schema(schema: Mapping[str, object] | None) -> dict[str, frozenset[object]]:
    """Return the values of arguments that a JSON Schema lists: ``enum`` and ``const``.

    Args:
        schema: The schema of the arguments; ``None`` if it is unknown.
    """
    found = {name: _enumerated(each, schema or {}, _MAX_DEPTH) for name, each in (properties_of(schema) or {}).items()}
    return {name: frozenset(values) for name, values in found.items() if values}


def properties_of(schema: Mapping[str, object] | None) -> dict[str, object] | None:
    """Return the schema of each argument that a JSON Schema names; ``None`` if it names none."""
    properties = None if schema is None else schema.get("properties")
    return {name: each for name, each in properties.items() if type(name) is str} if is_mapping(properties) else None


def _enumerated(schema: object, root: Mapping[str, object], depth: int) -> list[object] | None:
    """Return all values of a schema, without null; ``None`` if it does not list them."""
    if not depth or not is_mapping(schema):
        return None
    if is_array(listed := schema.get("enum", (schema["const"],) if "const" in schema else None)):
        return _plain(listed)
    if is_array(parts := schema.get("anyOf", schema.get("oneOf"))):
        return _together([_enumerated(part, root, depth - 1) for part in parts if not _is_null(part)])
    if schema.get("type") == "array":
        return _enumerated(schema.get("items"), root, depth - 1)
    return _enumerated(_referred(schema.get("$ref"), root), root, depth - 1)


def _together(lists: list[list[object] | None]) -> list[object] | None:
    """Return all values of several lists; ``None`` if one of these is not known."""
    return None if None in lists else [value for values in lists for value in values or ()]


def _referred(reference: object, root: Mapping[str, object]) -> object:
    definitions = root.get("$defs")
    if type(reference) is not str or not is_mapping(definitions):
        return None
    return definitions.get(reference.removeprefix("#/$defs/"))


def _plain(values: Iterable[object]) -> list[object]:
    return [value for value in values if type(value) in (str, int)]


def _is_null(schema: object) -> bool:
    return is_mapping(schema) and schema.get("type") == "null"
