"""The report of a verification: verdicts, findings, periods."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent_identity._audit.report.durations import elapsed
    from agent_identity._audit.report.findings import CODES, MAX_KEPT, NOWHERE, Findings, Place
    from agent_identity._audit.report.periods import Life, Period, judge_period, unknown_period
    from agent_identity._audit.report.plurals import counted
    from agent_identity._audit.report.report import EXIT_CODES, Coverage, Problem, Report, Signature, Step, TrustBasis
else:
    from agent_identity._common.lazy import lazily

    __getattr__, __dir__ = lazily(
        __name__,
        {
            "agent_identity._audit.report.durations": ("elapsed",),
            "agent_identity._audit.report.findings": ("CODES", "MAX_KEPT", "NOWHERE", "Findings", "Place"),
            "agent_identity._audit.report.periods": ("Life", "Period", "judge_period", "unknown_period"),
            "agent_identity._audit.report.plurals": ("counted",),
            "agent_identity._audit.report.report": (
                "EXIT_CODES",
                "Coverage",
                "Problem",
                "Report",
                "Signature",
                "Step",
                "TrustBasis",
            ),
        },
    )

__all__ = [
    "CODES",
    "EXIT_CODES",
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
    "TrustBasis",
    "counted",
    "elapsed",
    "judge_period",
    "unknown_period",
]
