"""Approval by confirmations of Google ADK: the run stops, and a later one brings the ruling of a person."""

from collections.abc import Iterable, Mapping
from typing import Final

from google.adk.events import Event
from google.genai import types

from agent_identity import Enforcer, Human
from agent_identity.approvals import Approval, ApprovalRequest, Approvers
from agent_identity.errors import Denied
from agent_identity.integrations.carried_approvals import APPROVAL, RULING, carried_approval, request_from, rulings
from agent_identity.integrations.frameworks.google_adk.tools import SuspendedError, current_call
from agent_identity.integrations.narrowing import is_mapping

__all__ = ["answer", "approval_by_confirmation", "requests_of"]

_CONFIRMATION: Final = "adk_request_confirmation"


def approval_by_confirmation(approvers: Approvers = Approvers()) -> Approval:
    """Return an approval channel that asks by a confirmation of the ADK; for ``routes`` of an enforcer.

    The session holds the request, with the arguments for the tool; so does the model's call, which it holds anyway.
    Send what :func:`answer` returns as the next message of the session, inside a task of the same principal and agent.
    The session gives no authority: a plain confirmation is refused, and a ruling is bound to the one call. Do not set
    ``require_confirmation`` on such a tool as well: its confirmation comes first and brings no ruling.

    Args:
        approvers: Who may approve, and how long the request lives; the requesting task may end meanwhile.
    """
    return carried_approval(_ask, approvers, SuspendedError)


def requests_of(events: Iterable[Event]) -> dict[str, ApprovalRequest]:
    """Return the approval requests among the events of a run, by the id of the confirmation.

    Args:
        events: The events of ``run_async``, or those of a session.

    Raises:
        ConfigurationError: A request is malformed.
    """
    requests = dict[str, ApprovalRequest]()
    for call in (call for event in events for call in event.get_function_calls()):
        payload = _payload(call.args) if call.name == _CONFIRMATION else None
        if call.id is not None and payload is not None and APPROVAL in payload:
            requests[call.id] = request_from(payload[APPROVAL])
    return requests


def answer(
    events: Iterable[Event],
    enforcer: Enforcer,
    *,
    by: Human,
    reject: bool = False,
    reason: str | None = None,
) -> types.Content:
    """Return the message that continues a session with a person's decision on all requests of its events.

    Call it outside any task, because people decide, not agents.

    Args:
        events: As for :func:`requests_of`; those of the run that asked.
        enforcer: Signs the ruling.
        by: The approver; not the principal.
        reject: Reject the calls.
        reason: The reason of the rejection, shown to the agent.

    Raises:
        ConfigurationError: No event has a request, or a request was altered.
        Denied: The approver is the principal or the agent, a task is open here, or a request has expired.
    """
    missing = "no event asks for an approval; pass those of approval_by_confirmation"
    given = rulings(enforcer, requests_of(events), by=by, reject=reject, reason=reason, missing=missing)
    parts = list[types.Part]()
    for name, ruling in given.items():
        response = {"confirmed": not reject, "payload": {RULING: ruling}}
        parts.append(
            types.Part(function_response=types.FunctionResponse(id=name, name=_CONFIRMATION, response=response))
        )
    return types.Content(role="user", parts=parts)


def _ask(request: ApprovalRequest) -> str:
    """Return the ruling that this run brings, or ask for one.

    Raises:
        SuspendedError: The run has to stop.
        Denied: The call has no id to come back to.
    """
    context = current_call()
    if context is None or not context.function_call_id:
        raise Denied("no call of an ADK tool runs here; use another channel for this tool", code="route_unavailable")
    confirmation = context.tool_confirmation
    if confirmation is not None:
        payload: object = confirmation.payload
        ruling = payload.get(RULING) if is_mapping(payload) else None
        return ruling if isinstance(ruling, str) else ""  # What nobody has signed is refused as forged.
    context.request_confirmation(
        hint=f"{request.tool} waits for the approval of a person", payload={APPROVAL: request.to_dict()}
    )
    context.actions.skip_summarization = True  # Otherwise the app asks the model again, and it calls the tool again.
    raise SuspendedError({"error": f"{request.tool} waits for the approval of a person"})


def _payload(args: Mapping[str, object] | None) -> Mapping[str, object] | None:
    """Return the payload of a request for a confirmation."""
    confirmation = (args or {}).get("toolConfirmation")
    if not is_mapping(confirmation):
        return None
    payload = confirmation.get("payload")
    return payload if is_mapping(payload) else None
