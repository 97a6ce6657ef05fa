"""The decision input and the decision: request, content, finding, resource, effect."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent_identity._policy.decision.decision import MAX_WHY, Decision, Effect, check_labels, check_name, check_why
    from agent_identity._policy.decision.obligations import (
        Obligation,
        ObligationAction,
        describe_obligations,
        parse_obligations,
    )
    from agent_identity._policy.decision.patterns import check_patterns, has_wildcard, matches
    from agent_identity._policy.decision.places import (
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
    from agent_identity._policy.decision.request import (
        Claims,
        Content,
        Direction,
        Finding,
        FlowFacts,
        Inspector,
        Policy,
        Request,
        Severity,
        Tool,
    )
    from agent_identity._policy.decision.resources import (
        Touch,
        Touches,
        check_parameters,
        check_touches,
        filled_name,
        has_placeholders,
        with_data_of,
    )
else:
    from agent_identity._common.lazy import lazily

    __getattr__, __dir__ = lazily(
        __name__,
        {
            "agent_identity._policy.decision.decision": (
                "MAX_WHY",
                "Decision",
                "Effect",
                "check_labels",
                "check_name",
                "check_why",
            ),
            "agent_identity._policy.decision.obligations": (
                "Obligation",
                "ObligationAction",
                "describe_obligations",
                "parse_obligations",
            ),
            "agent_identity._policy.decision.patterns": ("check_patterns", "has_wildcard", "matches"),
            "agent_identity._policy.decision.places": (
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
            "agent_identity._policy.decision.request": (
                "Claims",
                "Content",
                "Direction",
                "Finding",
                "FlowFacts",
                "Inspector",
                "Policy",
                "Request",
                "Severity",
                "Tool",
            ),
            "agent_identity._policy.decision.resources": (
                "Touch",
                "Touches",
                "check_parameters",
                "check_touches",
                "filled_name",
                "has_placeholders",
                "with_data_of",
            ),
        },
    )

__all__ = [
    "MAX_DEPTH",
    "MAX_WHY",
    "Claims",
    "Content",
    "Decision",
    "Direction",
    "Document",
    "Effect",
    "Finding",
    "FlowFacts",
    "Gathering",
    "Inspector",
    "Malformed",
    "Mark",
    "Obligation",
    "ObligationAction",
    "Path",
    "Policy",
    "Problem",
    "Request",
    "Severity",
    "Tool",
    "Touch",
    "Touches",
    "check_labels",
    "check_name",
    "check_parameters",
    "check_patterns",
    "check_touches",
    "check_why",
    "describe_obligations",
    "each",
    "filled_name",
    "has_placeholders",
    "has_wildcard",
    "matches",
    "parse_obligations",
    "quoted",
    "with_data_of",
    "words",
]
