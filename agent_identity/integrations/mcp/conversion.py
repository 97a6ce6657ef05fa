"""What arguments become before a tool runs: frameworks convert what was sent, so what is judged is converted as well.

FastMCP, MCPServer and fastmcp make ``42`` of ``"42"`` where a tool takes numbers, and one UUID of each of its
spellings. If the raw JSON alone were judged, another spelling would pass a rule. So arguments are let through only
in the form that they have once they are converted, and are judged with the defaults of the tool.

fastmcp says which function a tool stands for. FastMCP and MCPServer do not, so that their tools are known by being
registered after the server is guarded. Where nobody here knows what becomes of arguments (a tool of fastmcp that calls
an API or another server, one that is mounted too), they have to be of the types and in the formats that the schema of
the tool names. Low-level servers hand on what was sent, and that is judged.
"""

import dataclasses
import functools
import importlib
import inspect
import types
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from typing import Any, Final, cast, get_type_hints
from uuid import UUID

from pydantic import AnyUrl, BaseModel, RootModel, SecretBytes, SecretStr, TypeAdapter

from agent_identity.canonical import JSON, encode
from agent_identity.enforcement.failures import kind_of
from agent_identity.errors import ConfigurationError, Denied
from agent_identity.integrations.mcp.binding import Target, members
from agent_identity.integrations.mcp.sdk import is_a

__all__ = ["Conversion", "conversion_of", "settled"]

Conversion = Callable[[str, Mapping[str, object], Mapping[str, object]], Awaitable[Mapping[str, object]]]
"""Of the name of a tool, what was sent and its ``_meta``: the arguments that its function gets."""

_ANYTHING: Final = TypeAdapter[object](Any)
_DEEPEST: Final = 16
"""Transformations that a tool can stand behind, at most."""
_FORMATS: Final[Mapping[str, TypeAdapter[object]]] = {
    name: TypeAdapter(cast("type[object]", kind))
    for kind, names in (
        (UUID, ("uuid",)),
        (AnyUrl, ("uri",)),
        (PurePath, ("path", "file-path", "directory-path")),
        (datetime, ("date-time",)),
        (date, ("date",)),
        (time, ("time",)),
        (timedelta, ("duration",)),
    )
    for name in names
}
"""Formats of texts in a schema that frameworks convert."""


async def settled(
    conversion: Conversion | None, target: Target, meta: Mapping[str, object]
) -> tuple[Mapping[str, object], Denied | None]:
    """Return the arguments as they are judged, and why they cannot be, if so.

    Args:
        conversion: What the server makes of arguments; ``None`` if it hands them on.
        target: The call of a tool.
        meta: What came with it.
    """
    values = target.values
    if conversion is None or target.tool is None:
        return values, None
    try:
        found = await conversion(target.tool, values, meta)
        judged = {key: _judged(of, values[key]) if key in values else _default(of) for key, of in found.items()}
    except Denied as denied:
        return values, denied
    except Exception as error:  # noqa: BLE001 - What cannot be compared is refused, on the record.
        text = (
            f"{target.name}: expected arguments in the very form in which the tool gets them, got another "
            f"({kind_of(error)}); send JSON of the types that its schema names"
        )
        return values, Denied(text, code="bad_arguments")
    return {**values, **judged}, None


def conversion_of(server: object) -> Conversion | None:
    """Return what a server makes of arguments; ``None`` if it hands on what was sent.

    Raises:
        ConfigurationError: It has tools already, of which it does not say the functions.
    """
    for module, name in (("mcp.server.mcpserver", "MCPServer"), ("mcp.server.fastmcp", "FastMCP")):
        if is_a(server, module, name):
            base = getattr(importlib.import_module(module), name)
            if _tools(server, base) != []:
                raise ConfigurationError(
                    "expected an MCP server without tools, got one of which nobody knows what it makes of their "
                    "arguments; guard it before its tools are registered"
                )
            return _of_registered(server, base, importlib.import_module(f"{module}.tools").Tool)
    return functools.partial(_of_fastmcp, server) if is_a(server, "fastmcp.server", "FastMCP") else None


