"""Public API for approvals: ask people before a call runs.

>>> from agent_identity.approvals import Approval, Approvers
>>> handler = Approval(approvers=Approvers(people=("bob@example.com",)))
"""

from agent_identity._guard.approvals.service import Approvals
from agent_identity._guard.approvals.terminal import ask_in_the_terminal
from agent_identity._guard.calls.approval_request import Answer, Approval, ApprovalRequest, Approvers

__all__ = ["Answer", "Approval", "ApprovalRequest", "Approvals", "Approvers", "ask_in_the_terminal"]
