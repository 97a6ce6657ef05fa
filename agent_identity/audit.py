"""Verification and answers; offline, with public keys only."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent_identity._audit.export.interop import export
    from agent_identity._audit.export.named_queries import named_queries, query_tables
    from agent_identity._audit.export.tables import export_tables
    from agent_identity._audit.inputs.sources import Source
    from agent_identity._audit.inputs.trust_argument import Trust
    from agent_identity._audit.ledger.ledger_check import Progress
    from agent_identity._audit.proofs.disclosing import disclose
    from agent_identity._audit.proofs.disclosure_check import Shown
    from agent_identity._audit.proofs.proof_check import Checked
    from agent_identity._audit.proofs.proving import prove, prove_growth
    from agent_identity._audit.report.periods import Period
    from agent_identity._audit.report.report import Coverage, Problem, Report, Severity, Step
    from agent_identity._audit.timelines.builder import Action, Delegation, TaskTimeline, story
    from agent_identity._audit.verify.api import Verifier, verify
else:
    from agent_identity._common.lazy import lazily

    __getattr__, __dir__ = lazily(
        __name__,
        {
            "agent_identity._audit.export.interop": ("export",),
            "agent_identity._audit.export.named_queries": ("named_queries", "query_tables"),
            "agent_identity._audit.export.tables": ("export_tables",),
            "agent_identity._audit.inputs.sources": ("Source",),
            "agent_identity._audit.inputs.trust_argument": ("Trust",),
            "agent_identity._audit.ledger.ledger_check": ("Progress",),
            "agent_identity._audit.proofs.disclosing": ("disclose",),
            "agent_identity._audit.proofs.disclosure_check": ("Shown",),
            "agent_identity._audit.proofs.proof_check": ("Checked",),
            "agent_identity._audit.proofs.proving": ("prove", "prove_growth"),
            "agent_identity._audit.report.periods": ("Period",),
            "agent_identity._audit.report.report": ("Coverage", "Problem", "Report", "Severity", "Step"),
            "agent_identity._audit.timelines.builder": ("Action", "Delegation", "TaskTimeline", "story"),
            "agent_identity._audit.verify.api": ("Verifier", "verify"),
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
    "TaskTimeline",
    "Trust",
    "Verifier",
    "disclose",
    "export",
    "export_tables",
    "named_queries",
    "prove",
    "prove_growth",
    "query_tables",
    "story",
    "verify",
]
