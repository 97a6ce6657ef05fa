"""Members that all OCSF events of this library share."""

from typing import Final

from agent_identity.canonical import JSON
from agent_identity.version import VERSION

OCSF_VERSION: Final = "1.9.0"
"""The version of OCSF that events follow."""


_API_ACTIVITY: Final = 6003
_OTHER: Final = 99


def ocsf_activity(name: str) -> dict[str, JSON]:
    """Return the members by which an API Activity (6003) with a name of ours is classified."""
    return {
        "class_uid": _API_ACTIVITY,
        "class_name": "API Activity",
        "category_uid": 6,
        "category_name": "Application Activity",
        "activity_id": _OTHER,
        "activity_name": name,
        "type_uid": _API_ACTIVITY * 100 + _OTHER,
        "type_name": "API Activity: Other",
    }


def ocsf_stream(stream: str) -> dict[str, JSON]:
    """Return a stream of records as the source of an event."""
    return {"uid": stream, "type_id": _OTHER, "type": "stream of records"}


def ocsf_product() -> dict[str, JSON]:
    """Return this library as the product that OCSF events name."""
    return {"name": "agent-identity-otel", "vendor_name": "agent-identity", "version": VERSION}
