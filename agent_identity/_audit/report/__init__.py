"""The report of a verification: verdicts, findings, periods."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent_identity._audit.report.findings import CODES, MAX_KEPT, NOWHERE, Findings, Place, counted
    from agent_identity._audit.report.periods import Life, Period, judge_period, unknown_period
    from agent_identity._audit.report.report import Coverage, Problem, Report, Signature, Step
else:
    from agent_identity._common.lazy import lazily

    __getattr__, __dir__ = lazily(
        __name__,
        {
            "agent_identity._audit.report.findings": ("CODES", "MAX_KEPT", "NOWHERE", "Findings", "Place", "counted"),
            "agent_identity._audit.report.periods": ("Life", "Period", "judge_period", "unknown_period"),
            "agent_identity._audit.report.report": ("Coverage", "Problem", "Report", "Signature", "Step"),
        },
    )

__all__ = [
    "CODES",
    "MAX_KEPT",
    "NOWHERE",
    "Coverage",
    "Findings",
    "Life",
    "Period",
    "Place",
    "Problem",
    "Report",
    "Signature",
    "Step",
    "counted",
    "judge_period",
    "unknown_period",
]
