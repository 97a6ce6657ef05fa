"""Public API for approvals: ask people before a call runs.

>>> from agent_identity.approvals import Approval, ask_in_the_terminal
>>> desk = Approval(approvers=("bob@example.com",))
"""

from agent_identity.enforcement.approval import Answer, Approval, ApprovalRequest
from agent_identity.enforcement.approvals import Approvals
from agent_identity.enforcement.terminal_desk import ask_in_the_terminal

__all__ = ["Answer", "Approval", "ApprovalRequest", "Approvals", "ask_in_the_terminal"]
