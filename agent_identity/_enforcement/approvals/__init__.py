"""Approvals: the service, its inbox, the terminal, and what the ledger keeps of them."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent_identity._enforcement.approvals.inbox import ApprovalInbox, party_of
    from agent_identity._enforcement.approvals.names import args_of
    from agent_identity._enforcement.approvals.records import Held
    from agent_identity._enforcement.approvals.refusals import mismatch
    from agent_identity._enforcement.approvals.service import Approvals
    from agent_identity._enforcement.approvals.terminal import ask_in_the_terminal, shown
else:
    from agent_identity._common.lazy import lazily

    __getattr__, __dir__ = lazily(
        __name__,
        {
            "agent_identity._enforcement.approvals.inbox": ("ApprovalInbox", "party_of"),
            "agent_identity._enforcement.approvals.names": ("args_of",),
            "agent_identity._enforcement.approvals.records": ("Held",),
            "agent_identity._enforcement.approvals.refusals": ("mismatch",),
            "agent_identity._enforcement.approvals.service": ("Approvals",),
            "agent_identity._enforcement.approvals.terminal": ("ask_in_the_terminal", "shown"),
        },
    )

__all__ = [
    "ApprovalInbox",
    "Approvals",
    "Held",
    "args_of",
    "ask_in_the_terminal",
    "mismatch",
    "party_of",
    "shown",
]
