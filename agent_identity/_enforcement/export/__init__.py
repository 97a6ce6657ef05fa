"""Export of the ledger over OTLP, with a cursor for each receiver."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent_identity._enforcement.export.ledger_exporter import LedgerExport, LedgerExporter
    from agent_identity._enforcement.export.receivers import Settings
    from agent_identity._enforcement.export.sender import Pace, Shipped
else:
    from agent_identity._common.lazy import lazily

    __getattr__, __dir__ = lazily(
        __name__,
        {
            "agent_identity._enforcement.export.ledger_exporter": ("LedgerExport", "LedgerExporter"),
            "agent_identity._enforcement.export.receivers": ("Settings",),
            "agent_identity._enforcement.export.sender": ("Pace", "Shipped"),
        },
    )

__all__ = [
    "LedgerExport",
    "LedgerExporter",
    "Pace",
    "Settings",
    "Shipped",
]
