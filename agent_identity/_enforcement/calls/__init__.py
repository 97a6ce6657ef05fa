"""One call: arguments, limits, decision, and the request for approval."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent_identity._enforcement.calls.approval_request import (
        Answer,
        Approval,
        ApprovalRequest,
        is_unaltered,
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
        plain_copy,
    )
    from agent_identity._enforcement.calls.call import (
        NOTHING,
        Call,
        CallFlow,
        CallRequest,
        Handles,
        Inspected,
        Judgement,
        Routing,
        Shown,
        TakenUp,
    )
    from agent_identity._enforcement.calls.limit_debits import Limits
    from agent_identity._enforcement.calls.process_facts import CertificateFile, Renewals, resource_of
    from agent_identity._enforcement.calls.stopwatch import Stopwatch
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
                "plain_copy",
            ),
            "agent_identity._enforcement.calls.call": (
                "NOTHING",
                "Call",
                "CallFlow",
                "CallRequest",
                "Handles",
                "Inspected",
                "Judgement",
                "Routing",
                "Shown",
                "TakenUp",
            ),
            "agent_identity._enforcement.calls.limit_debits": ("Limits",),
            "agent_identity._enforcement.calls.process_facts": ("CertificateFile", "Renewals", "resource_of"),
            "agent_identity._enforcement.calls.stopwatch": ("Stopwatch",),
        },
    )

__all__ = [
    "NOTHING",
    "Answer",
    "Approval",
    "ApprovalRequest",
    "Arguments",
    "BadArgumentsError",
    "Binder",
    "Call",
    "CallFlow",
    "CallRequest",
    "CertificateFile",
    "Handles",
    "Inspected",
    "Judgement",
    "Limits",
    "Renewals",
    "Routing",
    "Shown",
    "Stopwatch",
    "TakenUp",
    "canonical_bytes",
    "capture",
    "form_bytes",
    "is_unaltered",
    "plain_copy",
    "request_bytes",
    "resource_of",
    "with_digest",
]
