"""Telemetry beside our own spans: metrics of an enforcer, and stamps on the spans of other libraries.

>>> from agent_identity import Enforcer
>>> from agent_identity.telemetry import measure, stamp_spans
>>> measure(Enforcer.open("evidence"))  # doctest: +SKIP
>>> stamp_spans()  # doctest: +SKIP

None of it is evidence: no record waits for it, and no verifier reads it.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent_identity._directory.telemetry.metrics import measure
    from agent_identity._directory.telemetry.stamps import AgentIdentitySpanProcessor, stamp_spans
else:
    from agent_identity._common.lazy import lazily

    __getattr__, __dir__ = lazily(
        __name__,
        {
            "agent_identity._directory.telemetry.metrics": ("measure",),
            "agent_identity._directory.telemetry.stamps": ("AgentIdentitySpanProcessor", "stamp_spans"),
        },
    )

__all__ = [
    "AgentIdentitySpanProcessor",
    "measure",
    "stamp_spans",
]
