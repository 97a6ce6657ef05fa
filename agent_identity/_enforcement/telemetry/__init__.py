"""Spans of calls and tasks, spans of other libraries, and advice about their providers."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent_identity._enforcement.telemetry.diagnosis import Check, examine_pipeline, examine_telemetry
    from agent_identity._enforcement.telemetry.foreign_spans import SCOPE, AdoptedSpan, is_ours
    from agent_identity._enforcement.telemetry.providers import when_provided
    from agent_identity._enforcement.telemetry.spans import (
        UNTRACED,
        CallSpan,
        SpanMode,
        Spans,
        Traced,
        current_trace,
        in_context,
        traced,
    )
else:
    from agent_identity._common.lazy import lazily

    __getattr__, __dir__ = lazily(
        __name__,
        {
            "agent_identity._enforcement.telemetry.diagnosis": ("Check", "examine_pipeline", "examine_telemetry"),
            "agent_identity._enforcement.telemetry.foreign_spans": ("SCOPE", "AdoptedSpan", "is_ours"),
            "agent_identity._enforcement.telemetry.providers": ("when_provided",),
            "agent_identity._enforcement.telemetry.spans": (
                "UNTRACED",
                "CallSpan",
                "SpanMode",
                "Spans",
                "Traced",
                "current_trace",
                "in_context",
                "traced",
            ),
        },
    )

__all__ = [
    "SCOPE",
    "UNTRACED",
    "AdoptedSpan",
    "CallSpan",
    "Check",
    "SpanMode",
    "Spans",
    "Traced",
    "current_trace",
    "examine_pipeline",
    "examine_telemetry",
    "in_context",
    "is_ours",
    "traced",
    "when_provided",
]
