"""Public API for the sources of tokens for the services that a task calls.

>>> from agent_identity import Enforcer
>>> from agent_identity.tokens import TokenExchange
>>> exchange = TokenExchange("https://login.example.com/token", "agents", subject_token=lambda grant: "…")
>>> enforcer = Enforcer.open("evidence", tokens=exchange)  # doctest: +SKIP
"""

from agent_identity._authority.tokens import DownstreamToken, IssuedToken, TokenOrder, TokenSource
from agent_identity._enforcement.common import HttpTransport, Reply, Transport
from agent_identity._enforcement.tokens import LocalTokens, TokenExchange
from agent_identity._identity.keys import JwtKey, JwtSigner

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
