"""The decision input and the decision: request, content, finding, resource, effect."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent_identity._policy.decision.decision import MAX_WHY, Decision, Effect, check_labels, check_name, check_why
    from agent_identity._policy.decision.request import Claims, Content, Finding, Inspector, Policy, Request, Tool
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
            "agent_identity._policy.decision.request": (
                "Claims",
                "Content",
                "Finding",
                "Inspector",
                "Policy",
                "Request",
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
    "MAX_WHY",
    "Claims",
    "Content",
    "Decision",
    "Effect",
    "Finding",
    "Inspector",
    "Policy",
    "Request",
    "Tool",
    "Touch",
    "Touches",
    "check_labels",
    "check_name",
    "check_parameters",
    "check_touches",
    "check_why",
    "filled_name",
    "has_placeholders",
    "with_data_of",
]
