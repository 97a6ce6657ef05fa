"""Humans, services and agents, and the principals of delegated tokens."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent_identity._identity.principals.principals import (
        Agent,
        Human,
        Principal,
        Service,
        agent_from_claim,
        principal_from_claim,
    )
else:
    from agent_identity._common.lazy import lazily

    __getattr__, __dir__ = lazily(
        __name__,
        {
            "agent_identity._identity.principals.principals": (
                "Agent",
                "Human",
                "Principal",
                "Service",
                "agent_from_claim",
                "principal_from_claim",
            ),
        },
    )

__all__ = [
    "Agent",
    "Human",
    "Principal",
    "Service",
    "agent_from_claim",
    "principal_from_claim",
]
