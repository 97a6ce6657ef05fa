"""Definitions of MCP tools over time: which changed, until when each change waited, and what was called meanwhile."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent_identity._audit.definitions.definition_history import DefinitionChange, DefinitionHistory
else:
    from agent_identity._common.lazy import lazily

    __getattr__, __dir__ = lazily(
        __name__,
        {
            "agent_identity._audit.definitions.definition_history": ("DefinitionChange", "DefinitionHistory"),
        },
    )

__all__ = [
    "DefinitionChange",
    "DefinitionHistory",
]
