"""The one place where the net touches the library: when its API moves, only this file follows."""

from pathlib import Path
from typing import Any

from agent_identity import Report, Verifier
from agent_identity.errors import AgentIdentityError

__all__ = ["verdict_of"]


def verdict_of(source: Path, trust: Path | Any, **options: Any) -> list[Any]:
    """Return what a verification says: exit code, verdict, findings without their words, and counts."""
    try:
        if options.pop("pasted", False):
            report = Verifier(trust).pasted(source, **options)
        elif source.is_dir() or source.suffix == ".zip":
            report = Verifier(trust).ledger(source, **options)
        else:
            report = Verifier(trust).traces(source, **options)
    except AgentIdentityError as error:
        return ["error", error.code]
    return [report.exit_code, report.verdict, _findings(report), dict(sorted(report.counts.items()))]


def _findings(report: Report) -> list[list[Any]]:
    return sorted(
        ([found.code, found.severity, found.stream, found.seq, found.record] for found in report.findings),
        key=lambda found: [str(part) for part in found],
    )
