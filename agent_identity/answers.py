"""Reports over verified evidence: inventory, scope, incident, coverage, data, controls."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent_identity._reports.answers.collecting import CodeHint
    from agent_identity._reports.answers.coverage_report import CoverageReport, coverage
    from agent_identity._reports.answers.data_report import DataReport, data
    from agent_identity._reports.answers.facts import (
        ApprovalFact,
        CallFact,
        CallSpanFact,
        ErasureFact,
        Fact,
        GrantFact,
        PolicyFact,
        RegistrationFact,
        RevocationFact,
        ServerFact,
        SpanFact,
        StreamFact,
        TaskFact,
        Where,
    )
    from agent_identity._reports.answers.hosts import Hosts
    from agent_identity._reports.answers.incident_report import IncidentReport, incident
    from agent_identity._reports.answers.incident_seed import Seed
    from agent_identity._reports.answers.inventory_report import Difference, Inventory, Item, Observation, inventory
    from agent_identity._reports.answers.reading import Consumer, Evidence, Reading, read
    from agent_identity._reports.answers.report_frame import Frame, Proof, SourceFrame, plain
    from agent_identity._reports.answers.scope_report import ScopeReport, Suggestion, scope
    from agent_identity._reports.controls.control_rows import ControlRow, ControlTable
    from agent_identity._reports.controls.controls_report import ControlsReport, RowResult, controls
    from agent_identity._reports.overview.overview_report import Overview, overview
else:
    from agent_identity._common.lazy import lazily

    __getattr__, __dir__ = lazily(
        __name__,
        {
            "agent_identity._reports.answers.collecting": ("CodeHint",),
            "agent_identity._reports.answers.coverage_report": ("CoverageReport", "coverage"),
            "agent_identity._reports.answers.data_report": ("DataReport", "data"),
            "agent_identity._reports.answers.facts": (
                "ApprovalFact",
                "CallFact",
                "CallSpanFact",
                "ErasureFact",
                "Fact",
                "GrantFact",
                "PolicyFact",
                "RegistrationFact",
                "RevocationFact",
                "ServerFact",
                "SpanFact",
                "StreamFact",
                "TaskFact",
                "Where",
            ),
            "agent_identity._reports.answers.hosts": ("Hosts",),
            "agent_identity._reports.answers.incident_report": ("IncidentReport", "incident"),
            "agent_identity._reports.answers.incident_seed": ("Seed",),
            "agent_identity._reports.answers.inventory_report": (
                "Difference",
                "Inventory",
                "Item",
                "Observation",
                "inventory",
            ),
            "agent_identity._reports.answers.reading": ("Consumer", "Evidence", "Reading", "read"),
            "agent_identity._reports.answers.report_frame": ("Frame", "Proof", "SourceFrame", "plain"),
            "agent_identity._reports.answers.scope_report": ("ScopeReport", "Suggestion", "scope"),
            "agent_identity._reports.controls.control_rows": ("ControlRow", "ControlTable"),
            "agent_identity._reports.controls.controls_report": ("ControlsReport", "RowResult", "controls"),
            "agent_identity._reports.overview.overview_report": ("Overview", "overview"),
        },
    )

__all__ = [
    "ApprovalFact",
    "CallFact",
    "CallSpanFact",
    "CodeHint",
    "Consumer",
    "ControlRow",
    "ControlTable",
    "ControlsReport",
    "CoverageReport",
    "DataReport",
    "Difference",
    "ErasureFact",
    "Evidence",
    "Fact",
    "Frame",
    "GrantFact",
    "Hosts",
    "IncidentReport",
    "Inventory",
    "Item",
    "Observation",
    "Overview",
    "PolicyFact",
    "Proof",
    "Reading",
    "RegistrationFact",
    "RevocationFact",
    "RowResult",
    "ScopeReport",
    "Seed",
    "ServerFact",
    "SourceFrame",
    "SpanFact",
    "StreamFact",
    "Suggestion",
    "TaskFact",
    "Where",
    "controls",
    "coverage",
    "data",
    "incident",
    "inventory",
    "overview",
    "plain",
    "read",
    "scope",
]
