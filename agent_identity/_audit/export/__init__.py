"""Verified records for other systems: OCSF, CloudEvents, OpenTelemetry logs, Parquet."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent_identity._audit.export.interop import export
    from agent_identity._audit.export.ocsf_common import OCSF_VERSION, ocsf_product
    from agent_identity._audit.export.tables import export_tables
else:
    from agent_identity._common.lazy import lazily

    __getattr__, __dir__ = lazily(
        __name__,
        {
            "agent_identity._audit.export.interop": ("export",),
            "agent_identity._audit.export.ocsf_common": ("OCSF_VERSION", "ocsf_product"),
            "agent_identity._audit.export.tables": ("export_tables",),
        },
    )

__all__ = [
    "OCSF_VERSION",
    "export",
    "export_tables",
    "ocsf_product",
]
