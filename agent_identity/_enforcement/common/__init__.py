"""Failures, work off the event loop, and the HTTP transport."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent_identity._enforcement.common.failures import failure, kind_of, told_model, trouble
    from agent_identity._enforcement.common.http_transport import HttpTransport, Reply, Transport, answer_on, left_until
    from agent_identity._enforcement.common.purpose import folded_purpose
    from agent_identity._enforcement.common.threads import Steps, at_once, has_loop, in_background, may_wait, off_loop
else:
    from agent_identity._common.lazy import lazily

    __getattr__, __dir__ = lazily(
        __name__,
        {
            "agent_identity._enforcement.common.failures": ("failure", "kind_of", "told_model", "trouble"),
            "agent_identity._enforcement.common.http_transport": (
                "HttpTransport",
                "Reply",
                "Transport",
                "answer_on",
                "left_until",
            ),
            "agent_identity._enforcement.common.purpose": ("folded_purpose",),
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
    "HttpTransport",
    "Reply",
    "Steps",
    "Transport",
    "answer_on",
    "at_once",
    "failure",
    "folded_purpose",
    "has_loop",
    "in_background",
    "kind_of",
    "left_until",
    "may_wait",
    "off_loop",
    "told_model",
    "trouble",
]
