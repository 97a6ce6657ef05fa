"""Verification of spans: attestations, mirrored attributes, members, coverage."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent_identity._audit.spans.attestations import ATTESTATION, open_record
    from agent_identity._audit.spans.spans_check import SPAN_STEPS, SpansCheck, SpanVisit
    from agent_identity._audit.spans.tool_spans import calls_tool, named_tool
else:
    from agent_identity._common.lazy import lazily

    __getattr__, __dir__ = lazily(
        __name__,
        {
            "agent_identity._audit.spans.attestations": ("ATTESTATION", "open_record"),
            "agent_identity._audit.spans.spans_check": ("SPAN_STEPS", "SpanVisit", "SpansCheck"),
            "agent_identity._audit.spans.tool_spans": ("calls_tool", "named_tool"),
        },
    )

__all__ = [
    "ATTESTATION",
    "SPAN_STEPS",
    "SpanVisit",
    "SpansCheck",
    "calls_tool",
    "named_tool",
    "open_record",
]
