"""Pinned MCP servers and their tool definitions."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent_identity._enforcement.inventory.pinned_servers import (
        INSTRUCTIONS,
        MAX_SERVERS,
        ONE_BY_ONE,
        Definition,
        Observation,
        OfferedTool,
        PinnedServer,
        ServerInventory,
        Transport,
        entry_name,
        place_of,
    )
    from agent_identity._enforcement.inventory.server_inventory import (
        Inventory,
        InventoryFile,
        accept,
        forget,
        inventory_path,
        pin,
    )
else:
    from agent_identity._common.lazy import lazily

    __getattr__, __dir__ = lazily(
        __name__,
        {
            "agent_identity._enforcement.inventory.pinned_servers": (
                "INSTRUCTIONS",
                "MAX_SERVERS",
                "ONE_BY_ONE",
                "Definition",
                "Observation",
                "OfferedTool",
                "PinnedServer",
                "ServerInventory",
                "Transport",
                "entry_name",
                "place_of",
            ),
            "agent_identity._enforcement.inventory.server_inventory": (
                "Inventory",
                "InventoryFile",
                "accept",
                "forget",
                "inventory_path",
                "pin",
            ),
        },
    )

__all__ = [
    "INSTRUCTIONS",
    "MAX_SERVERS",
    "ONE_BY_ONE",
    "Definition",
    "Inventory",
    "InventoryFile",
    "Observation",
    "OfferedTool",
    "PinnedServer",
    "ServerInventory",
    "Transport",
    "accept",
    "entry_name",
    "forget",
    "inventory_path",
    "pin",
    "place_of",
]
