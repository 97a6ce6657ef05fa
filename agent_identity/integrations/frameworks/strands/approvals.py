"""Approval by interrupts of Strands Agents: the run stops, and a later one brings the ruling of a person."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from strands.interrupt import Interrupt, InterruptException

from agent_identity import Enforcer, Human
from agent_identity.approvals import Approval, ApprovalRequest, Approvers
from agent_identity.integrations.carried_approvals import APPROVAL, carried_approval, request_from, rulings
from agent_identity.integrations.frameworks.strands.calls import INTERRUPTING
from agent_identity.integrations.narrowing import is_mapping

if TYPE_CHECKING:
    from strands.types.interrupt import InterruptResponseContent

__all__ = ["answer", "approval_by_interrupt", "requests_of"]


def approval_by_interrupt(approvers: Approvers = Approvers()) -> Approval:
    """Return an approval channel that interrupts the agent until someone decides; for ``routes`` of an enforcer.

    The interrupt has the request as its reason, with the arguments; so has the session that a session manager keeps.
    Resume with :func:`answer`, inside a task of the same principal and agent, in any process. The session gives no
    authority: its ruling is bound to the one call.

    Args:
        approvers: Who may approve, and how long the request lives; the requesting task may end meanwhile.
    """
    return carried_approval(_ask, approvers, InterruptException)


def requests_of(interrupts: Sequence[Interrupt]) -> dict[str, ApprovalRequest]:
    """Return the approval requests among the interrupts of an agent, by interrupt id.

    Args:
        interrupts: ``result.interrupts``.

    Raises:
        ConfigurationError: A request is malformed.
    """
    requests: dict[str, ApprovalRequest] = {}
    for one in interrupts:
        if is_mapping(one.reason) and APPROVAL in one.reason:
            requests[one.id] = request_from(one.reason[APPROVAL])
    return requests


def answer(
    interrupts: Sequence[Interrupt], enforcer: Enforcer, *, by: Human, reject: bool = False, reason: str | None = None
) -> list["InterruptResponseContent"]:
    """Return the prompt that resumes an agent with a person's decision on all requests of its interrupts.

    Call it outside any task, because people decide, not agents.

    Args:
        interrupts: As for :func:`requests_of`.
        enforcer: Signs the ruling.
        by: The approver; not the principal.
        reject: Reject the calls.
        reason: The reason of the rejection, shown to the agent.

    Raises:
        ConfigurationError: No interrupt has a request, or a request was altered.
        Denied: The approver is the principal or the agent, a task is open here, or a request has expired.
    """
    missing = "no interrupt asks for an approval; pass those of approval_by_interrupt"
    given = rulings(enforcer, requests_of(interrupts), by=by, reject=reject, reason=reason, missing=missing)
    return [{"interruptResponse": {"interruptId": name, "response": ruling}} for name, ruling in given.items()]


def _ask(request: ApprovalRequest) -> str:
    return cast("str", INTERRUPTING.get()(APPROVAL, {APPROVAL: request.to_dict()}))
