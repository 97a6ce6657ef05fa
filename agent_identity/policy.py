"""Policy: what may run, decided by rules that read like data."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent_identity._policy.decision.decision import Decision, Effect
    from agent_identity._policy.decision.request import Claims, Content, Finding, Inspector, Policy, Request, Tool
    from agent_identity._policy.decision.resources import Touch
    from agent_identity._policy.rule_set import RuleSet
    from agent_identity._policy.rules.rule import Rule
else:
    from agent_identity._common.lazy import lazily

    __getattr__, __dir__ = lazily(
        __name__,
        {
            "agent_identity._policy.decision.decision": ("Decision", "Effect"),
            "agent_identity._policy.decision.request": (
                "Claims",
                "Content",
                "Finding",
                "Inspector",
                "Policy",
                "Request",
                "Tool",
            ),
            "agent_identity._policy.decision.resources": ("Touch",),
            "agent_identity._policy.rule_set": ("RuleSet",),
            "agent_identity._policy.rules.rule": ("Rule",),
        },
    )

__all__ = [
    "Claims",
    "Content",
    "Decision",
    "Effect",
    "Finding",
    "Inspector",
    "Policy",
    "Request",
    "Rule",
    "RuleSet",
    "Tool",
    "Touch",
]
