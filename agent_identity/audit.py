"""Verification and answers; offline, with public keys only."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent_identity._ledger.transparency.timestamp_folder import TimestampFolder
    from agent_identity._reports.export.interop import export
    from agent_identity._reports.export.tables import export_tables, named_queries, query_tables
    from agent_identity._reports.timelines.builder import Action, Delegation, TaskTimeline, story
    from agent_identity._verify.api import Verifier, verify
    from agent_identity._verify.inputs.sources import Source, Trust
    from agent_identity._verify.ledger.ledger_check import Progress
    from agent_identity._verify.proofs.disclosing import disclose
    from agent_identity._verify.proofs.disclosure_check import Shown
    from agent_identity._verify.proofs.proof_check import Checked
    from agent_identity._verify.proofs.proving import prove, prove_growth
    from agent_identity._verify.report.periods import Period
    from agent_identity._verify.report.report import Coverage, Problem, Report, Severity, Step
    from agent_identity._verify.store.workers import Executor
else:
    from agent_identity._common.lazy import lazily

    __getattr__, __dir__ = lazily(
        __name__,
        {
            "agent_identity._ledger.transparency.timestamp_folder": ("TimestampFolder",),
            "agent_identity._reports.export.interop": ("export",),
            "agent_identity._reports.export.tables": ("export_tables", "named_queries", "query_tables"),
            "agent_identity._reports.timelines.builder": ("Action", "Delegation", "TaskTimeline", "story"),
            "agent_identity._verify.api": ("Verifier", "verify"),
            "agent_identity._verify.inputs.sources": ("Source", "Trust"),
            "agent_identity._verify.ledger.ledger_check": ("Progress",),
            "agent_identity._verify.proofs.disclosing": ("disclose",),
            "agent_identity._verify.proofs.disclosure_check": ("Shown",),
            "agent_identity._verify.proofs.proof_check": ("Checked",),
            "agent_identity._verify.proofs.proving": ("prove", "prove_growth"),
            "agent_identity._verify.report.periods": ("Period",),
            "agent_identity._verify.report.report": ("Coverage", "Problem", "Report", "Severity", "Step"),
            "agent_identity._verify.store.workers": ("Executor",),
        },
    )

__all__ = [
    "Action",
    "Checked",
    "Coverage",
    "Delegation",
    "Executor",
    "Period",
    "Problem",
    "Progress",
    "Report",
    "Severity",
    "Shown",
    "Source",
    "Step",
    "TaskTimeline",
    "TimestampFolder",
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
