"""Failures, work off the event loop, and the HTTP transport."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent_identity._enforcement.common.failures import error_type, failure, frames_of, refusal, safe_message
    from agent_identity._enforcement.common.followed_trust import FollowedTrust, announce, announced
    from agent_identity._enforcement.common.http_transport import HttpTransport, Reply, Transport
    from agent_identity._enforcement.common.leaving import Leaving, check_leaving, leaves, says_something
    from agent_identity._enforcement.common.purpose import folded_purpose
    from agent_identity._enforcement.common.recorded_decisions import (
        WITHIN_SCOPE,
        Mode,
        blocked_by,
        decision_fact,
        is_fact,
        is_sound,
        policy_state,
    )
    from agent_identity._enforcement.common.threads import Steps, at_once, has_loop, in_background, may_wait, off_loop
else:
    from agent_identity._common.lazy import lazily

    __getattr__, __dir__ = lazily(
        __name__,
        {
            "agent_identity._enforcement.common.failures": (
                "error_type",
                "failure",
                "frames_of",
                "refusal",
                "safe_message",
            ),
            "agent_identity._enforcement.common.followed_trust": ("FollowedTrust", "announce", "announced"),
            "agent_identity._enforcement.common.http_transport": ("HttpTransport", "Reply", "Transport"),
            "agent_identity._enforcement.common.leaving": ("Leaving", "check_leaving", "leaves", "says_something"),
            "agent_identity._enforcement.common.purpose": ("folded_purpose",),
            "agent_identity._enforcement.common.recorded_decisions": (
                "WITHIN_SCOPE",
                "Mode",
                "blocked_by",
                "decision_fact",
                "is_fact",
                "is_sound",
                "policy_state",
            ),
            "agent_identity._enforcement.common.threads": (
                "Steps",
                "at_once",
                "has_loop",
                "in_background",
                "may_wait",
                "off_loop",
            ),
        },
    )

__all__ = [
    "WITHIN_SCOPE",
    "FollowedTrust",
    "HttpTransport",
    "Leaving",
    "Mode",
    "Reply",
    "Steps",
    "Transport",
    "announce",
    "announced",
    "at_once",
    "blocked_by",
    "check_leaving",
    "decision_fact",
    "error_type",
    "failure",
    "folded_purpose",
    "frames_of",
    "has_loop",
    "in_background",
    "is_fact",
    "is_sound",
    "leaves",
    "may_wait",
    "off_loop",
    "policy_state",
    "refusal",
    "safe_message",
    "says_something",
]
