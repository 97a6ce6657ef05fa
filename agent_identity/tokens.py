"""Public API for the sources of tokens for the services that a task calls.

>>> from agent_identity import Enforcer
>>> from agent_identity.tokens import TokenExchange
>>> exchange = TokenExchange("https://login.example.com/token", "agents", subject_token=lambda grant: "…")
>>> enforcer = Enforcer.open("evidence", tokens=exchange)  # doctest: +SKIP
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent_identity._authority.tokens.downstream import DownstreamToken
    from agent_identity._authority.tokens.source import IssuedToken, TokenSource
    from agent_identity._directory.tokens.local_tokens import LocalTokens
    from agent_identity._directory.tokens.token_exchange import TokenExchange
    from agent_identity._guard.common.http_transport import HttpTransport, Reply, Transport
    from agent_identity._identity.keys.jwt_keys import JwtKey
else:
    from agent_identity._common.lazy import lazily

    __getattr__, __dir__ = lazily(
        __name__,
        {
            "agent_identity._authority.tokens.downstream": ("DownstreamToken",),
            "agent_identity._authority.tokens.source": ("IssuedToken", "TokenSource"),
            "agent_identity._directory.tokens.local_tokens": ("LocalTokens",),
            "agent_identity._directory.tokens.token_exchange": ("TokenExchange",),
            "agent_identity._guard.common.http_transport": ("HttpTransport", "Reply", "Transport"),
            "agent_identity._identity.keys.jwt_keys": ("JwtKey",),
        },
    )

__all__ = [
    "DownstreamToken",
    "HttpTransport",
    "IssuedToken",
    "JwtKey",
    "LocalTokens",
    "Reply",
    "TokenExchange",
    "TokenSource",
    "Transport",
]
