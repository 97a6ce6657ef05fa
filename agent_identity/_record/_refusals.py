"""Messages for malformed records: the place, and the required form."""

import re
import types
import typing
from collections.abc import Mapping
from typing import Annotated, Final, Literal, cast, get_args, get_origin

from msgspec import Meta

UNKNOWN: Final = "unknown member"
"""Said of an object that has a member too many."""

ABSENT: Final = "missing member"
"""Said of a member that is missing."""

_KIND: Final = "unknown kind of record"
_PATH: Final = re.compile(r"(.*?)(?: - at `\$((?:\.[a-z_0-9]+|\[[0-9]+\])*)`)?", re.DOTALL)
_STEP: Final = re.compile(r"\.([a-z_0-9]+)|\[([0-9]+)\]")
_MISSING: Final = re.compile(r"Object missing required field `([a-z_]+)`|-([a-z_]+)")
_MEMBER: Final = re.compile(r"[a-z_]+(?:\[[0-9]+\])?")


def explained(message: str, members: object, kinds: Mapping[str, type]) -> str:
    """Return the message for a refused record: place and required form. Nothing is quoted from the record.

    Args:
        message: The decoder's message, with a path at its end.
        members: The decoder's input, as plain values, each member once.
        kinds: The type of each kind.
    """
    if message.startswith("record"):
        return message
    match = cast("re.Match[str]", _PATH.fullmatch(message))
    what, path = match[1], match[2] or ""
    if missing := _MISSING.fullmatch(what):
        name = missing[1] or missing[2]
        return f"record{path}.{name}: {ABSENT if path or name != 'kind' else _KIND}"
    if what == "+" or what.startswith("Object contains unknown field"):
        return f"record{path}: {UNKNOWN}"
    if path == ".kind":
        return f"record.kind: {_KIND}"
    if _MEMBER.fullmatch(what):
        path = f"{path}.{what}"
    return f"record{path}: {_expected(path, members, kinds)}"


def _expected(path: str, value: object, kinds: Mapping[str, type]) -> str:
    """Return the required form at a place, or that nothing is there."""
    hint: object = None
    inner = value
    if isinstance(value, dict):
        hint = kinds.get(cast("str", cast("dict[str, object]", value).get("kind")))
    bound: Meta | None = None
    for name, index in cast("list[tuple[str, str]]", _STEP.findall(path)):
        members = typing.get_type_hints(hint, include_extras=True) if isinstance(hint, type) else {}
        step: object = name or int(index)
        hint, bound = _plain(members.get(name) if name else cast("tuple[object, ...]", get_args(hint))[0])
        try:
            inner = cast("dict[object, object]", inner)[step]
        except KeyError:
            return ABSENT
    return _form_of(hint, bound, inner)


def _form_of(hint: object, bound: Meta | None, value: object) -> str:
    """Return the required form of a value of a type with bounds."""
    if get_origin(hint) is tuple:
        many = cast("list[object]", value)
        most = 0 if bound is None or bound.max_length is None else bound.max_length
        return f"{len(many)} items instead of 1 to {most}" if isinstance(value, list) else "not an array"
    if get_origin(hint) is Literal:
        return f"not one of {', '.join(sorted(cast('tuple[str, ...]', get_args(hint))))}"
    if bound is not None and bound.description is not None:
        return f"not {bound.description}"
    return "not an object"


def _plain(hint: object) -> tuple[object, Meta | None]:
    """Return a type without its annotations, and its bounds."""
    if get_origin(hint) in (types.UnionType, typing.Union):
        hint = cast("tuple[object, ...]", get_args(hint))[0]
    if get_origin(hint) is Annotated:
        inner, bound = cast("tuple[object, object]", get_args(hint)[:2])
        return inner, bound if isinstance(bound, Meta) else None
    return hint, None
