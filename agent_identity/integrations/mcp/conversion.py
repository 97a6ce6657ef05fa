"""Argument conversion by server frameworks: the guard judges converted arguments.

FastMCP, MCPServer and fastmcp convert ``"42"`` to ``42`` for a tool that takes numbers, and every spelling of a
UUID to one value. If only the raw JSON were judged, another spelling would bypass a rule. So arguments must be
in their converted form, and are judged with the defaults of the tool.

fastmcp reveals the function of a tool. FastMCP and MCPServer do not, so their tools are learned when they are
registered after the server is guarded. If the conversion is unknown (a tool of fastmcp that calls
an API or another server, or a mounted one), arguments must have the types and formats of the tool's
schema. Low-level servers pass arguments on unchanged, and these are judged.
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

from agent_identity.adapters import error_type
from agent_identity.canonical import JSON, encode
from agent_identity.errors import ConfigurationError, Denied
from agent_identity.integrations.mcp.binding import Target, members
from agent_identity.integrations.mcp.sdk import is_a
from agent_identity.integrations.narrowing import is_list, is_mapping

__all__ = ["Conversion", "conversion_of", "settled"]

Conversion = Callable[[str, Mapping[str, object], Mapping[str, object]], Awaitable[Mapping[str, object]]]
"""Converts arguments: from the name of a tool, its arguments and their ``_meta``, to those of its function."""

_ANYTHING: Final = TypeAdapter[object](Any)
_DEEPEST: Final = 16
"""Maximum number of nested tool transformations."""
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
"""Text formats of a schema that frameworks convert."""


async def settled(
    conversion: Conversion | None, target: Target, meta: Mapping[str, object]
) -> tuple[Mapping[str, object], Denied | None]:
    """Return the arguments to judge, with a refusal if they cannot be judged.

    Args:
        conversion: The conversion of the server; ``None`` if it passes arguments on.
        target: The call of a tool.
        meta: Its ``_meta``.
    """
    values = target.values
    if conversion is None or target.tool is None:
        return values, None
    try:
        converted = await conversion(target.tool, values, meta)
        judged = {key: _judged(of, values[key]) if key in values else _default(of) for key, of in converted.items()}
    except Denied as denied:
        return values, denied
    except Exception as error:  # noqa: BLE001 - An uncomparable call is refused, on the record.
        text = (
            f"{target.name}: the arguments differ from their form after conversion ({error_type(error)}); send JSON of "
            "the types that its schema names"
        )
        return values, Denied(text, code="bad_arguments")
    return {**values, **judged}, None


def conversion_of(server: object) -> Conversion | None:
    """Return the conversion of a server; ``None`` if it passes arguments on.

    Raises:
        ConfigurationError: It has tools already, whose functions are unknown.
    """
    for module, name in (("mcp.server.mcpserver", "MCPServer"), ("mcp.server.fastmcp", "FastMCP")):
        if is_a(server, module, name):
            base = getattr(importlib.import_module(module), name)
            if _tools(server, base) != []:
                raise ConfigurationError(
                    "the MCP server has tools already, whose argument conversion is unknown; guard it before "
                    "its tools are registered"
                )
            return _of_registered(server, base, importlib.import_module(f"{module}.tools").Tool)
    return functools.partial(_of_fastmcp, server) if is_a(server, "fastmcp.server", "FastMCP") else None


def _of_registered(server: Any, base: Any, kind: Any) -> Conversion:  # noqa: ANN401  They are none of ours.
    """Learn the tools registered at a server of the SDK from now on.

    The arguments of the SDK class's own method count, below every subclass. A tool that reached the server
    in another way is refused: it is not the one that the server listed at registration.

    Args:
        server: The server.
        base: The class of the SDK.
        kind: The class of its tools.
    """
    known: dict[str, tuple[Any, object]] = {}
    signature = inspect.signature(base.add_tool)

    @functools.wraps(base.add_tool)
    def add_tool(*args: object, **kwargs: object) -> None:
        bound_arguments = dict(signature.bind(*args, **kwargs).arguments)
        owner = bound_arguments.pop("self")
        tool = kind.from_function(**bound_arguments)
        before = _listed(owner, base)
        base.add_tool(*args, **kwargs)
        listed = _listed(owner, base)
        if listed.get(tool.name) is not before.get(tool.name):  # Otherwise the server keeps the first of the name.
            known[tool.name] = tool, listed.get(tool.name)
        for name in known.keys() - listed.keys():
            del known[name]

    _put_below(server, base, {"add_tool": add_tool})

    async def converted(tool: str, values: Mapping[str, object], _: Mapping[str, object]) -> Mapping[str, object]:
        noted, listed = known.get(tool, (None, None))
        if listed is None or _listed(server, base).get(tool) is not listed:
            text = f"{tool}: the guarded server did not register the tool; use its add_tool or tool()"
            raise Denied(text, code="bad_arguments")
        metadata = noted.fn_metadata
        return _fields(metadata.arg_model.model_validate(metadata.pre_parse_json(dict(values))))

    return converted


def _put_below(server: object, base: type, changed: Mapping[str, object]) -> None:
    """Insert members between a class of the SDK and its subclasses, for one server.

    Raises:
        ConfigurationError: The class of the server cannot be extended.
    """
    kind = type(server)
    named = {"__module__": kind.__module__, "__qualname__": kind.__qualname__}
    try:
        made = below = type(kind.__name__, (base,), {**changed, **named})
        if kind is not base:
            made = types.new_class(kind.__name__, (kind, below), {}, lambda of: of.update(named))
        object.__setattr__(server, "__class__", made)
    except Exception as error:
        raise ConfigurationError(
            f"the class of the MCP server cannot be extended ({error_type(error)}); pass a server "
            "of a class without hooks for subclasses"
        ) from error


def _listed(server: object, base: Any) -> Mapping[str, object]:  # noqa: ANN401  It is none of ours.
    """Return the listed schema properties of a server of the SDK, under each name of a single tool.

    Two tools may have equal schemas and convert differently, so the object identifies the tool. A server that
    does not list at once has none.
    """
    by_name: dict[str, list[object]] = {}
    for tool in _tools(server, base) or ():
        schema = getattr(tool, "input_schema", None) or tool.inputSchema  # In 2.x (fastmcp warns of the other), in 1.x.
        by_name.setdefault(tool.name, []).append(schema.get("properties"))
    return {name: of[0] for name, of in by_name.items() if len(of) == 1}


def _tools(server: object, base: Any) -> Sequence[Any] | None:  # noqa: ANN401  They are none of ours.
    """Return the tools of a server of the SDK, bypassing its own class; ``None`` if it does not list at once."""
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
        raise LookupError(tool)  # It may exist for some sessions only, with an unknown conversion.
    return await _of_tool(known, values)


async def _of_tool(known: object, values: Mapping[str, object], depth: int = 0) -> Mapping[str, object]:
    """Return the arguments that a tool of fastmcp gets, if known, through all its transformations."""
    tool = cast("Any", known)
    if depth > _DEEPEST:
        raise LookupError(f"the tool has more than {_DEEPEST} transformations")
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
        return values  # A factory's result is unknown in advance.
    names = {old: old if change.name is unset else change.name for old, change in changes.items()}
    back = {new: old for old, new in names.items() if not changes[old].hide}
    hidden = {old: of.default for old, of in changes.items() if of.hide and of.default is not unset}
    inner = await _of_tool(
        known.parent_tool, {back.get(key, key): of for key, of in values.items()} | hidden, depth + 1
    )
    return {names.get(old, old): of for old, of in inner.items() if old not in changes or not changes[old].hide}


def _as_the_schema_says(schema: Mapping[str, Any], values: Mapping[str, object]) -> Mapping[str, object]:
    """Return the sent arguments, with the defaults of the schema.

    Patterns are skipped, since they convert nothing and may take very long; nothing is fetched.

    Raises:
        ValueError: An argument has another type, or not the canonical spelling of its format.
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
        raise ValueError("the arguments do not have the types and formats of the schema")
    known = cast("Mapping[str, Any]", members(schema.get("properties")))
    defaults = {name: of["default"] for name, of in known.items() if "default" in members(of)}
    return defaults | dict(values)


