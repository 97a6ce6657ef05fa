"""Approval by requests of Microsoft Agent Framework: the run stops, and a later one brings the ruling of a person."""

from collections.abc import Iterable, Mapping
from typing import Final

from agent_framework import Content, Message

from agent_identity import Enforcer, Human
from agent_identity.approvals import Approval, ApprovalRequest, Approvers
from agent_identity.errors import Denied
from agent_identity.integrations.carried_approvals import carried_approval, request_from, rulings
from agent_identity.integrations.frameworks.agent_framework.tools import SuspendedError, current_call

__all__ = ["answer", "approval_by_request", "requests_of"]

_REQUEST: Final = "agent_identity_approval"
_RULING: Final = "agent_identity_ruling"


def approval_by_request(approvers: Approvers = Approvers()) -> Approval:
    """Return an approval channel that asks by a ``function_approval_request``; for ``routes`` of an enforcer.

    The request holds the arguments for the tool; so does the model's call beside it. Send what :func:`answer` returns
    as the next message of the session, inside a task of the same principal and agent. The session gives no
    authority: an approval without a ruling is refused, and a ruling is bound to the one call.

    Args:
        approvers: Who may approve, and how long the request lives; the requesting task may end meanwhile.
    """
    return carried_approval(_ask, approvers, SuspendedError)


def requests_of(contents: Iterable[Content]) -> dict[str, ApprovalRequest]:
    """Return the approval requests among those of a response, by their ids.

    Args:
        contents: ``response.user_input_requests``.

    Raises:
        ConfigurationError: A request is malformed.
    """
    requests = dict[str, ApprovalRequest]()
    for content in contents:
        carried: object = (content.additional_properties or {}).get(_REQUEST)
        if content.type == "function_approval_request" and content.id is not None and carried is not None:
            requests[content.id] = request_from(carried)
    return requests


def answer(
    contents: Iterable[Content],
    enforcer: Enforcer,
    *,
    by: Human,
    reject: bool = False,
    reason: str | None = None,
) -> Message:
    """Return the message that continues a session with a person's decision on all requests of a response.

    A rejection goes the same way as an approval, so that it gets on record with its reason. Call this outside any
    task, because people decide, not agents.

    Args:
        contents: As for :func:`requests_of`.
        enforcer: Signs the ruling.
        by: The approver; not the principal.
        reject: Reject the calls.
        reason: The reason of the rejection, shown to the agent.

    Raises:
        ConfigurationError: No content has a request, or a request was altered.
        Denied: The approver is the principal or the agent, a task is open here, or a request has expired.
    """
    asked = {content.id: content for content in contents if content.id is not None}
    missing = "no request asks for our approval; pass the user_input_requests of the response"
    given = rulings(enforcer, requests_of(asked.values()), by=by, reject=reject, reason=reason, missing=missing)
    answers = list[Content]()
    for name, ruling in given.items():
        approved = asked[name].to_function_approval_response(approved=True)
        approved.additional_properties = {_RULING: ruling}
        answers.append(approved)
    return Message("user", answers)


def _ask(request: ApprovalRequest) -> str:
    """Return the ruling that this run brings, or ask for one.

    Raises:
        SuspendedError: The run has to stop.
        Denied: No function of the framework runs here.
    """
    context = current_call()
    if context is None:
        raise Denied("no function of an agent runs here; use another channel for this tool", code="route_unavailable")
    response: object = context.metadata.get("approval_response")
    if response is None:
        raise SuspendedError({_REQUEST: request.to_dict()})
    carried: object = getattr(response, "additional_properties", None)
    ruling: object = carried.get(_RULING) if isinstance(carried, Mapping) else None
    return ruling if isinstance(ruling, str) else ""  # What nobody has signed is refused as forged.
