"""Public API for approvals: ask people before a call runs.

>>> from agent_identity.approvals import Approval, ask_in_the_terminal
>>> handler = Approval(approvers=("bob@example.com",))
"""

from agent_identity._guard.approvals.service import Approvals
from agent_identity._guard.approvals.terminal import ask_in_the_terminal
from agent_identity._guard.calls.approval_request import Answer, Approval, ApprovalRequest

__all__ = ["Answer", "Approval", "ApprovalRequest", "Approvals", "ask_in_the_terminal"]
