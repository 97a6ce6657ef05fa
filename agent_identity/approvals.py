"""Public API for approvals: ask people before a call runs.

>>> from agent_identity.approvals import Approval, ask_in_the_terminal
>>> handler = Approval(approvers=("bob@example.com",))
"""

from agent_identity._enforcement.approvals import Approvals, ask_in_the_terminal
from agent_identity._enforcement.calls import Answer, Approval, ApprovalRequest

__all__ = ["Answer", "Approval", "ApprovalRequest", "Approvals", "ask_in_the_terminal"]
