"""Approvals by events of a LlamaIndex workflow: a step waits, also in a saved context, until the ruling arrives."""

import hashlib
from typing import Final, cast

from llama_index.core.workflow import HumanResponseEvent, InputRequiredEvent
from workflows.runtime.types.results import StepWorkerStateContextVar, WaitingForEvent

from agent_identity import Enforcer, Human, canonical
from agent_identity.approvals import Approval, ApprovalRequest, Approvers
from agent_identity.errors import ConfigurationError
from agent_identity.integrations.carried_approvals import carried_approval, request_from, rulings
from agent_identity.integrations.frameworks.llama_index.guarded_calls import running

__all__ = ["answer", "approval_by_event", "requests_of"]

_KEY: Final = "agent_identity_approval"
_WAITER: Final = "agent_identity_waiter"


def approval_by_event(approvers: Approvers = Approvers()) -> Approval:
    """Return an approval channel that waits for an event until somebody decides; for ``routes`` of an enforcer.

    The workflow streams an ``InputRequiredEvent`` with the request; send :func:`answer` to its context, which may have
    been saved and restored meanwhile, inside a task of the same principal and agent.

    Args:
        approvers: Who may approve, and how long the request lives; the requesting task may end meanwhile.
    """
    return carried_approval(_ask, approvers, WaitingForEvent, channel="workflow-event")


def requests_of(event: InputRequiredEvent) -> tuple[ApprovalRequest, ...]:
    """Return the approval request of an event; none if it asks for something else.

    Args:
        event: The event from the stream of the run.

    Raises:
        ConfigurationError: The request is malformed.
    """
    request = event.get(_KEY)
    return () if request is None else (request_from(request),)


def answer(
    event: InputRequiredEvent,
    enforcer: Enforcer,
    *,
    by: Human,
    reject: bool = False,
    reason: str | None = None,
) -> HumanResponseEvent:
    """Return the event with a person's decision, for ``ctx.send_event``.

    Call it outside any task, because people decide, not agents.

    Args:
        event: The event that asked.
        enforcer: Signs the ruling.
        by: The approver; not the principal.
        reject: Reject the call.
        reason: The reason of the rejection, shown to the agent.

    Raises:
        ConfigurationError: The event asks for no approval, or the request was altered.
        Denied: The approver is the principal or the agent, a task is open here, or the request has expired.
    """
    missing = "the event asks for no approval; pass one of approval_by_event"
    requests = dict(enumerate(requests_of(event)))
    ruling = rulings(enforcer, requests, by=by, reject=reject, reason=reason, missing=missing)[0]
    return HumanResponseEvent(**{"response": ruling, _WAITER: event.get(_WAITER)})


async def _ask(request: ApprovalRequest) -> str:
    context = running.get()
    if context is None:
        raise ConfigurationError(
            "only tools that an agent of LlamaIndex calls can wait for an event; protect them with use_context=True"
        )
    # The step begins again for the answer, maybe in another task: the waiter has the name of what is asked.
    asked = canonical.encode({"tool": request.tool, "arguments": dict(request.arguments), "item": _work_item()})
    waiter = f"agent_identity:{hashlib.sha256(asked).hexdigest()}"
    asking = InputRequiredEvent(**{_KEY: request.to_dict(), _WAITER: waiter})
    event = await context.wait_for_event(
        HumanResponseEvent, waiter_event=asking, waiter_id=waiter, requirements={_WAITER: waiter}, timeout=None
    )
    return cast("str", event.response)


def _work_item() -> object:
    """Return what tells this call of a step from others, and stays when the step begins again; ``None`` if unknown.

    LlamaIndex makes its own names of waiters of it: two calls that wait at once must not have one name.
    """
    step = StepWorkerStateContextVar.get(None)
    return None if step is None else getattr(step.state, "work_item_id", None)
