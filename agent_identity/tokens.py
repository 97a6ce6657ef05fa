"""Public API for the sources of tokens for the services that a task calls.

>>> from agent_identity import Enforcer
>>> from agent_identity.tokens import TokenExchange
>>> exchange = TokenExchange("https://login.example.com/token", "agents", subject_token=lambda grant: "…")
>>> enforcer = Enforcer.open("evidence", tokens=exchange)  # doctest: +SKIP
"""

from agent_identity.authority.downstream import DownstreamToken
from agent_identity.authority.token_source import IssuedToken, TokenOrder, TokenSource
from agent_identity.enforcement.local_tokens import LocalTokens
from agent_identity.enforcement.token_exchange import TokenExchange
from agent_identity.enforcement.transport import HttpTransport, Reply, Transport
from agent_identity.identity import JwtKey, JwtSigner

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
