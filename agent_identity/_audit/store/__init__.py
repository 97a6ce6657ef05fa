"""Workers and the spill store that bound the memory of a verification."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent_identity._audit.store.spill_store import SpillStore, room_for
    from agent_identity._audit.store.workers import Executor, executor, in_process
else:
    from agent_identity._common.lazy import lazily

    __getattr__, __dir__ = lazily(
        __name__,
        {
            "agent_identity._audit.store.spill_store": ("SpillStore", "room_for"),
            "agent_identity._audit.store.workers": ("Executor", "executor", "in_process"),
        },
    )

__all__ = [
    "Executor",
    "SpillStore",
    "executor",
    "in_process",
    "room_for",
]