def _of_registered(server: Any, base: Any, kind: Any) -> Conversion:  # noqa: ANN401  They are none of ours.
    """Know the tools that are registered at a server of the SDK from now on.

    What counts is what reaches the class of the SDK in the end, behind every subclass. A tool that came to the server
    in another way is refused: it is not the one that the server listed when it was registered.

    Args:
        server: The server.
        base: The class of the SDK.
        kind: That of its tools.
    """
    known: dict[str, tuple[Any, object]] = {}
    signature = inspect.signature(base.add_tool)

    @functools.wraps(base.add_tool)
    def add_tool(*args: object, **kwargs: object) -> None:
        given = dict(signature.bind(*args, **kwargs).arguments)
        owner = given.pop("self")
        tool = kind.from_function(**given)
        before = _listed(owner, base)
        base.add_tool(*args, **kwargs)
        listed = _listed(owner, base)
        if listed.get(tool.name) is not before.get(tool.name):  # Else the server keeps the first of the name.
            known[tool.name] = tool, listed.get(tool.name)
        for name in known.keys() - listed.keys():
            del known[name]

    _put_below(server, base, {"add_tool": add_tool})

    async def converted(tool: str, values: Mapping[str, object], _: Mapping[str, object]) -> Mapping[str, object]:
        noted, listed = known.get(tool, (None, None))
        if listed is None or _listed(server, base).get(tool) is not listed:
            text = (
                f"{tool}: expected a tool that the guarded server registered, got another; use its add_tool or tool()"
            )
            raise Denied(text, code="bad_arguments")
        metadata = noted.fn_metadata
        return _fields(metadata.arg_model.model_validate(metadata.pre_parse_json(dict(values))))

    return converted


def _put_below(server: object, base: type, changed: Mapping[str, object]) -> None:
    """Put members between a class of the SDK and whatever extends it, for one server.

    Raises:
        ConfigurationError: The class of the server cannot be extended.
    """
    kind = type(server)
    named = {"__module__": kind.__module__, "__qualname__": kind.__qualname__}
    try:
        found = below = type(kind.__name__, (base,), {**changed, **named})
        if kind is not base:
            found = types.new_class(kind.__name__, (kind, below), {}, lambda of: of.update(named))
        object.__setattr__(server, "__class__", found)
    except Exception as error:
        raise ConfigurationError(
            f"expected an MCP server whose class can be extended, got one that cannot ({kind_of(error)}); hand in one "
            "of a class without hooks for subclasses"
        ) from error


def _listed(server: object, base: Any) -> Mapping[str, object]:  # noqa: ANN401  It is none of ours.
    """Return what a server of the SDK lists under each name that one tool has: a part of its schema, itself.

    Two tools have equal schemas and convert in different ways, so that it is the object that counts. Nothing is
    listed by a server that does not tell at once.
    """
    found: dict[str, list[object]] = {}
    for tool in _tools(server, base) or ():
        schema = getattr(tool, "input_schema", None) or tool.inputSchema  # In 2.x (fastmcp warns of the other), in 1.x.
        found.setdefault(tool.name, []).append(schema.get("properties"))
    return {name: of[0] for name, of in found.items() if len(of) == 1}


def _tools(server: object, base: Any) -> Sequence[Any] | None:  # noqa: ANN401  They are none of ours.
    """Return the tools of a server of the SDK, whatever its own class shows; ``None`` if it does not tell at once."""
    listing = cast("Coroutine[object, None, Sequence[Any]]", base.list_tools(server))
    try:
        listing.send(None)
    except StopIteration as done:
        return cast("Sequence[Any]", done.value)
    listing.close()
    return None


async def _of_fastmcp(
    server: Any,  # noqa: ANN401  It is none of ours.
    tool: str,
    values: Mapping[str, object],
    meta: Mapping[str, object],
) -> Mapping[str, object]:
    known = await server.get_tool(tool, _version(members(meta.get("fastmcp")).get("version")))
    if known is None:
        raise LookupError(tool)  # Perhaps it is there for some sessions, so that nobody knows what it makes of them.
    return await _of_tool(known, values)


