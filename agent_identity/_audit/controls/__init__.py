"""Reports on controls: rows of frameworks, each with a named query over verified evidence and a status."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent_identity._audit.controls.control_rows import FRAMEWORKS, ControlTable, FrameworkName
    from agent_identity._audit.controls.controls_report import (
        STATUSES,
        ControlsQuestion,
        ControlsReport,
        RowResult,
        controls,
    )
    from agent_identity._audit.controls.oscal_document import oscal
    from agent_identity._audit.controls.sampling import Sample, draw, write_sample
else:
    from agent_identity._common.lazy import lazily

    __getattr__, __dir__ = lazily(
        __name__,
        {
            "agent_identity._audit.controls.control_rows": ("FRAMEWORKS", "ControlTable", "FrameworkName"),
            "agent_identity._audit.controls.controls_report": (
                "STATUSES",
                "ControlsQuestion",
                "ControlsReport",
                "RowResult",
                "controls",
            ),
            "agent_identity._audit.controls.oscal_document": ("oscal",),
            "agent_identity._audit.controls.sampling": ("Sample", "draw", "write_sample"),
        },
    )

__all__ = [
    "FRAMEWORKS",
    "STATUSES",
    "ControlTable",
    "ControlsQuestion",
    "ControlsReport",
    "FrameworkName",
    "RowResult",
    "Sample",
    "controls",
    "draw",
    "oscal",
    "write_sample",
]
