"""Policy: what may run, decided by rules that read like data."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent_identity._policy.composed import All
    from agent_identity._policy.decision.obligations import Obligation
    from agent_identity._policy.decision.request import Claims, Content, FlowFacts, Tool
    from agent_identity._policy.decision.resources import Touch
    from agent_identity._policy.declarations.touches import (
        file_touches,
        http_touches,
        mail_touches,
        mcp_resource_touches,
        sql_touches,
        vector_touches,
    )
    from agent_identity._policy.flow_policy import Flow
else:
    from agent_identity._common.lazy import lazily

    __getattr__, __dir__ = lazily(
        __name__,
        {
            "agent_identity._policy.composed": ("All",),
            "agent_identity._policy.decision.obligations": ("Obligation",),
            "agent_identity._policy.decision.request": ("Claims", "Content", "FlowFacts", "Tool"),
            "agent_identity._policy.decision.resources": ("Touch",),
            "agent_identity._policy.declarations.touches": (
                "file_touches",
                "http_touches",
                "mail_touches",
                "mcp_resource_touches",
                "sql_touches",
                "vector_touches",
            ),
            "agent_identity._policy.flow_policy": ("Flow",),
        },
    )

__all__ = [
    "All",
    "Claims",
    "Content",
    "Flow",
    "FlowFacts",
    "Obligation",
    "Tool",
    "Touch",
    "file_touches",
    "http_touches",
    "mail_touches",
    "mcp_resource_touches",
    "sql_touches",
    "vector_touches",
]