async def _of_tool(known: object, values: Mapping[str, object], depth: int = 0) -> Mapping[str, object]:
    """Return the arguments that a tool of fastmcp gets, if it is known, through whatever leads to it."""
    tool = cast("Any", known)
    if depth > _DEEPEST:
        raise LookupError(f"expected a tool behind at most {_DEEPEST} others, got a longer way")
    if isinstance(tool, _class("tools.function_tool", "FunctionTool")):
        return _by_function(tool.fn, values)
    if isinstance(tool, _class("tools.tool_transform", "TransformedTool")) and tool.fn is tool.forwarding_fn:
        return await _of_transformed(tool, _as_the_schema_says(tool.parameters, values), depth)
    return _as_the_schema_says(tool.parameters, values)


async def _of_transformed(tool: object, values: Mapping[str, object], depth: int) -> Mapping[str, object]:
    """Return the arguments of a tool that only renames, hides and fills in those of another one."""
    known = cast("Any", tool)
    unset = _class("tools.tool_transform", "NotSet")
    changes = cast("Mapping[str, Any]", known.transform_args)
    if any(change.default_factory is not unset for change in changes.values()):
        return values  # What a factory will make nobody knows before.
    names = {old: old if change.name is unset else change.name for old, change in changes.items()}
    back = {new: old for old, new in names.items() if not changes[old].hide}
    hidden = {old: of.default for old, of in changes.items() if of.hide and of.default is not unset}
    found = await _of_tool(
        known.parent_tool, {back.get(key, key): of for key, of in values.items()} | hidden, depth + 1
    )
    return {names.get(old, old): of for old, of in found.items() if old not in changes or not changes[old].hide}


def _as_the_schema_says(schema: Mapping[str, Any], values: Mapping[str, object]) -> Mapping[str, object]:
    """Return what was sent, with the defaults that a schema names.

    Patterns are left out, since they convert nothing and those of others may take very long; nothing is fetched.

    Raises:
        ValueError: Something is of another type, or not in the one spelling that its format has.
    """
    validators = importlib.import_module("jsonschema.validators")
    kind = validators.validator_for(schema, default=validators.Draft202012Validator)
    changed = dict.fromkeys(("pattern", "patternProperties"), _passes)
    unions = {name: _unambiguous(kind.VALIDATORS[name]) for name in ("anyOf", "oneOf", "type")}
    kind = validators.extend(kind, {**changed, **unions})
    formats = importlib.import_module("jsonschema").FormatChecker(formats=())
    for name in _FORMATS:
        formats.checks(name, raises=ValueError)(functools.partial(_in_format, name))
    registry = importlib.import_module("referencing").Registry()
    if not kind(schema, registry=registry, format_checker=formats).is_valid(dict(values)):
        raise ValueError("expected the types and formats that the schema names, got others")
    known = cast("Mapping[str, Any]", members(schema.get("properties")))
    defaults = {name: of["default"] for name, of in known.items() if "default" in members(of)}
    return defaults | dict(values)


def _passes(*_: object) -> Iterable[object]:
    return ()


def _in_format(name: str, value: object) -> bool:
    """Return whether a text is what a framework that converts it would write.

    Raises:
        ValueError: It is not.
    """
    if isinstance(value, str):
        _judged(_FORMATS[name].validate_python(value), value)
    return True


def _unambiguous(validate: Callable[..., Iterable[object]]) -> Callable[..., Iterable[object]]:
    """Let no number pass as a text where a schema takes both: that is how decimal numbers are described."""

    def validated(validator: object, choices: object, value: object, schema: object) -> Iterable[object]:
        if isinstance(value, str) and isinstance(choices, list) and _reads_as_number(value):
            kinds = [members(of).get("type", of) for of in cast("list[object]", choices)]
            if "number" in kinds or "integer" in kinds:
                yield importlib.import_module("jsonschema").ValidationError("expected a number, got a text")
        yield from validate(validator, choices, value, schema)

    return validated


def _reads_as_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _class(module: str, name: str) -> Any:  # noqa: ANN401  It is none of ours.
    return getattr(importlib.import_module(f"fastmcp.{module}"), name)


def _version(version: object) -> object:
    return _class("utilities.versions", "VersionSpec")(eq=version) if version else None


