"""The protections of agents, which guard the tools that the agents list."""

from typing import Final, Protocol

from agent_identity import Enforcer
from agent_identity.adapters import ToolGuards

__all__ = ["PROTECTION", "Owner", "owner_of"]

PROTECTION: Final = "__agent_identity_protection__"
"""The attribute of a class of agents that holds their protection."""


class Owner(Protocol):
    """A protection, for the tools of its agents."""

    @property
    def guards(self) -> ToolGuards:
        """The guards of its tools."""
        ...

    @property
    def place(self) -> Enforcer | None:
        """Where the rulings for its agents are: its enforcer, or ``None`` if its agents are not marked."""
        ...


def owner_of(agent: object) -> Owner | None:
    """Return the protection of an agent."""
    owner: Owner | None = getattr(type(agent), PROTECTION, None)
    return owner
