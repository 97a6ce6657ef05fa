"""Strands Agents: ``Agent(tools=[…], hooks=[AgentIdentityHooks(enforcer)])`` guards the tools of an agent.

Needs the extra ``strands``.
"""

try:
    from agent_identity.integrations.frameworks.strands.approvals import answer, approval_by_interrupt, requests_of
    from agent_identity.integrations.frameworks.strands.hooks import AgentIdentityHooks, instrument
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] != "strands":
        raise
    raise ImportError("strands-agents is not installed; run pip install '.[strands]' in the checkout") from error

__all__ = ["AgentIdentityHooks", "answer", "approval_by_interrupt", "instrument", "requests_of"]
