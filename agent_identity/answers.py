"""Reports over verified evidence: inventory, scope, incident, coverage, data, controls."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent_identity._reports.answers.coverage_report import coverage
    from agent_identity._reports.answers.data_report import data
    from agent_identity._reports.answers.incident_report import incident
    from agent_identity._reports.answers.incident_seed import Seed
    from agent_identity._reports.answers.inventory_report import inventory
    from agent_identity._reports.answers.reading import Evidence
    from agent_identity._reports.answers.report_frame import plain
    from agent_identity._reports.answers.scope_report import scope
    from agent_identity._reports.controls.controls_report import controls
    from agent_identity._reports.overview.overview_report import overview
else:
    from agent_identity._common.lazy import lazily

    __getattr__, __dir__ = lazily(
        __name__,
        {
            "agent_identity._reports.answers.coverage_report": ("coverage",),
            "agent_identity._reports.answers.data_report": ("data",),
            "agent_identity._reports.answers.incident_report": ("incident",),
            "agent_identity._reports.answers.incident_seed": ("Seed",),
            "agent_identity._reports.answers.inventory_report": ("inventory",),
            "agent_identity._reports.answers.reading": ("Evidence",),
            "agent_identity._reports.answers.report_frame": ("plain",),
            "agent_identity._reports.answers.scope_report": ("scope",),
            "agent_identity._reports.controls.controls_report": ("controls",),
            "agent_identity._reports.overview.overview_report": ("overview",),
        },
    )

__all__ = [
    "Evidence",
    "Seed",
    "controls",
    "coverage",
    "data",
    "incident",
    "inventory",
    "overview",
    "plain",
    "scope",
]
