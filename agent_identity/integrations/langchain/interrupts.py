"""Approval by LangGraph interrupts: the graph stops, and the resuming caller brings the ruling.

Needs LangGraph, which comes with the ``langchain`` distribution.
"""

from collections.abc import Sequence
from typing import cast

from agent_identity import Enforcer, Human
from agent_identity.approvals import Approval, ApprovalRequest, Approvers
from agent_identity.integrations.carried_approvals import APPROVAL, carried_approval, request_from, rulings
from agent_identity.integrations.narrowing import is_mapping

try:
    from langgraph.errors import GraphInterrupt
    from langgraph.types import Command, Interrupt, interrupt
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] != "langgraph":
        raise
    raise ImportError("langgraph is not installed; pip install langgraph") from error

__all__ = ["answer", "approval_by_interrupt", "requests_of"]


def approval_by_interrupt(approvers: Approvers = Approvers()) -> Approval:
    """Return an approval channel that suspends the graph until somebody decides; for ``routes`` of an enforcer.

    The interrupt value holds the request, with the arguments for the tool; so does the
    checkpoint, which holds the model's call anyway. Resume with :func:`answer`, inside a task of the same principal and
    agent. The checkpoint gives no authority: its ruling is bound to the one call.

    Args:
        approvers: Who may approve, and how long the request lives; the requesting task may end meanwhile.
    """
    return carried_approval(_ask, approvers, GraphInterrupt)


def requests_of(interrupts: Sequence[Interrupt]) -> dict[str, ApprovalRequest]:
    """Return the approval requests among the interrupts of a graph, by interrupt id.

    Args:
        interrupts: ``result["__interrupt__"]``, or ``graph.get_state(config).interrupts``.
    """
    requests: dict[str, ApprovalRequest] = {}
    for one in interrupts:
        value = cast("object", one.value)
        if is_mapping(value) and APPROVAL in value:
            requests[one.id] = request_from(value[APPROVAL])
    return requests


def answer(
    interrupts: Sequence[Interrupt],
    enforcer: Enforcer,
    *,
    by: Human,
    reject: bool = False,
    reason: str | None = None,
) -> "Command[tuple[()]]":
    """Return the command that resumes a graph with a person's decision on all requests of its interrupts.

    Call it outside any task, because people decide, not agents. For separate decisions, sign each request of
    :func:`requests_of` with :meth:`Approvals.approve` or :meth:`~Approvals.reject`, and resume with
    ``Command(resume={interrupt_id: ruling, …})``.

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
    return Command(
        resume=rulings(enforcer, requests_of(interrupts), by=by, reject=reject, reason=reason, missing=missing)
    )


def _ask(request: ApprovalRequest) -> str:
    return cast("str", interrupt({APPROVAL: request.to_dict()}))
