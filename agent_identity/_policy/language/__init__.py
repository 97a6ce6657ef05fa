"""The rule language: attributes, patterns, labels, and conditions with three answers."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent_identity._policy.language.attributes import MISSING, attribute, prepared
    from agent_identity._policy.language.checks import Verdict, combined
    from agent_identity._policy.language.conditions import Condition, Negation, Predicate, Question, parse_condition
    from agent_identity._policy.language.labels import ToolFacts, added_to, facts_about, parse_tools, with_claims
    from agent_identity._policy.language.patterns import check_patterns, has_wildcard, matches
    from agent_identity._policy.language.places import (
        MAX_DEPTH,
        Document,
        Gathering,
        Malformed,
        Mark,
        Path,
        Problem,
        each,
        quoted,
        words,
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
                "Negation",
                "Predicate",
                "Question",
                "parse_condition",
            ),
            "agent_identity._policy.language.labels": (
                "ToolFacts",
                "added_to",
                "facts_about",
                "parse_tools",
                "with_claims",
            ),
            "agent_identity._policy.language.patterns": ("check_patterns", "has_wildcard", "matches"),
            "agent_identity._policy.language.places": (
                "MAX_DEPTH",
                "Document",
                "Gathering",
                "Malformed",
                "Mark",
                "Path",
                "Problem",
                "each",
                "quoted",
                "words",
            ),
        },
    )

__all__ = [
    "MAX_DEPTH",
    "MISSING",
    "Condition",
    "Document",
    "Gathering",
    "Malformed",
    "Mark",
    "Negation",
    "Path",
    "Predicate",
    "Problem",
    "Question",
    "ToolFacts",
    "Verdict",
    "added_to",
    "attribute",
    "check_patterns",
    "combined",
    "each",
    "facts_about",
    "has_wildcard",
    "matches",
    "parse_condition",
    "parse_tools",
    "prepared",
    "quoted",
    "with_claims",
    "words",
]
