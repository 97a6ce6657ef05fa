"""Registries of open tasks and of agents, revocations, and rulings of approvers."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent_identity._authority.registries.agents import (
        HEAD_TYPE,
        MAX_REGISTRY,
        REGISTRATION_TYPE,
        AgentRegistry,
        Mark,
        Registration,
        Status,
        appended,
    )
    from agent_identity._authority.registries.revocations import (
        EVERYTHING,
        MAX_LIST,
        REVOCATIONS_TYPE,
        Revocation,
        RevocationList,
        RevocationStatus,
        RevokedKind,
        successors_in,
        trusted_revocations,
        with_successors,
    )
    from agent_identity._authority.registries.rulings import (
        APPROVAL_TYPE,
        MAX_SOURCES,
        MAX_WAIT,
        Ruling,
        RulingStatus,
        check_sources,
        folded,
        sources_of,
        trusted_ruling,
    )
    from agent_identity._authority.registries.server_inventories import (
        INVENTORY_NAME,
        INVENTORY_TYPE,
        INVENTORY_VERSION,
        open_inventory,
    )
    from agent_identity._authority.registries.tasks import Lease, TaskRegistry
else:
    from agent_identity._common.lazy import lazily

    __getattr__, __dir__ = lazily(
        __name__,
        {
            "agent_identity._authority.registries.agents": (
                "HEAD_TYPE",
                "MAX_REGISTRY",
                "REGISTRATION_TYPE",
                "AgentRegistry",
                "Mark",
                "Registration",
                "Status",
                "appended",
            ),
            "agent_identity._authority.registries.revocations": (
                "EVERYTHING",
                "MAX_LIST",
                "REVOCATIONS_TYPE",
                "Revocation",
                "RevocationList",
                "RevocationStatus",
                "RevokedKind",
                "successors_in",
                "trusted_revocations",
                "with_successors",
            ),
            "agent_identity._authority.registries.rulings": (
                "APPROVAL_TYPE",
                "MAX_SOURCES",
                "MAX_WAIT",
                "Ruling",
                "RulingStatus",
                "check_sources",
                "folded",
                "sources_of",
                "trusted_ruling",
            ),
            "agent_identity._authority.registries.server_inventories": (
                "INVENTORY_NAME",
                "INVENTORY_TYPE",
                "INVENTORY_VERSION",
                "open_inventory",
            ),
            "agent_identity._authority.registries.tasks": ("Lease", "TaskRegistry"),
        },
    )

__all__ = [
    "APPROVAL_TYPE",
    "EVERYTHING",
    "HEAD_TYPE",
    "INVENTORY_NAME",
    "INVENTORY_TYPE",
    "INVENTORY_VERSION",
    "MAX_LIST",
    "MAX_REGISTRY",
    "MAX_SOURCES",
    "MAX_WAIT",
    "REGISTRATION_TYPE",
    "REVOCATIONS_TYPE",
    "AgentRegistry",
    "Lease",
    "Mark",
    "Registration",
    "Revocation",
    "RevocationList",
    "RevocationStatus",
    "RevokedKind",
    "Ruling",
    "RulingStatus",
    "Status",
    "TaskRegistry",
    "appended",
    "check_sources",
    "folded",
    "open_inventory",
    "sources_of",
    "successors_in",
    "trusted_revocations",
    "trusted_ruling",
    "with_successors",
]
