"""What the records of approvals say: the question, the answer, and how it was asked."""

from dataclasses import dataclass
from typing import Final, final

from agent_identity.authority import Ruling
from agent_identity.enforcement.approval import Approval, ApprovalRequest
from agent_identity.enforcement.facts import principal_fact
from agent_identity.evidence.records import ApprovalState, ApprovalStatus

__all__ = ["Held", "approval_state"]

_NS: Final = 1_000_000_000


@final
@dataclass(frozen=True, slots=True)
class Held:
    """A ruling that a call has got, not used yet.

    Attributes:
        ruling: The ruling.
        token: Its signed token.
        name: Under which the call asks.
        request: The digest of the whole request that it answers, if that is known here.
    """

    ruling: Ruling
    token: str
    name: str
    request: str | None = None


def approval_state(
    status: ApprovalStatus, about: ApprovalRequest | Held, desk: Approval, *, drafts: bool
) -> ApprovalState:
    """Return the member of a record about an approval.

    Args:
        status: Where the question stands.
        about: The question, or the answer.
        desk: Where it was asked.
        drafts: Say the digest of the whole request and the channel as well; for version 2 of the record.
    """
    asked = about.digest if isinstance(about, ApprovalRequest) else about.request
    known = about if isinstance(about, ApprovalRequest) else about.ruling
    answer = about if isinstance(about, Held) and status != "expired" else None
    return ApprovalState(
        id=known.id,
        status=status,
        expires=str(known.expires_at * _NS),
        approver=None if answer is None else principal_fact(answer.ruling.approver),
        token=None if answer is None else answer.token,
        reason=None if answer is None else answer.ruling.reason,
        request=asked if drafts else None,
        channel=desk.way if drafts else None,
    )
