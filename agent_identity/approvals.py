"""Public API for approvals: ask people before a call runs.

>>> from agent_identity.approvals import Approval, Approvers
>>> handler = Approval(approvers=Approvers(people=("bob@example.com",)))
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent_identity._guard.approvals.terminal import ask_in_the_terminal
    from agent_identity._guard.calls.approval_request import Answer, Approval, ApprovalRequest, Approvers
else:
    from agent_identity._common.lazy import lazily

    __getattr__, __dir__ = lazily(
        __name__,
        {
            "agent_identity._guard.approvals.terminal": ("ask_in_the_terminal",),
            "agent_identity._guard.calls.approval_request": ("Answer", "Approval", "ApprovalRequest", "Approvers"),
        },
    )

__all__ = [
    "Answer",
    "Approval",
    "ApprovalRequest",
    "Approvers",
    "ask_in_the_terminal",
]
