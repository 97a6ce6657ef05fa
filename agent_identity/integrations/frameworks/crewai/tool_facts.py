"""Facts about tools of CrewAI, and their calls in our words."""

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from crewai.tools import BaseTool
from crewai.tools.agent_tools.base_agent_tools import BaseAgentTool
from crewai.tools.mcp_native_tool import MCPNativeTool
from crewai.tools.mcp_tool_wrapper import MCPToolWrapper
from crewai.tools.structured_tool import CrewStructuredTool
from crewai.utilities.string_utils import sanitize_tool_name
from pydantic.fields import FieldInfo

from agent_identity.adapters import Binder, Call, CallRequest, ToolCall, tool_name

__all__ = ["ToolFacts", "facts_of", "schema_of", "wanted_call"]

_ADAPTED: Final = "CrewAIMCPTool"
"""The class of tools of MCP servers that the adapters outside the core of CrewAI make; it names no server."""


class ToolFacts(NamedTuple):
    """What the record says of a tool. Frozen."""

    name: str
    kind: str
    server: str | None
    schema: Any
    description: str | None = None


def facts_of(tool: BaseTool | CrewStructuredTool) -> ToolFacts:
    """Return what the record says of a tool."""
    server = tool.server_name if isinstance(tool, MCPNativeTool | MCPToolWrapper) else None
    is_served = server is not None or any(one.__name__ == _ADAPTED for one in type(tool).__mro__)
    kind = "agent" if isinstance(tool, BaseAgentTool) else "mcp" if is_served else "function"
    name = tool_name(server, sanitize_tool_name(tool.name))
    return ToolFacts(name, kind, server, tool.args_schema, tool.description)


def wanted_call(
    facts: ToolFacts,
    body: Callable[..., object],
    args: tuple[object, ...],
    named: Mapping[str, object],
    acting: str | None,
    *,
    turn: str | None,
) -> tuple[ToolCall, Callable[[Call], tuple[tuple[object, ...], Mapping[str, object]]]]:
    """Return the call, and what gives the body the arguments that were judged.

    CrewAI has merged the defaults of the schema: what equals them nobody need have given.
    """

    def spread(call: Call) -> tuple[tuple[object, ...], Mapping[str, object]]:
        return (), {name: call.arguments[name] for name in named}

    values: Mapping[str, object] = named
    if args:
        binder = Binder(body)
        values, _ = binder.bind(args, named)

        def spread(call: Call) -> tuple[tuple[object, ...], Mapping[str, object]]:
            return binder.spread(call.arguments, args)

    fields = getattr(facts.schema, "model_fields", {})
    supplied = [name for name, value in values.items() if name not in fields or not _is_default(fields[name], value)]
    request = CallRequest(values, supplied, turn=turn)
    call = ToolCall(
        facts.name,
        request,
        acting,
        facts.kind,
        facts.server,
        schema_of(facts),
        function=body,
        description=facts.description,
    )
    return call, spread


def schema_of(facts: ToolFacts) -> Mapping[str, object]:
    """Return the names of the arguments of a tool as a schema."""
    return {"properties": getattr(facts.schema, "model_fields", None)}


def _is_default(field: FieldInfo, value: object) -> bool:
    return not field.is_required() and type(field.default) is type(value) and field.default == value
