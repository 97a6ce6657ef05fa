"""Google ADK: ``App(plugins=[AgentIdentityPlugin(enforcer)])`` guards every tool of an app.

Needs the extra ``google-adk``.
"""

try:
    from agent_identity.integrations.frameworks.google_adk.approvals import (
        answer,
        approval_by_confirmation,
        requests_of,
    )
    from agent_identity.integrations.frameworks.google_adk.plugin import AgentIdentityPlugin, instrument
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] != "google":
        raise
    raise ImportError("google-adk is not installed; run pip install '.[google-adk]' in the checkout") from error

__all__ = ["AgentIdentityPlugin", "answer", "approval_by_confirmation", "instrument", "requests_of"]
