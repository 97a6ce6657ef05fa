"""Answers over verified records: timelines, inventory, scope, incidents, data, coverage."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent_identity._audit.answers.timelines import Action, TaskTimeline, story
else:
    from agent_identity._common.lazy import lazily

    __getattr__, __dir__ = lazily(
        __name__,
        {
            "agent_identity._audit.answers.timelines": ("Action", "TaskTimeline", "story"),
        },
    )

__all__ = [
    "Action",
    "TaskTimeline",
    "story",
]
