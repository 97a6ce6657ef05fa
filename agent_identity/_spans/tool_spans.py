"""Recognizes tool calls on spans, in the conventions of several libraries."""

from collections.abc import Mapping
from typing import Final

_NAMES: Final = ("gen_ai.tool.name", "tool.name")
_OLDER: Final = frozenset({"gen_ai.tool.name", "gen_ai.tool.call.id"})
_MARKS: Final = (
    ("gen_ai.operation.name", "execute_tool"),
    ("mcp.method.name", "tools/call"),
    ("openinference.span.kind", "TOOL"),
    ("traceloop.span.kind", "tool"),
    ("langfuse.observation.type", "tool"),
)


def calls_tool(attributes: Mapping[str, object]) -> bool:
    """Return whether a span is a tool call.

    It is one by the GenAI or MCP conventions of OpenTelemetry, or by OpenInference, OpenLLMetry or Langfuse. Older
    versions of Pydantic AI name the tool and the call, and no operation.

    Args:
        attributes: The attributes of the span.
    """
    for name, value in _MARKS:
        if attributes.get(name) == value:
            return True
    return "gen_ai.operation.name" not in attributes and attributes.keys() >= _OLDER


def named_tool(attributes: Mapping[str, object]) -> str | None:
    """Return the tool that a tool call names in an attribute.

    Args:
        attributes: The attributes of the span.
    """
    for name in _NAMES:
        value = attributes.get(name)
        if isinstance(value, str) and value:
            return value
    entity = attributes.get("traceloop.entity.name")
    return entity if attributes.get("traceloop.span.kind") == "tool" and isinstance(entity, str) and entity else None
