"""The one place where the net touches the library: when its API moves, only this file follows."""

from pathlib import Path
from typing import Any

from agent_identity.audit import Report, check
from agent_identity.audit.calls_check import Calls
from agent_identity.errors import AgentIdentityError

__all__ = ["verdict_of", "without_fast_paths"]


def without_fast_paths() -> None:
    """Have every record go through the full checks: none is recognised by the pattern of an earlier one."""
    Calls.recognise = lambda self, data, place: None  # type: ignore[method-assign]


def verdict_of(source: Path, trust: Path | Any, **options: Any) -> list[Any]:
    """Return what a verification says: exit code, verdict, findings without their words, and counts."""
    try:
        report = check(source, trust, processes=1, **options)
    except AgentIdentityError as error:
        return ["error", error.code]
    return [report.exit_code, report.verdict, _findings(report), dict(sorted(report.counts.items()))]


def _findings(report: Report) -> list[list[Any]]:
    return sorted(
        ([found.code, found.severity, found.stream, found.seq, found.record] for found in report.findings),
        key=lambda found: [str(part) for part in found],
    )
