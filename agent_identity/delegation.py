"""Authority between processes: bundles for children, grants for services, and who is spoken to."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent_identity._guard.sessions.propagation import Peer, Presentation
    from agent_identity._guard.tasks.delegation_bundle import DelegationBundle, Grants
else:
    from agent_identity._common.lazy import lazily

    __getattr__, __dir__ = lazily(
        __name__,
        {
            "agent_identity._guard.sessions.propagation": ("Peer", "Presentation"),
            "agent_identity._guard.tasks.delegation_bundle": ("DelegationBundle", "Grants"),
        },
    )

__all__ = [
    "DelegationBundle",
    "Grants",
    "Peer",
    "Presentation",
]
