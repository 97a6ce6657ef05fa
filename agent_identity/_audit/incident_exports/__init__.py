"""Exports of an incident for the tools of responders."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent_identity._audit.incident_exports.inert_text import inert
    from agent_identity._audit.incident_exports.ocsf_events import ocsf_incident
    from agent_identity._audit.incident_exports.timesketch_lines import timesketch_events
else:
    from agent_identity._common.lazy import lazily

    __getattr__, __dir__ = lazily(
        __name__,
        {
            "agent_identity._audit.incident_exports.inert_text": ("inert",),
            "agent_identity._audit.incident_exports.ocsf_events": ("ocsf_incident",),
            "agent_identity._audit.incident_exports.timesketch_lines": ("timesketch_events",),
        },
    )

__all__ = [
    "inert",
    "ocsf_incident",
    "timesketch_events",
]
