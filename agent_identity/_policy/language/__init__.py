"""The rule language: attributes, patterns, labels, and conditions with three answers."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent_identity._policy.language.attributes import MISSING, attribute, prepared
    from agent_identity._policy.language.checks import Verdict, combined
    from agent_identity._policy.language.conditions import (
        Condition,
        Group,
        Negation,
        Predicate,
        Question,
        parse_condition,
    )
    from agent_identity._policy.language.flow_facts import StatedFlow
    from agent_identity._policy.language.labels import (
        ToolFacts,
        added_to,
        facts_about,
        flows_about,
        labels_of,
        parse_tools,
        with_claims,
    )
else:
    from agent_identity._common.lazy import lazily

    __getattr__, __dir__ = lazily(
        __name__,
        {
            "agent_identity._policy.language.attributes": ("MISSING", "attribute", "prepared"),
            "agent_identity._policy.language.checks": ("Verdict", "combined"),
            "agent_identity._policy.language.conditions": (
                "Condition",
                "Group",
                "Negation",
                "Predicate",
                "Question",
                "parse_condition",
            ),
            "agent_identity._policy.language.flow_facts": ("StatedFlow",),
            "agent_identity._policy.language.labels": (
                "ToolFacts",
                "added_to",
                "facts_about",
                "flows_about",
                "labels_of",
                "parse_tools",
                "with_claims",
            ),
        },
    )

__all__ = [
    "MISSING",
    "Condition",
    "Group",
    "Negation",
    "Predicate",
    "Question",
    "StatedFlow",
    "ToolFacts",
    "Verdict",
    "added_to",
    "attribute",
    "combined",
    "facts_about",
    "flows_about",
    "labels_of",
    "parse_condition",
    "parse_tools",
    "prepared",
    "with_claims",
]
