"""Tokens for other services: sources, token exchange (RFC 8693), signed JWTs."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent_identity._authority.tokens.downstream import DownstreamToken
    from agent_identity._authority.tokens.exchange import (
        ACCESS_TOKEN,
        GRANT_TYPE_EXCHANGE,
        JWT,
        MAX_ANSWER,
        read_answer,
        read_refusal,
    )
    from agent_identity._authority.tokens.jwt import (
        ACCESS_TOKEN_TYPE,
        access_claims,
        actor_claims,
        check_nonce,
        check_url,
        client_claims,
        dpop_proof,
        sign_jwt,
    )
    from agent_identity._authority.tokens.source import IssuedToken, TokenOrder, TokenSource, check_order, check_scope
else:
    from agent_identity._common.lazy import lazily

    __getattr__, __dir__ = lazily(
        __name__,
        {
            "agent_identity._authority.tokens.downstream": ("DownstreamToken",),
            "agent_identity._authority.tokens.exchange": (
                "ACCESS_TOKEN",
                "GRANT_TYPE_EXCHANGE",
                "JWT",
                "MAX_ANSWER",
                "read_answer",
                "read_refusal",
            ),
            "agent_identity._authority.tokens.jwt": (
                "ACCESS_TOKEN_TYPE",
                "access_claims",
                "actor_claims",
                "check_nonce",
                "check_url",
                "client_claims",
                "dpop_proof",
                "sign_jwt",
            ),
            "agent_identity._authority.tokens.source": (
                "IssuedToken",
                "TokenOrder",
                "TokenSource",
                "check_order",
                "check_scope",
            ),
        },
    )

__all__ = [
    "ACCESS_TOKEN",
    "ACCESS_TOKEN_TYPE",
    "GRANT_TYPE_EXCHANGE",
    "JWT",
    "MAX_ANSWER",
    "DownstreamToken",
    "IssuedToken",
    "TokenOrder",
    "TokenSource",
    "access_claims",
    "actor_claims",
    "check_nonce",
    "check_order",
    "check_scope",
    "check_url",
    "client_claims",
    "dpop_proof",
    "read_answer",
    "read_refusal",
    "sign_jwt",
]
