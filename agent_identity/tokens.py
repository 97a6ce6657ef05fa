"""Public API for the sources of tokens for the services that a task calls.

>>> from agent_identity import Enforcer
>>> from agent_identity.tokens import TokenExchange
>>> exchange = TokenExchange("https://login.example.com/token", "agents", subject_token=lambda grant: "…")
>>> enforcer = Enforcer.open("evidence", tokens=exchange)  # doctest: +SKIP
"""

from agent_identity._authority.tokens.downstream import DownstreamToken
from agent_identity._authority.tokens.source import IssuedToken, TokenOrder, TokenSource
from agent_identity._directory.tokens.local_tokens import LocalTokens
from agent_identity._directory.tokens.token_exchange import TokenExchange
from agent_identity._guard.common.http_transport import HttpTransport, Reply, Transport
from agent_identity._identity.keys.jwt_keys import JwtKey, JwtSigner

__all__ = [
    "DownstreamToken",
    "HttpTransport",
    "IssuedToken",
    "JwtKey",
    "JwtSigner",
    "LocalTokens",
    "Reply",
    "TokenExchange",
    "TokenOrder",
    "TokenSource",
    "Transport",
]
