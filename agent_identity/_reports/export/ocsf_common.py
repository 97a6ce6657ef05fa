"""Members that all OCSF events of this library share."""

from typing import Final

from agent_identity.canonical import JSON
from agent_identity.version import VERSION

OCSF_VERSION: Final = "1.9.0"
"""The version of OCSF that events follow."""


def ocsf_product() -> dict[str, JSON]:
    """Return this library as the product that OCSF events name."""
    return {"name": "agent-identity-otel", "vendor_name": "agent-identity", "version": VERSION}
