"""JSON Schema of records and of the lines that hold them, made from the types that decode them."""

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Final, TypeAlias, cast, get_origin

import msgspec

from agent_identity._record import _member_forms as member_forms
from agent_identity._record import parts, schema
from agent_identity._record.parts import FIRST, Form

_Schema: TypeAlias = dict[str, object]

_PATTERN: Final = re.compile(r"\\A(?:\(\?!(.+?)\\Z\))?(.+)\\Z", re.DOTALL)
_ANY: Final = r"[\s\S]"
_ABOUT: Final = (
    "A record of agent_identity, version 1. The page docs/reference/record.md is normative. Beyond this schema it asks "
    "for canonical bytes (RFC 8785), for identifiers without invisible characters, and for printable lines."
)


def json_schema() -> _Schema:
    """Return the JSON Schema of a record, in the dialect 2020-12.

    ``$defs`` has each kind and each part, ``Detail``, and ``Line``: a line of a stream, with record, detail and MAC.
    """
    _, made = msgspec.json.schema_components((schema.AnyRecord, schema.Detail), ref_template="#/$defs/{name}")
    forms = {str(msgspec.json.schema(form)): name for name, form in _forms()}
    shapes = {name: _part(name, cast("_Schema", _plain(part, forms))) for name, part in made.items()}
    texts = {name: _plain(msgspec.json.schema(form), {}) for name, form in _forms()}
    kinds = [{"if": _kind(name), "then": _ref(kind.__name__)} for name, kind in sorted(schema.KIND_TYPES.items())]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Record",
        "description": _ABOUT,
        "type": "object",
        "properties": {"kind": {"enum": sorted(schema.KINDS)}},
        "required": ["kind"],
        "allOf": kinds,
        "$defs": dict(sorted({**shapes, **texts, "Line": _line()}.items())),
    }


def _forms() -> Iterator[tuple[str, object]]:
    """Return the named forms of texts."""
    named = cast("Mapping[str, object]", vars(member_forms))
    return ((name, form) for name, form in named.items() if not name.startswith("_") and get_origin(form) is Annotated)


def _ref(name: str) -> _Schema:
    return {"$ref": f"#/$defs/{name}"}


def _kind(name: str) -> _Schema:
    return {"properties": {"kind": {"const": name}}, "required": ["kind"]}


def _line() -> _Schema:
    return {
        "description": "A line of a stream. Only an outcome that commits to a detail has one.",
        "type": "object",
        "properties": {"record": {"$ref": "#"}, "detail": _ref("Detail"), "mac": _ref("Digest")},
        "required": ["record", "mac"],
        "additionalProperties": False,
        "dependentSchemas": {"detail": {"properties": {"record": {"required": ["detail"]}}}},
    }


def _plain(value: object, forms: Mapping[str, str]) -> object:
    """Return a part of a schema of msgspec in the words of this one: a member that is unknown is left out, never null.

    Args:
        value: The part.
        forms: The names of texts that are defined once, by their schemas.
    """
    if isinstance(value, list):
        return [_plain(item, forms) for item in cast("list[object]", value)]
    if not isinstance(value, dict):
        return value
    members = cast("_Schema", value)
    if "anyOf" in members:
        return _plain(cast("list[object]", members["anyOf"])[0], forms)
    if members.get("type") == "boolean":
        return {"const": True}
    if (name := forms.get(str(members))) is not None:
        return _ref(name)
    found = {key: _plain(inner, forms) for key, inner in members.items() if key not in ("properties", "title")}
    if "properties" in members:
        named = cast("_Schema", members["properties"])
        found["properties"] = {name: _plain(inner, forms) for name, inner in named.items()}
    return _texts(found)


def _texts(found: _Schema) -> _Schema:
    """Return a part with the first line of its description, and with its pattern in the syntax of JSON Schema."""
    if "description" in found:
        found["description"] = str(found["description"]).partition("\n")[0]
    return found | _whole(str(found["pattern"])) if "pattern" in found else found


def _whole(pattern: str) -> _Schema:
    """Return a pattern of a form in the syntax that JSON Schema shares with most languages: without lookahead."""
    refused, permitted = cast("re.Match[str]", _PATTERN.fullmatch(pattern)).groups()
    refused = r"\n$" if refused is None else rf"^{refused}$|\n$"  # In some, $ also matches before a last line feed.
    return {"pattern": f"^{permitted.replace('(?s:.)', _ANY)}$", "not": {"pattern": refused}}


def _part(name: str, found: _Schema) -> _Schema:
    """Add to the schema of a part or kind how its members depend on each other, in the constants of its type."""
    kind = cast("type[msgspec.Struct]", {**vars(parts), **vars(schema)}[name])
    rules: list[_Schema] = []
    if {"seq", "prev"} <= set(kind.__struct_fields__):
        first = {"properties": {"seq": {"const": FIRST}}, "required": ["seq"]}
        rules.append({"if": first, "then": _without("prev"), "else": {"required": ["prev"]}})
    if forms := cast("tuple[Form, ...]", getattr(kind, "FORMS", ())):
        rules.append({"anyOf": [_form(form, forms) for form in forms]})
    if one := cast("tuple[str, ...]", getattr(kind, "NEEDS_ONE", ())):
        rules.append({"anyOf": [{"required": [name]} for name in one]})
    if issubclass(kind, schema.Record):
        first = {"const": FIRST}
        place = {"seq": first if kind is schema.StreamStart else {"not": first}}
        refused = {part: _without(*names) for part, names in kind.REFUSED.items()}
        rules.append({"properties": {"stream": {"properties": place}, **refused}})
    return {**found, "allOf": rules} if rules else found


def _form(form: Form, forms: tuple[Form, ...]) -> _Schema:
    """Return one of several forms of an object: what it requires, and without what only the others permit."""
    others = {name for other in forms for names in other for name in names}
    return {"required": list(form[0]), **_without(*sorted(others.difference(*form)))}


def _without(*names: str) -> _Schema:
    return {"properties": dict.fromkeys(names, False)}
