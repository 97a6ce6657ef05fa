"""The guard: where a call is judged, and where its intent and outcome are recorded."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent_identity._enforcement.guard.call_facts import RESOURCES, Workflow
    from agent_identity._enforcement.guard.context import EnforcementContext
    from agent_identity._enforcement.guard.guard import Guard
    from agent_identity._enforcement.guard.known_tools import KnownTools, annotated, claims_from
    from agent_identity._enforcement.guard.revocations import LIST_NAME, Revocations, named, read_list
    from agent_identity._enforcement.guard.span_facts import SpanOptions, captures_content
    from agent_identity._enforcement.guard.tool_flow import DeclaredFlow, Restores, ToolFlow
else:
    from agent_identity._common.lazy import lazily

    __getattr__, __dir__ = lazily(
        __name__,
        {
            "agent_identity._enforcement.guard.call_facts": ("RESOURCES", "Workflow"),
            "agent_identity._enforcement.guard.context": ("EnforcementContext",),
            "agent_identity._enforcement.guard.guard": ("Guard",),
            "agent_identity._enforcement.guard.known_tools": ("KnownTools", "annotated", "claims_from"),
            "agent_identity._enforcement.guard.revocations": ("LIST_NAME", "Revocations", "named", "read_list"),
            "agent_identity._enforcement.guard.span_facts": ("SpanOptions", "captures_content"),
            "agent_identity._enforcement.guard.tool_flow": ("DeclaredFlow", "Restores", "ToolFlow"),
        },
    )

__all__ = [
    "LIST_NAME",
    "RESOURCES",
    "DeclaredFlow",
    "EnforcementContext",
    "Guard",
    "KnownTools",
    "Restores",
    "Revocations",
    "SpanOptions",
    "ToolFlow",
    "Workflow",
    "annotated",
    "captures_content",
    "claims_from",
    "named",
    "read_list",
]
