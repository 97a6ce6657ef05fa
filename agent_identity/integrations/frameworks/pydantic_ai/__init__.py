"""Pydantic AI: the capability ``AgentIdentity(enforcer)`` guards all tools of an agent, and the calls of its model.

Needs the extra ``pydantic-ai``.
"""

from agent_identity.adapters import bind_stream

try:
    from agent_identity.integrations.frameworks.pydantic_ai.capability import AgentIdentity, instrument
    from agent_identity.integrations.frameworks.pydantic_ai.deferred_approvals import (
        answer,
        approval_by_deferral,
        requests_of,
    )
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] != "pydantic_ai":
        raise
    raise ImportError("pydantic-ai is not installed; run pip install '.[pydantic-ai]' in the checkout") from error

__all__ = ["AgentIdentity", "answer", "approval_by_deferral", "bind_stream", "instrument", "requests_of"]
