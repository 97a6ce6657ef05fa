"""Approval members of records: the request, the ruling, and the channel."""

from dataclasses import dataclass
from typing import Final, final

from agent_identity._authority.registries import Ruling
from agent_identity._enforcement.calls import Approval, ApprovalRequest
from agent_identity._enforcement.tasks import principal_fact
from agent_identity._evidence.record import ApprovalState, ApprovalStatus

__all__ = ["Held", "approval_state"]

_NS: Final = 1_000_000_000


@final
@dataclass(frozen=True, slots=True)
class Held:
    """A ruling that a call holds and has not used yet.

    Attributes:
        ruling: The ruling.
        token: Its signed token.
        name: The storage name of the call.
        request: The digest of the whole answered request, if known in this process.
    """

    ruling: Ruling
    token: str
    name: str
    request: str | None = None


def approval_state(
    status: ApprovalStatus, about: ApprovalRequest | Held, desk: Approval, *, drafts: bool
) -> ApprovalState:
    """Return the approval member of a record.

    Args:
        status: The status of the request.
        about: The request, or the ruling.
        desk: The approval channel.
        drafts: Include the digest of the whole request and the channel; for version 2 of the record.
    """
    digest = about.digest if isinstance(about, ApprovalRequest) else about.request
    known = about if isinstance(about, ApprovalRequest) else about.ruling
    answer = about if isinstance(about, Held) and status != "expired" else None
    return ApprovalState(
        id=known.id,
        status=status,
        expires=str(known.expires_at * _NS),
        approver=None if answer is None else principal_fact(answer.ruling.approver),
        token=None if answer is None else answer.token,
        reason=None if answer is None else answer.ruling.reason,
        request=digest if drafts else None,
        channel=desk.way if drafts else None,
    )
