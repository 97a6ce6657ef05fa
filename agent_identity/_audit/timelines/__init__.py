"""Timelines of tasks: who did what on whose behalf, through which chain."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent_identity._audit.timelines.builder import Action, TaskTimeline, story
else:
    from agent_identity._common.lazy import lazily

    __getattr__, __dir__ = lazily(
        __name__,
        {
            "agent_identity._audit.timelines.builder": ("Action", "TaskTimeline", "story"),
        },
    )

__all__ = [
    "Action",
    "TaskTimeline",
    "story",
]
