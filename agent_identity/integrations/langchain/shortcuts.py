"""What LangChain works out at each call of a tool, worked out once.

Most of the time of a bare call goes into introspection: which arguments a framework fills in, which fields have
defaults, which parameters take a configuration. Guarded tools give the same answers sooner. A shortcut stands in the
place of one method of LangChain, only where that method's source is one that it was written for, and only for schemas
of which it is known that the answer is the same; in every other case the method of LangChain runs.
"""

import hashlib
import inspect
import re
import warnings
from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import EnumMeta
from types import FunctionType, NoneType, UnionType
from typing import Final, Literal, Union, cast, final, get_args, get_origin, get_type_hints
from uuid import UUID
from weakref import WeakKeyDictionary

from langchain_core.runnables import RunnableConfig
from langchain_core.tools import BaseTool, StructuredTool
from pydantic import BaseModel, RootModel
from pydantic.fields import FieldInfo

from agent_identity.integrations.langchain.parameters import is_plain

__all__ = ["Facts", "asks_nothing", "facts_of", "shortcuts", "source_of", "stock_runs"]

_Body = Callable[..., object]
_Input = Mapping[str, object]

_PARSE: Final = "_parse_input"
_FILTER: Final = "_filter_injected_args"
_INJECTED: Final = "_injected_args_keys"
_SOURCES: Final[Mapping[str, frozenset[str]]] = {
    _PARSE: frozenset(  # langchain-core 1.3 and 1.4, 1.5, 1.6 to 1.8.
        {"0d92626a2243c05683352a5d8b035070", "feb8e44a21633b182a5a6d4e490bf7ed", "9399e4931b9d674719f355fae7eb8250"}
    ),
    _FILTER: frozenset({"31607d597f1b628e161a86758d0ba910", "f2bc569ffac5e97a796a72500cd1e4dc"}),  # 1.3; from 1.5 on.
    "_run": frozenset({"ef8eece97a87108511cdb677471bec35", "6d3b7b43dbd8e9ab7c1d541217d9e1f0"}),  # 1.0; from 1.7 on.
    "_arun": frozenset({"ab8e523c98336e4af69637b50e1fee84", "d43271425b72dfbe905adab40701418a"}),  # 1.0; from 1.7 on.
}
"""The first half of the SHA-256 of each source that a shortcut was compared with, without docstring and white space."""

_DOCSTRING: Final = re.compile(r'"""[\s\S]*?"""')
_PLAIN: Final[frozenset[object]] = frozenset(
    {str, int, float, bool, bytes, NoneType, date, datetime, time, timedelta, Decimal, UUID}
)
_CONTAINERS: Final = frozenset({list, dict, set, frozenset, tuple, Union, UnionType})
_EMPTY: Final = (None, list, dict, set, tuple)  # What a factory of anybody's makes, each time, cannot be told.
_HARMLESS: Final = ("annotated_types", "pydantic._internal._fields")
_VARIADIC: Final = frozenset({"args", "kwargs"})


@final
class Facts:
    """What is known about a schema whose arguments can be taken by the short way.

    Attributes:
        fields: The names of its fields, none of which a framework fills in.
        plain: Whether a field that was not given has its default for certain.
        validator: What validates; a schema that is built anew has another one.
    """

    __slots__ = ("_always", "_names", "_validate", "fields", "plain", "validator")

    def __init__(self, schema: type[BaseModel]) -> None:
        fields = schema.model_fields
        self.fields = tuple(fields)
        self.plain = is_plain(schema)
        self.validator: object = schema.__pydantic_validator__
        self._always = frozenset(n for n, field in fields.items() if not field.is_required()) - _VARIADIC
        self._names = None if fields.keys() & _VARIADIC else frozenset(fields)
        self._validate = cast("Callable[[object], BaseModel]", schema.__pydantic_validator__.validate_python)

    def arguments(self, given: Mapping[str, object]) -> dict[str, object]:
        """Return the arguments that the function gets: those that were named, and those that have a default.

        Raises:
            ValidationError: They do not fit.
        """
        valid = self._validate(given)
        # The values and not a dump of them: a tool gets its models as models.
        values = vars(valid)
        if values.keys() == self._names:
            return values.copy()  # What has no default was named, because there are no aliases.
        named = valid.model_fields_set
        return {
            name: getattr(valid, name) for name in self.fields if name in given or name in self._always or name in named
        }


_LANGCHAIN: Final = "langchain_core"
_READ: Final[WeakKeyDictionary[_Body, str]] = WeakKeyDictionary()
_FACTS: Final[WeakKeyDictionary[type[BaseModel], Facts | None]] = WeakKeyDictionary()


def shortcuts(base: type[BaseTool]) -> dict[str, _Body]:
    """Return the methods that may stand in the place of those of a class of tools, by name."""
    if not (_is_known(base, _PARSE) and _is_known(base, _FILTER)):
        return {}
    return {_PARSE: _parse_input(base), _FILTER: _filter_injected_args(base)}


def stock_runs(base: type[BaseTool], name: str) -> bool:
    """Tell whether a class runs its function by the method that :func:`asks_nothing` was written for."""
    return issubclass(base, StructuredTool) and _is_known(base, name)


