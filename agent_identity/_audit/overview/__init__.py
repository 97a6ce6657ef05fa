"""Several reports from one pass over evidence."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent_identity._audit.overview.overview_report import Overview, overview
else:
    from agent_identity._common.lazy import lazily

    __getattr__, __dir__ = lazily(
        __name__,
        {
            "agent_identity._audit.overview.overview_report": ("Overview", "overview"),
        },
    )

__all__ = [
    "Overview",
    "overview",
]
