"""Judges: requests to decisions, by rules in Python or in a policy file."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent_identity._policy.composed import (
        asks_about_flow,
        has_flow_rules,
        is_built_in,
        routes_of,
        rule_sets_of,
        stated_tools,
        told_of,
    )
    from agent_identity._policy.rule_set import RuleSet
else:
    from agent_identity._common.lazy import lazily

    __getattr__, __dir__ = lazily(
        __name__,
        {
            "agent_identity._policy.composed": (
                "asks_about_flow",
                "has_flow_rules",
                "is_built_in",
                "routes_of",
                "rule_sets_of",
                "stated_tools",
                "told_of",
            ),
            "agent_identity._policy.rule_set": ("RuleSet",),
        },
    )

__all__ = [
    "RuleSet",
    "asks_about_flow",
    "has_flow_rules",
    "is_built_in",
    "routes_of",
    "rule_sets_of",
    "stated_tools",
    "told_of",
]
