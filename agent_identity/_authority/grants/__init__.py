"""Scopes, limits, grants, chains of grants, and proofs of possession."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent_identity._authority.grants.chain import SKEW, verify_chain
    from agent_identity._authority.grants.clauses import clauses_of
    from agent_identity._authority.grants.grants import (
        GRANT_TYPE,
        MAX_CHAIN,
        MAX_TTL,
        Chain,
        Grant,
        derive,
        grant_of,
        issue,
    )
    from agent_identity._authority.grants.limits import (
        Limit,
        amount_of,
        check_limits,
        debits_for,
        exceeded,
        limits_from_claim,
    )
    from agent_identity._authority.grants.proof_of_possession import PROOF_WINDOW, id_of_proof, prove, verify_proof
    from agent_identity._authority.grants.scope import UNNAMED, Scope
    from agent_identity._authority.grants.signed_marks import SignedMark, sign_mark, signer_of_mark, verify_mark
else:
    from agent_identity._common.lazy import lazily

    __getattr__, __dir__ = lazily(
        __name__,
        {
            "agent_identity._authority.grants.chain": ("SKEW", "verify_chain"),
            "agent_identity._authority.grants.clauses": ("clauses_of",),
            "agent_identity._authority.grants.grants": (
                "GRANT_TYPE",
                "MAX_CHAIN",
                "MAX_TTL",
                "Chain",
                "Grant",
                "derive",
                "grant_of",
                "issue",
            ),
            "agent_identity._authority.grants.limits": (
                "Limit",
                "amount_of",
                "check_limits",
                "debits_for",
                "exceeded",
                "limits_from_claim",
            ),
            "agent_identity._authority.grants.proof_of_possession": (
                "PROOF_WINDOW",
                "id_of_proof",
                "prove",
                "verify_proof",
            ),
            "agent_identity._authority.grants.scope": ("UNNAMED", "Scope"),
            "agent_identity._authority.grants.signed_marks": (
                "SignedMark",
                "sign_mark",
                "signer_of_mark",
                "verify_mark",
            ),
        },
    )

__all__ = [
    "GRANT_TYPE",
    "MAX_CHAIN",
    "MAX_TTL",
    "PROOF_WINDOW",
    "SKEW",
    "UNNAMED",
    "Chain",
    "Grant",
    "Limit",
    "Scope",
    "SignedMark",
    "amount_of",
    "check_limits",
    "clauses_of",
    "debits_for",
    "derive",
    "exceeded",
    "grant_of",
    "id_of_proof",
    "issue",
    "limits_from_claim",
    "prove",
    "sign_mark",
    "signer_of_mark",
    "verify_chain",
    "verify_mark",
    "verify_proof",
]
