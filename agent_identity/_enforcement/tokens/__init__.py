"""Tokens that a task gets for other services."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent_identity._enforcement.tokens.local_tokens import LocalTokens
    from agent_identity._enforcement.tokens.task_tokens import TokenService
    from agent_identity._enforcement.tokens.token_exchange import TokenExchange
else:
    from agent_identity._common.lazy import lazily

    __getattr__, __dir__ = lazily(
        __name__,
        {
            "agent_identity._enforcement.tokens.local_tokens": ("LocalTokens",),
            "agent_identity._enforcement.tokens.task_tokens": ("TokenService",),
            "agent_identity._enforcement.tokens.token_exchange": ("TokenExchange",),
        },
    )

__all__ = [
    "LocalTokens",
    "TokenExchange",
    "TokenService",
]
