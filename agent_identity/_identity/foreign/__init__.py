"""Verification of tokens and certificates that others issued: OpenID Connect, JWT, JWKS, SPIFFE."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent_identity._identity.foreign.claims import (
        Subject,
        check_audience,
        check_issuer,
        check_times,
        require_text,
        signed_claims,
    )
    from agent_identity._identity.foreign.id_tokens import (
        Expected,
        RolesClaim,
        check_party,
        check_subject_is_human,
        human_of,
        names_a_client,
        roles_of,
        service_of,
    )
    from agent_identity._identity.foreign.jwks import KeysOfIssuer
    from agent_identity._identity.foreign.jwt import ForeignToken, read_object, read_token
    from agent_identity._identity.foreign.spiffe import SpiffeBundle, service_of_jwt_svid
    from agent_identity._identity.foreign.x509_svid import service_of_x509_svid
else:
    from agent_identity._common.lazy import lazily

    __getattr__, __dir__ = lazily(
        __name__,
        {
            "agent_identity._identity.foreign.claims": (
                "Subject",
                "check_audience",
                "check_issuer",
                "check_times",
                "require_text",
                "signed_claims",
            ),
            "agent_identity._identity.foreign.id_tokens": (
                "Expected",
                "RolesClaim",
                "check_party",
                "check_subject_is_human",
                "human_of",
                "names_a_client",
                "roles_of",
                "service_of",
            ),
            "agent_identity._identity.foreign.jwks": ("KeysOfIssuer",),
            "agent_identity._identity.foreign.jwt": ("ForeignToken", "read_object", "read_token"),
            "agent_identity._identity.foreign.spiffe": ("SpiffeBundle", "service_of_jwt_svid"),
            "agent_identity._identity.foreign.x509_svid": ("service_of_x509_svid",),
        },
    )

__all__ = [
    "Expected",
    "ForeignToken",
    "KeysOfIssuer",
    "RolesClaim",
    "SpiffeBundle",
    "Subject",
    "check_audience",
    "check_issuer",
    "check_party",
    "check_subject_is_human",
    "check_times",
    "human_of",
    "names_a_client",
    "read_object",
    "read_token",
    "require_text",
    "roles_of",
    "service_of",
    "service_of_jwt_svid",
    "service_of_x509_svid",
    "signed_claims",
]
