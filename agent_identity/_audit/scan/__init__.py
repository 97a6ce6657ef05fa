"""Hints about agents from code and configurations: what they declare, whether or not it ever ran."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent_identity._audit.scan.cyclonedx import cyclonedx_of
    from agent_identity._audit.scan.hosts import Contact, Contacts, contacts
    from agent_identity._audit.scan.json_form import json_of
    from agent_identity._audit.scan.results import KINDS, Edge, Item, Scan
    from agent_identity._audit.scan.sarif import sarif_of
    from agent_identity._audit.scan.scanner import scan
else:
    from agent_identity._common.lazy import lazily

    __getattr__, __dir__ = lazily(
        __name__,
        {
            "agent_identity._audit.scan.cyclonedx": ("cyclonedx_of",),
            "agent_identity._audit.scan.hosts": ("Contact", "Contacts", "contacts"),
            "agent_identity._audit.scan.json_form": ("json_of",),
            "agent_identity._audit.scan.results": ("KINDS", "Edge", "Item", "Scan"),
            "agent_identity._audit.scan.sarif": ("sarif_of",),
            "agent_identity._audit.scan.scanner": ("scan",),
        },
    )

__all__ = [
    "KINDS",
    "Contact",
    "Contacts",
    "Edge",
    "Item",
    "Scan",
    "contacts",
    "cyclonedx_of",
    "json_of",
    "sarif_of",
    "scan",
]
