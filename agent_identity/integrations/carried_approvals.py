"""Approvals that a framework carries: requests leave with a suspended run, and rulings come back to resume it."""

from collections.abc import Awaitable, Callable, Hashable, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Final, TypeVar, cast

from agent_identity import Enforcer, Human
from agent_identity.approvals import Approval, ApprovalRequest, Approvers
from agent_identity.errors import ConfigurationError

__all__ = ["carried_approval", "request_from", "rulings"]

_A_WEEK: Final = timedelta(days=7)
_Id = TypeVar("_Id", bound=Hashable)


def carried_approval(
    ask: Callable[[ApprovalRequest], str | Awaitable[str]],
    approvers: Approvers,
    suspends: type[BaseException],
    *,
    channel: str | None = None,
) -> Approval:
    """Return the approval channel of a framework that carries the request; by default a request lives for a week.

    Args:
        ask: Returns the ruling that a resumed run brings, or raises ``suspends``.
        approvers: Who may approve.
        suspends: The exception with which the framework suspends a run.
        channel: The name of the channel in records.
    """
    carried = Approval(ask=ask, approvers=approvers, suspends=(suspends,), channel=channel)
    return replace(carried, approvers=replace(approvers, ttl=approvers.ttl or _A_WEEK))


def request_from(carried: object) -> ApprovalRequest:
    """Return the approval request that a framework carried as JSON.

    Args:
        carried: What :meth:`ApprovalRequest.to_dict` returned.

    Raises:
        ConfigurationError: It is malformed.
    """
    try:
        return ApprovalRequest.from_dict(cast("Mapping[str, object]", carried))
    except ValueError as error:
        raise ConfigurationError(str(error)) from None


def rulings(
    enforcer: Enforcer,
    requests: Mapping[_Id, ApprovalRequest],
    *,
    by: Human,
    reject: bool,
    reason: str | None,
    missing: str,
) -> dict[_Id, str]:
    """Return a person's signed decision on each request.

    Args:
        enforcer: Signs the rulings.
        requests: The requests, by the framework's ids.
        by: The approver; not the principal.
        reject: Reject the calls.
        reason: The reason of the rejection, shown to the agent.
        missing: The message of the error, if there is no request.

    Raises:
        ConfigurationError: There is no request, or a request was altered.
        Denied: The approver is the principal or the agent, a task is open here, or a request has expired.
    """
    if not requests:
        raise ConfigurationError(missing)
    approvals = enforcer.approvals
    if reject:
        return {name: approvals.reject(request, by=by, reason=reason) for name, request in requests.items()}
    return {name: approvals.approve(request, by=by) for name, request in requests.items()}
