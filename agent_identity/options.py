"""Options of an enforcer and of tools, one frozen object for each concern, and the parts that one takes.

>>> from agent_identity.options import Durability, Privacy, Telemetry, Transparency
>>> Durability(sync="disk").segments.max_seconds
86400.0
>>> Privacy().pseudonyms
False
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent_identity._directory.options import Durability, Privacy, Sources, Telemetry, Transparency
    from agent_identity._flow.declaration import Returns
    from agent_identity._guard.judging.tool_flow import Restores
    from agent_identity._guard.lifecycle.tool_options import ToolOptions
    from agent_identity._ledger.ledger import Ledger
    from agent_identity._ledger.segments import Segments
    from agent_identity._policy.decision.resources import Touches
    from agent_identity._record.digests import DigestKeys
else:
    from agent_identity._common.lazy import lazily

    __getattr__, __dir__ = lazily(
        __name__,
        {
            "agent_identity._directory.options": ("Durability", "Privacy", "Sources", "Telemetry", "Transparency"),
            "agent_identity._flow.declaration": ("Returns",),
            "agent_identity._guard.judging.tool_flow": ("Restores",),
            "agent_identity._guard.lifecycle.tool_options": ("ToolOptions",),
            "agent_identity._ledger.ledger": ("Ledger",),
            "agent_identity._ledger.segments": ("Segments",),
            "agent_identity._policy.decision.resources": ("Touches",),
            "agent_identity._record.digests": ("DigestKeys",),
        },
    )

__all__ = [
    "DigestKeys",
    "Durability",
    "Ledger",
    "Privacy",
    "Restores",
    "Returns",
    "Segments",
    "Sources",
    "Telemetry",
    "ToolOptions",
    "Touches",
    "Transparency",
]
