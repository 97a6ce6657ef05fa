"""Offline verification: proved and missing records, and who did what on whose behalf, with public keys only."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent_identity.audit.disclosing import disclose
    from agent_identity.audit.disclosure_check import Shown, check_disclosure
    from agent_identity.audit.ledger_check import Progress
    from agent_identity.audit.periods import Period
    from agent_identity.audit.proof_check import Checked, check_proof
    from agent_identity.audit.proving import prove, prove_growth
    from agent_identity.audit.report import Coverage, Problem, Report, Severity, Step
    from agent_identity.audit.sources import Source, Trust
    from agent_identity.audit.stories import Action, Delegation, Story, story
    from agent_identity.audit.verification import check, verify
else:
    from agent_identity.lazy import lazily

    __getattr__, __dir__ = lazily(
        __name__,
        {
            ".disclosing": ("disclose",),
            ".disclosure_check": ("Shown", "check_disclosure"),
            ".ledger_check": ("Progress",),
            ".periods": ("Period",),
            ".proof_check": ("Checked", "check_proof"),
            ".proving": ("prove", "prove_growth"),
            ".report": ("Coverage", "Problem", "Report", "Severity", "Step"),
            ".sources": ("Source", "Trust"),
            ".stories": ("Action", "Delegation", "Story", "story"),
            ".verification": ("check", "verify"),
        },
    )

__all__ = [
    "Action",
    "Checked",
    "Coverage",
    "Delegation",
    "Period",
    "Problem",
    "Progress",
    "Report",
    "Severity",
    "Shown",
    "Source",
    "Step",
    "Story",
    "Trust",
    "check",
    "check_disclosure",
    "check_proof",
    "disclose",
    "prove",
    "prove_growth",
    "story",
    "verify",
]
