"""Verification of authority: chains, usage of grants, limits, approvals, revoked keys."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent_identity._audit.grants.approvals_check import ApprovalsCheck, is_approved
    from agent_identity._audit.grants.chain_check import Delegations
    from agent_identity._audit.grants.disclosed_arguments import Disclosures, load_disclosure
    from agent_identity._audit.grants.grant_usage import GrantUsage, spent_uses
    from agent_identity._audit.grants.revoked_keys import LATE, Doubts, Reach, reach_of, refuse_late, taken_over
else:
    from agent_identity._common.lazy import lazily

    __getattr__, __dir__ = lazily(
        __name__,
        {
            "agent_identity._audit.grants.approvals_check": ("ApprovalsCheck", "is_approved"),
            "agent_identity._audit.grants.chain_check": ("Delegations",),
            "agent_identity._audit.grants.disclosed_arguments": ("Disclosures", "load_disclosure"),
            "agent_identity._audit.grants.grant_usage": ("GrantUsage", "spent_uses"),
            "agent_identity._audit.grants.revoked_keys": (
                "LATE",
                "Doubts",
                "Reach",
                "reach_of",
                "refuse_late",
                "taken_over",
            ),
        },
    )

__all__ = [
    "LATE",
    "ApprovalsCheck",
    "Delegations",
    "Disclosures",
    "Doubts",
    "GrantUsage",
    "Reach",
    "is_approved",
    "load_disclosure",
    "reach_of",
    "refuse_late",
    "spent_uses",
    "taken_over",
]
