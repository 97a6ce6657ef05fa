"""Flows: labels of data, marks of tasks, the provenance of arguments, and the rules over them."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
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
    from agent_identity._flow.labels import INTEGRITIES, TRUSTED, UNKNOWN, UNTRUSTED, Label
    from agent_identity._flow.mark import Mark
    from agent_identity._flow.provenance import Origin, Provenance, ProvenanceIndex, is_silent
    from agent_identity._flow.rules import CONSEQUENTIAL, FLOW_RULES, MODEL_KINDS, is_gated
else:
    from agent_identity._common.lazy import lazily

    __getattr__, __dir__ = lazily(
        __name__,
        {
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
            "agent_identity._flow.labels": ("INTEGRITIES", "TRUSTED", "UNKNOWN", "UNTRUSTED", "Label"),
            "agent_identity._flow.mark": ("Mark",),
            "agent_identity._flow.provenance": ("Origin", "Provenance", "ProvenanceIndex", "is_silent"),
            "agent_identity._flow.rules": ("CONSEQUENTIAL", "FLOW_RULES", "MODEL_KINDS", "is_gated"),
        },
    )

__all__ = [
    "CONSEQUENTIAL",
    "FLOW_RULES",
    "INTEGRITIES",
    "MODEL_KINDS",
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
    "checked_returns",
    "declared",
    "is_gated",
    "is_silent",
    "label_of",
    "labels_of",
    "leaves_of",
]
