"""One call: arguments, limits, decision, and the request for approval."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent_identity._enforcement.calls.approval_request import (
        Answer,
        Approval,
        ApprovalRequest,
        is_unaltered,
        refuse_own,
        request_bytes,
        with_digest,
    )
    from agent_identity._enforcement.calls.arguments import (
        Arguments,
        BadArgumentsError,
        Binder,
        canonical_bytes,
        capture,
        form_bytes,
    )
    from agent_identity._enforcement.calls.call import NOTHING, Call, CallRequest, Judgement, Shown
    from agent_identity._enforcement.calls.decisions import (
        WITHIN_SCOPE,
        Mode,
        blocked_by,
        decision_fact,
        is_fact,
        is_sound,
        policy_state,
    )
    from agent_identity._enforcement.calls.limits import Limits
    from agent_identity._enforcement.calls.process_facts import CertificateFile, Renewals, resource_of
else:
    from agent_identity._common.lazy import lazily

    __getattr__, __dir__ = lazily(
        __name__,
        {
            "agent_identity._enforcement.calls.approval_request": (
                "Answer",
                "Approval",
                "ApprovalRequest",
                "is_unaltered",
                "refuse_own",
                "request_bytes",
                "with_digest",
            ),
            "agent_identity._enforcement.calls.arguments": (
                "Arguments",
                "BadArgumentsError",
                "Binder",
                "canonical_bytes",
                "capture",
                "form_bytes",
            ),
            "agent_identity._enforcement.calls.call": ("NOTHING", "Call", "CallRequest", "Judgement", "Shown"),
            "agent_identity._enforcement.calls.decisions": (
                "WITHIN_SCOPE",
                "Mode",
                "blocked_by",
                "decision_fact",
                "is_fact",
                "is_sound",
                "policy_state",
            ),
            "agent_identity._enforcement.calls.limits": ("Limits",),
            "agent_identity._enforcement.calls.process_facts": ("CertificateFile", "Renewals", "resource_of"),
        },
    )

__all__ = [
    "NOTHING",
    "WITHIN_SCOPE",
    "Answer",
    "Approval",
    "ApprovalRequest",
    "Arguments",
    "BadArgumentsError",
    "Binder",
    "Call",
    "CallRequest",
    "CertificateFile",
    "Judgement",
    "Limits",
    "Mode",
    "Renewals",
    "Shown",
    "blocked_by",
    "canonical_bytes",
    "capture",
    "decision_fact",
    "form_bytes",
    "is_fact",
    "is_sound",
    "is_unaltered",
    "policy_state",
    "refuse_own",
    "request_bytes",
    "resource_of",
    "with_digest",
]
