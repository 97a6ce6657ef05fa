"""Arguments of tools by their JSON Schemas, for frameworks that leave defaults to the body."""

import inspect
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Final

from agent_identity.integrations.narrowing import is_mapping

__all__ = ["schema_of", "with_defaults"]

_JSON: Final = (str, int, float, list, dict, tuple, type(None))


def with_defaults(
    arguments: Mapping[str, object], schema: Mapping[str, object] | None
) -> tuple[dict[str, object], tuple[str, ...]]:
    """Return arguments with the defaults of their JSON Schema, and the names that the caller gave.

    For frameworks that pass on what the model wrote, and apply defaults after every hook: a rule about an argument
    must see the value that the body gets. Only defaults of the outermost properties count.

    Args:
        arguments: What the model gave, by name.
        schema: The schema of the arguments; ``None`` for none.
    """
    properties = None if schema is None else schema.get("properties")
    known = properties if is_mapping(properties) else dict[str, object]()
    defaults = dict[str, object]()
    for name, one in known.items():
        if is_mapping(one) and "default" in one:
            defaults[name] = one["default"]
    return {**defaults, **arguments}, tuple(arguments)


def schema_of(function: Callable[..., object]) -> Mapping[str, object] | None:
    """Return the parameters of a function as a JSON Schema with those defaults that are JSON; ``None`` if unknown.

    For :func:`with_defaults`, where a framework leaves defaults out of the schema that models get.

    Args:
        function: The function of a tool.
    """
    try:
        return _schema_of(function)
    except TypeError:  # It has no hash.
        return _schema_of.__wrapped__(function)


@lru_cache(maxsize=1_024)
def _schema_of(function: Callable[..., object]) -> Mapping[str, object] | None:
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):  # A built-in function.
        return None
    known = {name: one.default for name, one in parameters.items()}
    return {
        "properties": {name: {"default": value} if isinstance(value, _JSON) else {} for name, value in known.items()},
        "additionalProperties": any(one.kind is one.VAR_KEYWORD for one in parameters.values()),
    }
