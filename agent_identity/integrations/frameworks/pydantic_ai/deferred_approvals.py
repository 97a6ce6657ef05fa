"""Approvals by the deferred tools of Pydantic AI: the run ends, and whoever resumes it brings the ruling."""

from typing import cast

from pydantic_ai import DeferredToolRequests, DeferredToolResults
from pydantic_ai.exceptions import ApprovalRequired

from agent_identity import Enforcer, Human
from agent_identity.approvals import Approval, ApprovalRequest, Approvers
from agent_identity.integrations.carried_approvals import APPROVAL, carried_approval, request_from, rulings
from agent_identity.integrations.frameworks.pydantic_ai.calls import running
from agent_identity.integrations.narrowing import is_dict

__all__ = ["answer", "approval_by_deferral", "requests_of"]


def approval_by_deferral(approvers: Approvers = Approvers()) -> Approval:
    """Return an approval channel that defers a call until somebody decides; for ``routes`` of an enforcer.

    The run ends with a ``DeferredToolRequests``, whose metadata holds the request; name that type in ``output_type``.
    Resume with :func:`answer`, inside a task of the same principal and agent. An approval of Pydantic AI alone, without
    a ruling, permits nothing.

    Args:
        approvers: Who may approve, and how long the request lives; the requesting task may end meanwhile.
    """
    return carried_approval(_ask, approvers, ApprovalRequired, channel="deferred-tool")


def requests_of(deferred: DeferredToolRequests) -> dict[str, ApprovalRequest]:
    """Return the approval requests among the deferred calls of a run, by tool call id.

    Args:
        deferred: The output of the run.

    Raises:
        ConfigurationError: A request is malformed.
    """
    return {
        name: request_from(metadata[APPROVAL]) for name, metadata in deferred.metadata.items() if APPROVAL in metadata
    }


def answer(
    deferred: DeferredToolRequests,
    enforcer: Enforcer,
    *,
    by: Human,
    reject: bool = False,
    reason: str | None = None,
) -> DeferredToolResults:
    """Return the results that resume a run with a person's decision on all requests of its deferred calls.

    Call it outside any task, because people decide, not agents. Pass the results as ``deferred_tool_results=``, with
    the messages of the run as ``message_history=``.

    Args:
        deferred: The output of the run.
        enforcer: Signs the ruling.
        by: The approver; not the principal.
        reject: Reject the calls.
        reason: The reason of the rejection, shown to the agent.

    Raises:
        ConfigurationError: No call waits for an approval, or a request was altered.
        Denied: The approver is the principal or the agent, a task is open here, or a request has expired.
    """
    missing = "no deferred call asks for an approval; pass the output of the run that was deferred"
    given = rulings(enforcer, requests_of(deferred), by=by, reject=reject, reason=reason, missing=missing)
    results = DeferredToolResults()
    for name, ruling in given.items():
        results.approvals[name] = True  # The guard reads the ruling, also one that rejects.
        results.metadata[name] = {APPROVAL: ruling}
    return results


def _ask(request: ApprovalRequest) -> str:
    ctx = running.get()
    metadata = cast("object", None if ctx is None else ctx.tool_call_metadata)
    ruling = metadata.get(APPROVAL) if is_dict(metadata) else None
    if isinstance(ruling, str):
        return ruling
    raise ApprovalRequired({APPROVAL: request.to_dict()})
