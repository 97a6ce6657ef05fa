"""The registry of agents: owner, purpose, and the most that an agent may be granted."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent_identity._authority.registries.agents import AgentRegistry, Registration, Status
    from agent_identity._enforcement.directory.agents_file import register_agents
else:
    from agent_identity._common.lazy import lazily

    __getattr__, __dir__ = lazily(
        __name__,
        {
            "agent_identity._authority.registries.agents": ("AgentRegistry", "Registration", "Status"),
            "agent_identity._enforcement.directory.agents_file": ("register_agents",),
        },
    )

__all__ = [
    "AgentRegistry",
    "Registration",
    "Status",
    "register_agents",
]
