"""Pages: one self-contained HTML file for each answer, with pictures in SVG; presentation of results, no new facts."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent_identity._audit.pages.rendering import INDEX, Answer, Page, render, render_index, render_tasks
    from agent_identity._audit.pages.tasks_page import Told
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
        },
    )

__all__ = [
    "INDEX",
    "Answer",
    "Page",
    "Told",
    "render",
    "render_index",
    "render_tasks",
]
