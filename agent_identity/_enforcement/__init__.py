"""Meets: the one place where identity, authority, policy and evidence meet at run time."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent_identity._enforcement.enforcer import Enforcer, open_enforcers
else:
    from agent_identity._common.lazy import lazily

    __getattr__, __dir__ = lazily(
        __name__,
        {
            "agent_identity._enforcement.enforcer": ("Enforcer", "open_enforcers"),
        },
    )

__all__ = [
    "Enforcer",
    "open_enforcers",
]
