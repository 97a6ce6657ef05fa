"""LangChain: ``protect(tool, enforcer)`` guards a tool in place, and it stays the same tool.

Needs the extra ``langchain``.
"""

from agent_identity.adapters import bind_stream

try:
    from agent_identity.integrations.langchain.protection import is_protected, protect, unprotect
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] != "langchain_core":
        raise
    raise ImportError("langchain-core is not installed; run pip install '.[langchain]' in the checkout") from error

__all__ = ["bind_stream", "is_protected", "protect", "unprotect"]
