"""Meets: the one place where identity, authority, policy and evidence meet at run time."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent_identity._enforcement.enforcer import Enforcer, Running, open_enforcers, running
else:
    from agent_identity._common.lazy import lazily

    __getattr__, __dir__ = lazily(
        __name__,
        {
            "agent_identity._enforcement.enforcer": ("Enforcer", "Running", "open_enforcers", "running"),
        },
    )

__all__ = [
    "Enforcer",
    "Running",
    "open_enforcers",
    "running",
]
