"""What a call is told whose approval is not there, not its own, or not in time."""

import logging
from typing import Final

from agent_identity.enforcement.failures import trouble
from agent_identity.errors import AgentIdentityError, Denied

__all__ = ["altered", "coroutine_desk", "expired", "failed", "forged", "mismatch", "pending"]

_LOG: Final = logging.getLogger("agent_identity")


def pending(tool: str, request: str) -> Denied:
    """Nobody has decided yet."""
    return Denied(
        f"{tool}: waits for an approval, request {request}; make the same call again when it is decided",
        code="approval_pending",
    )


def coroutine_desk(tool: str) -> Denied:
    """The desk can be asked from coroutines only."""
    return Denied(
        f"{tool}: the desk asks by a coroutine function and the tool is none; give the desk a function",
        code="approval_failed",
    )


def expired(tool: str) -> Denied:
    """Nobody decided, or the approval was not used, in time."""
    return Denied(f"{tool}: expected an approval in time, got none; ask again", code="approval_expired")


def mismatch(tool: str) -> Denied:
    """The approval is of another call."""
    return Denied(
        f"{tool}: expected the approval of this call, got one for another call; every call with other "
        "arguments needs its own",
        code="approval_mismatch",
    )


def altered(tool: str) -> Denied:
    """The request that a person saw is not the one that this process made."""
    return Denied(
        f"{tool}: the request that was answered differs from the one that was made; ask again",
        code="approval_altered",
    )


def forged(tool: str) -> Denied:
    """The desk returned neither an answer nor a signed ruling."""
    return Denied(
        f"{tool}: the desk returned neither an answer nor a signed ruling; return request.approve(by=...), "
        "request.reject(by=...), or what Approvals.approve returned",
        code="approval_forged",
    )


def failed(tool: str, error: AgentIdentityError) -> Denied:
    """Asking failed; why is for the log."""
    _LOG.error("asking for an approval of %s failed, the call is refused: %s", tool, trouble(error))
    return Denied(f"{tool}: asking for an approval failed ({error.code}); see the log", code="approval_failed")
