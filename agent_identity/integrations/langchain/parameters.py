"""Parameters that the framework fills in, and arguments that are the tool's own defaults.

LangChain passes injected values the same way as values written by a model. Only their type distinguishes them: a
model can write nothing but JSON. So an injected parameter counts as filled in by the
framework only if its value before validation is no JSON (a store, a runtime, a state with messages) or is the
id of the call. JSON in an injected parameter is judged like every other argument, because a model may have written it.
"""

import inspect
import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Annotated, Final, cast, final, get_args, get_origin, get_type_hints

from langchain_core.runnables import RunnableConfig
from langchain_core.tools import InjectedToolArg, InjectedToolCallId
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from agent_identity.canonical import MAX_DEPTH

__all__ = ["Injected", "OwnDefaults", "asks_nothing", "injected_parameters"]

_RUNTIME: Final = "runtime"
"""LangGraph injects the runtime into a parameter of this name, whatever its type."""

_RUNTIMES: Final = ("langgraph.prebuilt", "langchain.tools")
"""The modules of the runtime type, which is injected into parameters of any name; neither need be installed."""

_HOOKS: Final = ("__init__", "__new__", "model_post_init", "model_validate")


@final
@dataclass(frozen=True, slots=True)
class Injected:
    """The parameters of one body that a framework may fill in.

    Attributes:
        plumbing: Configuration and callbacks: LangChain overwrites any other value.
        call_ids: Those that get the id of the tool call.
        others: State, stores, runtimes and injections of the application.
    """

    plumbing: tuple[str, ...]
    call_ids: tuple[str, ...]
    others: tuple[str, ...]

    def filled(
        self, values: Mapping[str, object], given: Mapping[str, object] | None, call_id: str | None
    ) -> tuple[str, ...]:
        """Return the names of the arguments that the framework has filled in.

        Args:
            values: The arguments of the body.
            given: The input of validation; ``None`` if nothing was validated.
            call_id: The id of the tool call.
        """
        injected = [name for name in self.plumbing if name in values]
        if call_id is not None:
            injected += [name for name in self.call_ids if values.get(name) == call_id]
        raw = values if given is None else given
        injected += [name for name in self.others if name in values and name in raw and not _is_json(raw[name], 0)]
        return tuple(injected)


def injected_parameters(signature: inspect.Signature, schema: object, callbacks: str) -> Injected:
    """Find the injected parameters of a body.

    Args:
        signature: The signature of the body, annotations resolved.
        schema: The tool's ``args_schema``.
        callbacks: The name of the callbacks parameter of this body.
    """
    config: list[str] = []
    call_ids: set[str] = set()
    others: set[str] = set()
    for name, parameter in signature.parameters.items():
        kind, *marks = get_args(parameter.annotation) if _is_annotated(parameter.annotation) else [parameter.annotation]
        if kind is RunnableConfig:
            config.append(name)
        _sort(name, kind, marks, call_ids, others)
    for name, field in _fields(schema).items():
        _sort(name, field.annotation, field.metadata, call_ids, others)
    if _RUNTIME in signature.parameters:
        others.add(_RUNTIME)
    # LangChain overwrites the first configuration only.
    plumbing = (*config[:1], *(name for name in (callbacks,) if name in signature.parameters))
    return Injected(plumbing, tuple(sorted(call_ids)), tuple(sorted(others - call_ids)))


def _sort(name: str, kind: object, marks: Collection[object], call_ids: set[str], others: set[str]) -> None:
    for mark in marks:
        cls = mark if isinstance(mark, type) else type(mark)
        if issubclass(cls, InjectedToolArg):
            (call_ids if issubclass(cls, InjectedToolCallId) else others).add(name)
    direct = get_origin(kind) or kind
    runtimes = (getattr(sys.modules.get(module), "ToolRuntime", None) for module in _RUNTIMES)
    if isinstance(direct, type) and any(
        isinstance(runtime, type) and issubclass(direct, runtime) for runtime in runtimes
    ):
        others.add(name)


def _is_annotated(annotation: object) -> bool:
    return get_origin(annotation) is Annotated


def _fields(schema: object) -> Mapping[str, FieldInfo]:
    if isinstance(schema, type) and issubclass(schema, BaseModel):
        return schema.model_fields
    return {}


def _is_json(value: object, depth: int) -> bool:
    kind = type(value)
    if value is None or kind in (str, int, float, bool):
        return True
    if depth >= MAX_DEPTH:
        return True
    if kind is dict:
        members = cast("dict[object, object]", value)
        return all(type(name) is str and _is_json(item, depth + 1) for name, item in members.items())
    if kind in (list, tuple):
        return all(_is_json(item, depth + 1) for item in cast("list[object]", value))
    return False


@final
class OwnDefaults:
    """The defaults of a tool's schema, computed once.

    LangChain passes defaults of the schema like arguments of the caller. Their absence from the caller's input is
    not enough: aliases and validators of the whole model can fill a field from others. So a fixed default must
    be unchanged, and a factory default counts only if nothing else could have filled the field.

    Args:
        schema: The tool's ``args_schema``.
    """

    __slots__ = ("_fixed", "_made")

    def __init__(self, schema: object) -> None:
        optional = {name: field for name, field in _fields(schema).items() if not field.is_required()}
        self._fixed: Final = {name: field.default for name, field in optional.items() if field.default_factory is None}
        self._made: Final = frozenset(
            name
            for name, field in optional.items()
            if name not in self._fixed
            and (field.alias is None and field.validation_alias is None and _is_plain(cast("type[BaseModel]", schema)))
        )

    def has(self, name: str, value: object) -> bool:
        """Return whether an argument that the caller did not name has the tool's own default."""
        if name not in self._fixed:
            return name in self._made
        default: object = self._fixed[name]
        return value is default or (type(value) is type(default) and value == default)


def _is_plain(schema: type[BaseModel]) -> bool:
    """Return whether only field-by-field validation fills the fields of a model."""
    decorators = schema.__pydantic_decorators__
    own = [cls for cls in schema.__mro__ if cls is not object and not cls.__module__.startswith("pydantic")]
    hooked = any(name in cls.__dict__ for cls in own for name in _HOOKS)
    return not hooked and not decorators.model_validators and not decorators.root_validators


def asks_nothing(function: Callable[..., object]) -> bool:
    """Return whether LangChain would call the function of a tool with the arguments alone.

    It adds callbacks for a parameter of that name, and the configuration for one with that annotation.
    """
    try:
        names = inspect.signature(function).parameters
        hints = get_type_hints(function)
    except Exception:  # noqa: BLE001  Whatever evaluating annotations raises, LangChain's slow path handles it.
        return False
    return "callbacks" not in names and not any(_mentions_config(hint) for hint in hints.values())


def _mentions_config(hint: object) -> bool:
    return hint is RunnableConfig or any(map(_mentions_config, get_args(hint)))
