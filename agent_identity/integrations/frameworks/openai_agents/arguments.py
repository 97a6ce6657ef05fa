"""Arguments and results of function tools, which the OpenAI Agents SDK passes as JSON text and as any object."""

import json
from collections.abc import Mapping
from typing import Final, NoReturn, cast

from pydantic import BaseModel

from agent_identity.adapters import Shown
from agent_identity.integrations.narrowing import is_dict

__all__ = ["call_key", "parse", "shown", "text_for"]

_JSON: Final = (str, int, float, bool, dict, type(None))


def parse(text: object) -> dict[str, object] | None:
    """Return the arguments in the text of a model; ``None`` if it is no JSON object.

    Args:
        text: The text; the SDK reads an empty one as no arguments. Names that occur twice are no JSON here, because
            parsers differ about them.
    """
    if not isinstance(text, str):
        return None
    try:
        value = json.loads(text or "{}", parse_constant=_constant, object_pairs_hook=_object)
    except (ValueError, RecursionError):
        return None
    return value if is_dict(value) else None


def text_for(arguments: Mapping[str, object], text: str, parsed: Mapping[str, object]) -> str:
    """Return judged arguments as text for the body; the text of the model where it says the same.

    Args:
        arguments: The judged arguments.
        text: The text of the model.
        parsed: Its arguments.
    """
    judged = json.dumps(dict(arguments), sort_keys=True)
    return text if judged == json.dumps(dict(parsed), sort_keys=True) else judged


def shown(result: object) -> object:
    """Return the result of a tool with what the model gets of it as JSON: pydantic models, and texts of other objects.

    Args:
        result: What the tool returned.
    """
    content = _content(result)
    return result if content is result else Shown(result, content, rebuild=lambda changed: changed)


def call_key(name: str, call_id: str, arguments: Mapping[str, object] | None) -> tuple[str, str, str]:
    """Return the identity of one call of a tool across processes.

    Args:
        name: The name of the tool.
        call_id: The id that the model gave to the call.
        arguments: The arguments that it gave.
    """
    return name, call_id, json.dumps(arguments, sort_keys=True)


def _content(result: object) -> object:
    if isinstance(result, BaseModel):
        return result.model_dump(mode="json")
    if isinstance(result, list | tuple):
        items = cast("list[object] | tuple[object, ...]", result)
        contents = [_content(item) for item in items]
        same = all(one is other for one, other in zip(items, contents, strict=True))
        return cast("object", result) if same else contents
    return result if isinstance(result, _JSON) else str(result)


def _constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a name occurs twice")
    return members
