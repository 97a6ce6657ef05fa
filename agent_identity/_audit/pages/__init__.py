"""Pages: one self-contained HTML file for each answer, with pictures in SVG; presentation of results, no new facts."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent_identity._audit.pages.rendering import INDEX, Answer, Page, render, render_index, render_tasks
    from agent_identity._audit.pages.tasks_page import Told
    from agent_identity._audit.pages.words import percent
else:
    from agent_identity._common.lazy import lazily

    __getattr__, __dir__ = lazily(
        __name__,
        {
            "agent_identity._audit.pages.rendering": (
                "INDEX",
                "Answer",
                "Page",
                "render",
                "render_index",
                "render_tasks",
            ),
            "agent_identity._audit.pages.tasks_page": ("Told",),
            "agent_identity._audit.pages.words": ("percent",),
        },
    )

__all__ = [
    "INDEX",
    "Answer",
    "Page",
    "Told",
    "percent",
    "render",
    "render_index",
    "render_tasks",
]
