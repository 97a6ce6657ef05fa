"""Contents of prompts, answers and results of Strands Agents, for information flow."""

import json
from collections.abc import Generator, Iterable, Mapping, Sequence
from typing import Any, TypeAlias, cast

from agent_identity._enforcement.tasks import Task
from agent_identity.integrations.frameworks.tool_guards import Part

__all__ = ["contents_of", "parts_of", "read_of"]

_Block: TypeAlias = Mapping[str, Any]
"""A content block of Strands: a dictionary, whose keys tell its type."""


def parts_of(messages: object, task: Task | None) -> Generator[Part]:
    """Yield the parts of a prompt.

    Swarms and graphs write in the name of the user what other agents said and read. So user messages are the words of
    a person only while the mark of the task is trusted.

    Args:
        messages: The messages of a request.
        task: The task that is open.
    """
    is_trusted = task is None or task.flow is None or task.flow.label.integrity == "trusted"
    for message in cast("Sequence[_Block]", messages):
        blocks = message["content"]
        is_person = message["role"] == "user" and is_trusted
        for block in blocks:
            by = is_person and "toolResult" not in block
            yield from (Part("person" if by else "other", one) for one in contents_of([block]))


def contents_of(blocks: Iterable[_Block]) -> Generator[object]:
    """Yield the contents of blocks, without the ids of calls.

    Args:
        blocks: The blocks of a message, or of the result of a tool.
    """
    for block in blocks:
        if "toolUse" in block:
            use = block["toolUse"]
            yield [use["name"], use["input"]]
            yield from (value for value in _values(use["input"]) if isinstance(value, str))
        elif "toolResult" in block:
            yield from contents_of(block["toolResult"]["content"])
        elif "cachePoint" not in block:
            yield block["text"] if block.keys() == {"text"} else block


def read_of(result: object) -> Iterable[object]:
    """Return the contents that the model will read from the result of a tool.

    Args:
        result: The last event of a tool, or the return value of a route's handler.
    """
    event = cast("_Block", result) if isinstance(result, Mapping) else {}
    content = event.get("tool_result", event).get("content")
    if isinstance(content, list):
        return contents_of(cast("list[_Block]", content))
    return (str(result), json.dumps(result, ensure_ascii=False, default=str))


def _values(arguments: object) -> Iterable[object]:
    return cast("Mapping[str, object]", arguments).values() if isinstance(arguments, Mapping) else ()
