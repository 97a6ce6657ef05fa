"""Describes one entry of a timeline in a sentence, for exports that show one text for each event."""

from collections.abc import Iterator

from agent_identity._common.printing import inert
from agent_identity._reports.answers.incident_collecting import Entry
from agent_identity._reports.answers.incident_report import IncidentReport
from agent_identity._reports.answers.report_frame import Frame
from agent_identity._verify.report.plurals import counted


def message_of(entry: Entry) -> str:
    """Return who did what on whose behalf, how it ended, and why."""
    chain = " → ".join(entry.agents)
    parts = [
        f"{entry.kind} {entry.what}" if entry.what else entry.kind,
        f"by {chain}" if chain else "",
        f"for {entry.principal}" if entry.principal else "",
        f": {entry.outcome}" if entry.outcome else "",
        f"({entry.why})" if entry.why else "",
    ]
    return " ".join(filter(None, parts)).replace(" : ", ": ")


def headline_of(report: IncidentReport) -> str:
    """Return the seed with its number of calls and the verdict on the evidence."""
    return f"{report.seed}: {counted(report.calls, 'call')}, evidence {report.frame.verdict}"


def sources_of(frame: Frame) -> Iterator[str]:
    """Yield each source with its verdict and the origin of the keys that it was verified with."""
    for source in frame.sources:
        origin = f", from {source.keys_from}" if source.keys_from else ""
        yield inert(f"{source.place}: {source.kind}, {source.verdict}, keys {source.trust}{origin}")