def asks_nothing(function: _Body) -> bool:
    """Tell whether LangChain's own method would call the function with what it got and nothing besides.

    It adds callbacks for a parameter of that name, and the configuration for one that is annotated so.
    """
    try:
        names = inspect.signature(function).parameters
        hints = get_type_hints(function)
    except Exception:  # noqa: BLE001  Whatever annotations do when they are evaluated, LangChain's way copes with it.
        return False
    return "callbacks" not in names and not any(_mentions_config(hint) for hint in hints.values())


def _mentions_config(hint: object) -> bool:
    return hint is RunnableConfig or any(map(_mentions_config, get_args(hint)))


def _is_known(base: type[BaseTool], name: str) -> bool:
    method = getattr(base, name, None)
    return type(method) is FunctionType and source_of(method) in _SOURCES.get(name, ())


def source_of(method: _Body) -> str:
    """Return what tells one version of a method of LangChain from another, or nothing where its source is not at hand.

    What somebody put round a method has the source of the method, and is another one. Each source is read once, when
    this package is imported, because a guarded class may be made on an event loop.
    """
    module = str(getattr(method, "__globals__", {}).get("__name__"))
    if "__wrapped__" in getattr(method, "__dict__", {}) or module.partition(".")[0] != _LANGCHAIN:
        return ""
    known = _READ.get(method)
    if known is None:
        known = _READ[method] = _read(method)
    return known


def _read(method: _Body) -> str:
    try:
        source = inspect.getsource(method)
    except (OSError, TypeError):
        return ""
    return hashlib.sha256("".join(_DOCSTRING.sub("", source, count=1).split()).encode()).hexdigest()[:32]


def _parse_input(base: type[BaseTool]) -> _Body:
    """Return what validates the arguments of a call."""
    original = cast("_Body", getattr(base, _PARSE))

    def parse_input(self: BaseTool, tool_input: object, tool_call_id: str | None) -> object:
        facts = facts_of(self) if type(tool_input) is dict else None
        if facts is None:
            return original(self, tool_input, tool_call_id)
        return facts.arguments(cast("_Input", tool_input))

    return parse_input


def _filter_injected_args(base: type[BaseTool]) -> _Body:
    """Return what takes the arguments of frameworks out of those that callbacks are shown."""
    original = cast("_Body", getattr(base, _FILTER))

    def filter_injected_args(self: BaseTool, tool_input: dict[str, object]) -> object:
        facts = facts_of(self)
        if facts is None or not tool_input.keys() <= set(facts.fields):
            return original(self, tool_input)
        return dict(tool_input)

    return filter_injected_args


def facts_of(tool: BaseTool) -> Facts | None:
    """Return what is known about the schema of a tool, or ``None`` if it needs LangChain's way."""
    if not isinstance(tool.args_schema, type) or getattr(tool, _INJECTED):
        return None
    schema = cast("type[BaseModel]", tool.args_schema)  # Or a model of pydantic 1, of which nothing will be known.
    try:
        facts = _FACTS[schema]
    except KeyError:
        pass
    else:
        if facts is None or facts.validator is schema.__pydantic_validator__:
            return facts
    facts = _FACTS[schema] = Facts(schema) if _is_simple(tool, schema) else None
    return facts


def _is_simple(tool: BaseTool, schema: type) -> bool:
    if not _is_simple_model(schema, ()):
        return False
    fields = cast("type[BaseModel]", schema).model_fields
    kept = cast("_Input", getattr(BaseTool, _FILTER)(tool, dict.fromkeys(fields)))
    return kept.keys() == fields.keys()


def _is_simple_model(schema: object, outer: tuple[object, ...]) -> bool:
    """Tell whether dumping an instance has no effect, cannot fail, and has the names of the fields as keys."""
    if not (isinstance(schema, type) and issubclass(schema, BaseModel)) or issubclass(schema, RootModel):
        return False
    decorators = schema.__pydantic_decorators__
    return (
        schema not in outer
        and schema.model_dump is BaseModel.model_dump
        and schema.model_validate.__func__ is BaseModel.model_validate.__func__  # type: ignore[attr-defined]
        and schema.__getattribute__ is BaseModel.__getattribute__
        and schema.model_config.get("extra") != "allow"
        and not any((decorators.model_serializers, decorators.field_serializers, decorators.computed_fields))
        and not decorators.model_validators
        and not decorators.root_validators
        and all(_is_simple_field(field, (*outer, schema)) for field in schema.model_fields.values())
        and _dumps_quietly(schema)
    )


def _dumps_quietly(schema: type[BaseModel]) -> bool:
    """Tell whether the defaults, which are not validated, are of the declared types: a dump warns of others."""
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        schema.model_construct(_fields_set=set()).model_dump()
    return not warned


def _is_simple_field(field: FieldInfo, outer: tuple[object, ...]) -> bool:
    return (
        field.alias is field.validation_alias is field.serialization_alias is None
        and field.default_factory in _EMPTY
        and not field.exclude
        and getattr(field, "exclude_if", None) is None
        and all(type(item).__module__.startswith(_HARMLESS) for item in field.metadata)
        and _is_simple_type(field.annotation, outer)
    )


def _is_simple_type(annotation: object, outer: tuple[object, ...]) -> bool:
    if annotation in _PLAIN or annotation is Ellipsis or isinstance(annotation, EnumMeta):
        return True
    origin = get_origin(annotation)
    if origin is Literal:
        return True
    if origin in _CONTAINERS:
        return all(_is_simple_type(part, outer) for part in get_args(annotation))
    return _is_simple_model(annotation, outer)
