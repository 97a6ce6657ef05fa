"""Rules, their compiled program, and the review that finds rules without effect."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent_identity._policy.rules.program import Origin, Program
    from agent_identity._policy.rules.review import (
        LABELS,
        SPLIT_CURE,
        absent_tools,
        label_rules,
        split_rules,
        unknown_labels,
        warnings_about,
    )
    from agent_identity._policy.rules.rule import (
        Rule,
        check_obligations,
        check_route,
        describe_rule,
        located_name,
        located_why,
        rule_ids,
        unique_ids,
    )
else:
    from agent_identity._common.lazy import lazily

    __getattr__, __dir__ = lazily(
        __name__,
        {
            "agent_identity._policy.rules.program": ("Origin", "Program"),
            "agent_identity._policy.rules.review": (
                "LABELS",
                "SPLIT_CURE",
                "absent_tools",
                "label_rules",
                "split_rules",
                "unknown_labels",
                "warnings_about",
            ),
            "agent_identity._policy.rules.rule": (
                "Rule",
                "check_obligations",
                "check_route",
                "describe_rule",
                "located_name",
                "located_why",
                "rule_ids",
                "unique_ids",
            ),
        },
    )

__all__ = [
    "LABELS",
    "SPLIT_CURE",
    "Origin",
    "Program",
    "Rule",
    "absent_tools",
    "check_obligations",
    "check_route",
    "describe_rule",
    "label_rules",
    "located_name",
    "located_why",
    "rule_ids",
    "split_rules",
    "unique_ids",
    "unknown_labels",
    "warnings_about",
]
