"""Counts the details of outcomes that travel without them: on spans, and in proofs."""

from agent_identity._record.schema import AnyRecord, Outcome
from agent_identity._verify.report.findings import Findings
from agent_identity._verify.report.plurals import counted


def count_unseen_detail(findings: Findings, record: AnyRecord) -> None:
    """Count a record that commits to a detail, if only the ledger has it."""
    findings.counts["details_not_checked"] += isinstance(record, Outcome) and record.detail is not None


def conclude_unseen_details(findings: Findings, step: int) -> None:
    """Report the number of details that were not checked, because only the ledger has them."""
    number = findings.counts["details_not_checked"]
    if number:
        message = f"the details of {counted(number, 'outcome')} were not checked (detail in the ledger)"
        findings.add(step, "detail_not_checked", message)
