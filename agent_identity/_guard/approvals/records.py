"""Approval members of records: the request, the ruling, and the channel."""

from dataclasses import dataclass
from typing import Final, final

from agent_identity._authority.registries.rulings import MAX_SOURCES, Ruling
from agent_identity._guard.approvals.refusals import unbindable
from agent_identity._guard.calls.approval_request import Approval, ApprovalRequest
from agent_identity._guard.calls.call import Call
from agent_identity._guard.tasks.facts import principal_fact
from agent_identity._record.parts import ApprovalState, ApprovalStatus

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


def sources_asked(call: Call) -> tuple[str, ...]:
    """Return the inputs that an approval of a call has to exempt.

    Raises:
        Denied: They are more than a ruling can name (``approval_unbindable``).
    """
    judged = None if call.flow is None else call.flow.judged
    if judged is None:
        return ()
    if not judged.mark.complete or len(judged.mark.sources) > MAX_SOURCES:
        raise unbindable(call.tool)
    return tuple(judged.mark.sources)


def approval_state(status: ApprovalStatus, about: ApprovalRequest | Held, channel: Approval) -> ApprovalState:
    """Return the approval member of a record.

    Args:
        status: The status of the request.
        about: The request, or the ruling.
        channel: The approval channel.
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
        request=digest,
        channel=channel.way,
        sources=known.sources or None,
    )
