"""Applies the decision of a policy to a call: it runs, is refused, or is routed."""

from collections.abc import Callable, Mapping

from agent_identity._guard.calls.approval_request import Approval
from agent_identity._guard.calls.call import Call, Judgement, Routing
from agent_identity._guard.common.recorded_decisions import blocked_by
from agent_identity._policy.decision.decision import Decision, Effect
from agent_identity.errors import PolicyBlocked, Routed

__all__ = ["take_effect"]


def take_effect(call: Call, decision: Decision, routes: Mapping[str, Callable[..., object] | Approval]) -> None:
    """Give a call the decision of the policy, and what takes over if it is routed.

    Args:
        call: The call.
        decision: The decision.
        routes: Handlers by name.

    Raises:
        PolicyBlocked: The policy blocks it.
        Routed: Nobody takes over, or this call cannot be taken over.
    """
    tool = call.tool
    call.judged(Judgement(decision))
    if decision.effect is Effect.BLOCK:
        raise PolicyBlocked(blocked_by(decision, tool), code=decision.reason, decision=decision)
    if decision.effect is not Effect.ROUTE:
        return
    handler = routes.get(decision.route or "")
    call.routing = Routing(decision.route or "unnamed")
    if isinstance(handler, Approval):
        call.routing.channel = handler
    elif handler is None:
        name = call.routing.name
        message = f"{tool}: routed to {name!r}, and no handler has that name; pass it to the enforcer in routes="
        raise Routed(message, code="route_unavailable", decision=decision)
    elif not call.request.can_route:
        raise Routed(f"{tool}: routed elsewhere; this call did not run", decision=decision)
    else:
        call.route = handler
    call.judged(Judgement(decision, "escalate"))
