"""OpenAI Agents SDK: ``protect(agent, enforcer)`` guards the tools of an agent and of the agents behind it.

Needs the extra ``openai-agents``.
"""

try:
    from agent_identity.integrations.frameworks.openai_agents.interruptions import (
        answer,
        approval_by_interruption,
        load_run,
        requests_of,
        save_run,
    )
    from agent_identity.integrations.frameworks.openai_agents.model_calls import protect_model
    from agent_identity.integrations.frameworks.openai_agents.protection import (
        instrument,
        protect,
        provider_tools,
        unprotect,
    )
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] not in {"agents", "openai"}:
        raise
    raise ImportError("openai-agents is not installed; run pip install '.[openai-agents]' in the checkout") from error

__all__ = [
    "answer",
    "approval_by_interruption",
    "instrument",
    "load_run",
    "protect",
    "protect_model",
    "provider_tools",
    "requests_of",
    "save_run",
    "unprotect",
]
