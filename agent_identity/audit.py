"""Verification and answers; offline, with public keys only."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent_identity._ledger.transparency.timestamp_folder import TimestampFolder
    from agent_identity._reports.export.interop import export
    from agent_identity._reports.export.tables import export_tables, named_queries, query_tables
    from agent_identity._reports.timelines.builder import story
    from agent_identity._verify.proofs.disclosing import disclose
    from agent_identity._verify.proofs.proving import prove, prove_growth
    from agent_identity._verify.store.workers import Executor
else:
    from agent_identity._common.lazy import lazily

    __getattr__, __dir__ = lazily(
        __name__,
        {
            "agent_identity._ledger.transparency.timestamp_folder": ("TimestampFolder",),
            "agent_identity._reports.export.interop": ("export",),
            "agent_identity._reports.export.tables": ("export_tables", "named_queries", "query_tables"),
            "agent_identity._reports.timelines.builder": ("story",),
            "agent_identity._verify.proofs.disclosing": ("disclose",),
            "agent_identity._verify.proofs.proving": ("prove", "prove_growth"),
            "agent_identity._verify.store.workers": ("Executor",),
        },
    )

__all__ = [
    "Executor",
    "TimestampFolder",
    "disclose",
    "export",
    "export_tables",
    "named_queries",
    "prove",
    "prove_growth",
    "query_tables",
    "story",
]
