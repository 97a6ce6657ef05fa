"""The rules of information flow that ship: after untrusted input, consequential calls need a person."""

from collections.abc import Collection, Mapping
from typing import Final

__all__ = ["CONSEQUENTIAL", "FLOW_RULES", "MODEL_KINDS", "is_gated"]

FLOW_RULES: Final = "flow-1"
"""The name of these rules in records; other rules get another name."""

CONSEQUENTIAL: Final = frozenset({"destructive", "egress", "payment", "persists"})
"""Labels of tools whose calls have consequences outside the task."""

MODEL_KINDS: Final = frozenset({"model", "streamed_model"})
"""Kinds of calls that go to a model: they are how a task reads, and no tools."""

_SPARING: Final = frozenset({"principal", "trusted"})


def is_gated(labels: Collection[str] | None, integrity: str, destinations: Mapping[str, str]) -> bool:
    """Return whether a call needs a person.

    Args:
        labels: The labels of the tool; ``None`` if nobody said any, which is taken for consequential.
        integrity: The integrity of the mark at which the call is judged.
        destinations: By argument that decides where the call leads, where its value comes from. A call without any
            is never spared.
    """
    if integrity == "trusted" or (labels is not None and CONSEQUENTIAL.isdisjoint(labels)):
        return False
    return not destinations or not _SPARING.issuperset(destinations.values())