def _by_function(function: Callable[..., object], values: Mapping[str, object]) -> Mapping[str, object]:
    asked = importlib.import_module("fastmcp.server.dependencies").without_injected_parameters(function)
    signature = inspect.signature(asked)

    def body(*args: object, **kwargs: object) -> Mapping[str, object]:
        taken = signature.bind(*args, **kwargs)
        taken.apply_defaults()
        found = dict(taken.arguments)
        for name in [name for name, of in signature.parameters.items() if of.kind is of.VAR_KEYWORD]:
            found |= found.pop(name)
        return found

    body.__signature__ = signature  # type: ignore[attr-defined]  # pyright: ignore[reportFunctionMemberAccess]
    body.__annotations__ = {**get_type_hints(asked, include_extras=True), "return": object}
    return cast("Mapping[str, object]", TypeAdapter(cast("Any", body)).validate_python(dict(values)))


def _fields(model: BaseModel) -> dict[str, object]:
    """Return the members of a model by the names under which they are sent."""
    found: dict[str, object] = dict(model.model_extra or {})
    for name, of in type(model).model_fields.items():
        alias = name if of.validation_alias is None else of.validation_alias
        if not isinstance(alias, str):
            raise TypeError("expected one name for each member, got several")
        found[alias] = getattr(model, name)
    return found


def _judged(value: object, sent: object) -> object:
    """Return a converted value as constraints see it: what was sent, with the defaults that it got.

    Raises:
        ValueError: It is not what was sent.
    """
    whole, told = value, sent  # As their types are before they are told apart.
    inside = _members(value)
    if inside is not None and isinstance(sent, Mapping):
        known = cast("Mapping[str, object]", sent)
        return {**known, **{key: _judged(of, known[key]) if key in known else _form(of) for key, of in inside.items()}}
    if isinstance(value, (list, tuple)) and isinstance(sent, list):
        return [_judged(*pair) for pair in zip(cast("list[object]", value), cast("list[object]", sent), strict=True)]
    if isinstance(value, AbstractSet) and isinstance(sent, list):
        # The members of a set have no order.
        inner = map(_form, cast("AbstractSet[object]", value))
        if sorted(map(_canonical, inner)) == sorted(map(_canonical, cast("list[object]", sent))):
            return cast("object", sent)
    form = _form(whole)
    if _canonical(form) != _canonical(told):
        raise ValueError("expected the form in which the tool gets it, got another")
    return form


def _form(value: object) -> object:
    """Return what a converted value is in JSON.

    Raises:
        ValueError: It has no form in JSON.
    """
    inside = _members(value)
    if inside is not None:
        return {key: _form(of) for key, of in inside.items()}
    if isinstance(value, RootModel):
        return _form(cast("RootModel[object]", value).root)
    if isinstance(value, (list, tuple, AbstractSet)):
        return [_form(of) for of in cast("Iterable[object]", value)]
    if isinstance(value, (SecretStr, SecretBytes)):
        return _form(value.get_secret_value())
    if isinstance(value, Enum):
        return _form(value.value)
    return _leaf(value)


def _members(value: object) -> Mapping[str, object] | None:
    """Return the members of what is an object in JSON."""
    if isinstance(value, BaseModel):
        return None if isinstance(value, RootModel) else _fields(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {of.name: getattr(value, of.name) for of in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {
            str(_ANYTHING.dump_python(key, mode="json")): of
            for key, of in cast("Mapping[object, object]", value).items()
        }
    return None


def _leaf(value: object) -> object:
    if isinstance(value, PurePath):
        return str(value)
    if not isinstance(value, Decimal):
        return _ANYTHING.dump_python(value, mode="json")
    # As a number it has one form, as text many.
    number = float(value)
    if Decimal(str(number)) != value:
        raise ValueError("expected a number that JSON can hold, got another")
    return number


def _canonical(value: object) -> bytes:
    return encode(cast("JSON", value))


def _default(value: object) -> object:
    """Return a default as constraints see it; one that has no form in JSON passes by reference and satisfies none."""
    try:
        return _form(value)
    except (TypeError, ValueError):
        return value