def _passes(*_: object) -> Iterable[object]:
    return ()


def _in_format(name: str, value: object) -> bool:
    """Return whether a text is the canonical spelling that a converting framework would write.

    Raises:
        ValueError: It is not.
    """
    if isinstance(value, str):
        _judged(_FORMATS[name].validate_python(value), value)
    return True


def _unambiguous(validate: Callable[..., Iterable[object]]) -> Callable[..., Iterable[object]]:
    """Refuse numbers as texts where a schema takes both: that is how decimal numbers are described."""

    def validated(validator: object, choices: object, value: object, schema: object) -> Iterable[object]:
        if isinstance(value, str) and is_list(choices) and _reads_as_number(value):
            kinds = [members(of).get("type", of) for of in choices]
            if "number" in kinds or "integer" in kinds:
                yield importlib.import_module("jsonschema").ValidationError("the value is a text; send a number")
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
    bare = importlib.import_module("fastmcp.server.dependencies").without_injected_parameters(function)
    signature = inspect.signature(bare)

    def body(*args: object, **kwargs: object) -> Mapping[str, object]:
        taken = signature.bind(*args, **kwargs)
        taken.apply_defaults()
        arguments = dict(taken.arguments)
        for name in [name for name, of in signature.parameters.items() if of.kind is of.VAR_KEYWORD]:
            arguments |= arguments.pop(name)
        return arguments

    body.__signature__ = signature  # type: ignore[attr-defined]  # pyright: ignore[reportFunctionMemberAccess]
    body.__annotations__ = {**get_type_hints(bare, include_extras=True), "return": object}
    return cast("Mapping[str, object]", TypeAdapter(cast("Any", body)).validate_python(dict(values)))


