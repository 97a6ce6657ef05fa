"""LlamaIndex: ``protect(tools, enforcer)`` returns the tools of an agent under guard.

Needs the extra ``llama-index``.
"""

try:
    from agent_identity.integrations.frameworks.llama_index.event_approvals import (
        answer,
        approval_by_event,
        requests_of,
    )
    from agent_identity.integrations.frameworks.llama_index.protection import instrument, protect
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] not in {"llama_index", "workflows"}:
        raise
    raise ImportError("llama-index-core is not installed; run pip install '.[llama-index]' in the checkout") from error

__all__ = ["answer", "approval_by_event", "instrument", "protect", "requests_of"]
