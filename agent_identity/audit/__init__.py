"""Answers: what is proved, what is missing, and who did what on whose behalf; offline, with public keys only."""

from agent_identity.audit.ledger_check import Progress
from agent_identity.audit.report import Coverage, Problem, Report, Severity, Step
from agent_identity.audit.sources import Source, Trust
from agent_identity.audit.stories import Action, Delegation, Story, story
from agent_identity.audit.verification import check, verify

__all__ = [
    "Action",
    "Coverage",
    "Delegation",
    "Problem",
    "Progress",
    "Report",
    "Severity",
    "Source",
    "Step",
    "Story",
    "Trust",
    "check",
    "story",
    "verify",
]
