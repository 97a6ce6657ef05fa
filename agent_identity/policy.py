"""Policy: what may run, decided by rules that read like data."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent_identity._policy.composed import All
    from agent_identity._policy.decision.decision import Decision, Effect
    from agent_identity._policy.decision.obligations import Obligation
    from agent_identity._policy.decision.request import (
        Claims,
        Content,
        Finding,
        FlowFacts,
        Inspector,
        Policy,
        Request,
        Tool,
    )
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
    from agent_identity._policy.rule_set import RuleSet
    from agent_identity._policy.rules.rule import Rule
else:
    from agent_identity._common.lazy import lazily

    __getattr__, __dir__ = lazily(
        __name__,
        {
            "agent_identity._policy.composed": ("All",),
            "agent_identity._policy.decision.decision": ("Decision", "Effect"),
            "agent_identity._policy.decision.obligations": ("Obligation",),
            "agent_identity._policy.decision.request": (
                "Claims",
                "Content",
                "Finding",
                "FlowFacts",
                "Inspector",
                "Policy",
                "Request",
                "Tool",
            ),
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
            "agent_identity._policy.rule_set": ("RuleSet",),
            "agent_identity._policy.rules.rule": ("Rule",),
        },
    )

__all__ = [
    "All",
    "Claims",
    "Content",
    "Decision",
    "Effect",
    "Finding",
    "Flow",
    "FlowFacts",
    "Inspector",
    "Obligation",
    "Policy",
    "Request",
    "Rule",
    "RuleSet",
    "Tool",
    "Touch",
    "file_touches",
    "http_touches",
    "mail_touches",
    "mcp_resource_touches",
    "sql_touches",
    "vector_touches",
]
