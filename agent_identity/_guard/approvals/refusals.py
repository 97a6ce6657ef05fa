"""Refusals of calls whose approval is missing, belongs to another call, or is late."""

import logging
from typing import Final

from agent_identity._guard.common.failures import safe_message
from agent_identity.errors import AgentIdentityError, Denied

_LOG: Final = logging.getLogger("agent_identity")


def pending(tool: str, request: str) -> Denied:
    """Return the refusal of a call without a decision yet."""
    return Denied(
        f"{tool}: approval request {request} is pending; make the same call again in this task when it is decided",
        code="approval_pending",
    )


def coroutine_ask(tool: str) -> Denied:
    """Return the refusal of a call that a coroutine function would have to approve, from synchronous code."""
    return Denied(
        f"{tool}: ask of the approval channel is a coroutine function, and the tool is not; give it a function",
        code="approval_failed",
    )


def expired(tool: str) -> Denied:
    """Return the refusal of a call whose request or approval has expired."""
    return Denied(f"{tool}: the approval is late or missing; ask again", code="approval_expired")


def mismatch(tool: str) -> Denied:
    """Return the refusal of a call with the approval of another call."""
    return Denied(
        f"{tool}: the approval is for another call; every call with other arguments needs its own",
        code="approval_mismatch",
    )


def outdated(tool: str) -> Denied:
    """The task has read more than the approval exempts."""
    return Denied(
        f"{tool}: the task has read other inputs than those that were approved; ask again", code="approval_stale"
    )


def unbindable(tool: str) -> Denied:
    """The task has read more than one ruling can name."""
    return Denied(
        f"{tool}: the task has read from more sources than a person can be asked about at once; open a new task",
        code="approval_unbindable",
    )


def altered(tool: str) -> Denied:
    """Return the refusal of a call whose request was altered before a person saw it."""
    return Denied(
        f"{tool}: the request that was answered differs from the one that was made; ask again",
        code="approval_altered",
    )


def forged(tool: str) -> Denied:
    """Return the refusal of a call whose channel returned neither an answer nor a signed ruling."""
    return Denied(
        f"{tool}: the approval handler returned neither an answer nor a signed ruling; return request.approve(by=...), "
        "request.reject(by=...), or what Approvals.approve returned",
        code="approval_forged",
    )


def failed(tool: str, error: AgentIdentityError) -> Denied:
    """Return the refusal of a call whose channel failed; the log has the cause."""
    _LOG.error("asking for an approval of %s failed, the call is refused: %s", tool, safe_message(error))
    return Denied(f"{tool}: asking for an approval failed ({error.code}); see the log", code="approval_failed")


def uncheckable(tool: str) -> Denied:
    """Return the refusal where no one can tell whether an approval was used before."""
    return Denied(
        f"{tool}: the shared state does not answer, and the use of the approval cannot be checked; "
        "see the log, and try again when it does",
        code="state_unavailable",
    )
