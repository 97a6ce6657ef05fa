"""Proofs, disclosures and bundles: made from a ledger, checked without it."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent_identity._audit.proofs.bundle import Choice, collect, pack, report_json, unpacked
    from agent_identity._audit.proofs.disclosing import disclose
    from agent_identity._audit.proofs.disclosure_check import Shown, check_disclosure
    from agent_identity._audit.proofs.proof_check import Checked, check_proof
    from agent_identity._audit.proofs.proving import prove, prove_growth
else:
    from agent_identity._common.lazy import lazily

    __getattr__, __dir__ = lazily(
        __name__,
        {
            "agent_identity._audit.proofs.bundle": ("Choice", "collect", "pack", "report_json", "unpacked"),
            "agent_identity._audit.proofs.disclosing": ("disclose",),
            "agent_identity._audit.proofs.disclosure_check": ("Shown", "check_disclosure"),
            "agent_identity._audit.proofs.proof_check": ("Checked", "check_proof"),
            "agent_identity._audit.proofs.proving": ("prove", "prove_growth"),
        },
    )

__all__ = [
    "Checked",
    "Choice",
    "Shown",
    "check_disclosure",
    "check_proof",
    "collect",
    "disclose",
    "pack",
    "prove",
    "prove_growth",
    "report_json",
    "unpacked",
]
