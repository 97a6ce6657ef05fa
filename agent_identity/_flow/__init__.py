"""Flows: labels of data, marks of tasks, the provenance of arguments, and the rules over them."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent_identity._flow.call_origins import origins_of_call
    from agent_identity._flow.choices import NO_WORDS, ToolWords, choices_of_hints, choices_of_schema, properties_of
    from agent_identity._flow.declaration import (
        Declaration,
        Leaf,
        Returns,
        checked_returns,
        declared,
        label_of,
        labels_of,
        leaves_of,
    )
    from agent_identity._flow.destinations import is_empty, split_destinations, values_at
    from agent_identity._flow.label_spelling import meant_label, unknown_consequences
    from agent_identity._flow.labels import INTEGRITIES, TRUSTED, UNKNOWN, UNTRUSTED, Label
    from agent_identity._flow.mark import Mark, TaskMark
    from agent_identity._flow.provenance import Origin, Provenance, ProvenanceIndex, is_short
    from agent_identity._flow.rules import CONSEQUENTIAL, FLOW_RULES, MODEL_KINDS, consequences, is_gated, may_be
else:
    from agent_identity._common.lazy import lazily

    __getattr__, __dir__ = lazily(
        __name__,
        {
            "agent_identity._flow.call_origins": ("origins_of_call",),
            "agent_identity._flow.choices": (
                "NO_WORDS",
                "ToolWords",
                "choices_of_hints",
                "choices_of_schema",
                "properties_of",
            ),
            "agent_identity._flow.declaration": (
                "Declaration",
                "Leaf",
                "Returns",
                "checked_returns",
                "declared",
                "label_of",
                "labels_of",
                "leaves_of",
            ),
            "agent_identity._flow.destinations": ("is_empty", "split_destinations", "values_at"),
            "agent_identity._flow.label_spelling": ("meant_label", "unknown_consequences"),
            "agent_identity._flow.labels": ("INTEGRITIES", "TRUSTED", "UNKNOWN", "UNTRUSTED", "Label"),
            "agent_identity._flow.mark": ("Mark", "TaskMark"),
            "agent_identity._flow.provenance": ("Origin", "Provenance", "ProvenanceIndex", "is_short"),
            "agent_identity._flow.rules": (
                "CONSEQUENTIAL",
                "FLOW_RULES",
                "MODEL_KINDS",
                "consequences",
                "is_gated",
                "may_be",
            ),
        },
    )

__all__ = [
    "CONSEQUENTIAL",
    "FLOW_RULES",
    "INTEGRITIES",
    "MODEL_KINDS",
    "NO_WORDS",
    "TRUSTED",
    "UNKNOWN",
    "UNTRUSTED",
    "Declaration",
    "Label",
    "Leaf",
    "Mark",
    "Origin",
    "Provenance",
    "ProvenanceIndex",
    "Returns",
    "TaskMark",
    "ToolWords",
    "checked_returns",
    "choices_of_hints",
    "choices_of_schema",
    "consequences",
    "declared",
    "is_empty",
    "is_gated",
    "is_short",
    "label_of",
    "labels_of",
    "leaves_of",
    "may_be",
    "meant_label",
    "origins_of_call",
    "properties_of",
    "split_destinations",
    "unknown_consequences",
    "values_at",
]
