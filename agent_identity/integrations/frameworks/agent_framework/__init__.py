"""Microsoft Agent Framework: ``Agent(client=…, middleware=[AgentIdentityMiddleware(enforcer)])`` guards its tools.

Needs the extra ``agent-framework``.
"""

try:
    from agent_identity.integrations.frameworks.agent_framework.approvals import (
        answer,
        approval_by_request,
        requests_of,
    )
    from agent_identity.integrations.frameworks.agent_framework.middleware import AgentIdentityMiddleware, instrument
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] != "agent_framework":
        raise
    raise ImportError(
        "agent-framework-core is not installed; run pip install '.[agent-framework]' in the checkout"
    ) from error

__all__ = ["AgentIdentityMiddleware", "answer", "approval_by_request", "instrument", "requests_of"]