def _fields(model: BaseModel) -> dict[str, object]:
    """Return the members of a model by the names under which they are sent."""
    sent: dict[str, object] = dict(model.model_extra or {})
    for name, of in type(model).model_fields.items():
        alias = name if of.validation_alias is None else of.validation_alias
        if not isinstance(alias, str):
            raise TypeError("a member has several names")
        sent[alias] = getattr(model, name)
    return sent


def _judged(value: object, sent: object) -> object:
    """Return a converted value for constraints: the sent value, with its defaults.

    Raises:
        ValueError: It differs from the sent value.
    """
    whole, raw = value, sent  # Typed before the branches narrow them.
    inside = _members(value)
    if inside is not None and is_mapping(sent):
        known = sent
        return {**known, **{key: _judged(of, known[key]) if key in known else _form(of) for key, of in inside.items()}}
    if isinstance(value, (list, tuple)) and is_list(sent):
        return [_judged(*pair) for pair in zip(cast("list[object]", value), sent, strict=True)]
    if isinstance(value, AbstractSet) and isinstance(sent, list):
        # The members of a set have no order.
        inner = map(_form, cast("AbstractSet[object]", value))
        if sorted(map(_canonical, inner)) == sorted(map(_canonical, cast("list[object]", sent))):
            return cast("object", sent)
    form = _form(whole)
    if _canonical(form) != _canonical(raw):
        raise ValueError("the value differs from its form after conversion")
    return form


def _form(value: object) -> object:
    """Return a converted value as JSON.

    Raises:
        ValueError: It has no JSON form.
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
    """Return the members of a value that is an object in JSON."""
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
        raise ValueError("the number does not fit into JSON")
    return number


def _canonical(value: object) -> bytes:
    return encode(cast("JSON", value))


def _default(value: object) -> object:
    """Return a default for constraints; one without a JSON form is passed by reference and satisfies none."""
    try:
        return _form(value)
    except (TypeError, ValueError):
        return value
