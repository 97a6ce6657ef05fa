"""The rules of information flow that ship: after untrusted input, consequential calls need a person."""

from collections.abc import Collection, Iterable, Mapping
from typing import Final

FLOW_RULES: Final = "flow-1"
"""The name of these rules in records; other rules get another name."""

CONSEQUENTIAL: Final = frozenset({"destructive", "egress", "payment", "persists"})
"""Labels of tools whose calls have consequences outside the task."""

MODEL_KINDS: Final = frozenset({"model", "streamed_model"})
"""Kinds of calls that go to a model: they are how a task reads, and no tools."""

_SPARING: Final = frozenset({"principal", "trusted"})


def may_be(label: str, labels: Collection[str] | None) -> bool:
    """Return whether a tool may have a consequence.

    Args:
        label: One of :data:`CONSEQUENTIAL`.
        labels: The labels of the tool; ``None`` if no one said any. Without any of :data:`CONSEQUENTIAL` it may have
            every consequence, unless the list is empty.
    """
    return labels is None or label in labels or (bool(labels) and CONSEQUENTIAL.isdisjoint(labels))


def is_gated(
    labels: Collection[str] | None,
    integrity: str,
    destinations: Mapping[str, str],
    args: Mapping[str, str],
    claims: Iterable[str] = (),
) -> bool:
    """Return whether a call needs a person.

    Args:
        labels: The labels of the tool; see :func:`may_be`. Only an empty list says that it has no consequences.
        integrity: The integrity of the mark at which the call is judged.
        destinations: By argument that decides where the call leads, where its value comes from. A call without any
            is never spared.
        args: By argument, where its value comes from. All of them count for a tool that may persist: what it stores
            is read again as trusted.
        claims: Labels that others say; only consequential ones count.
    """
    said = consequences(labels, claims)
    if integrity == "trusted" or (said is not None and not said):
        return False
    counted = {*destinations.values(), *(args.values() if may_be("persists", said) else ())}
    return not destinations or not _SPARING.issuperset(counted)


def consequences(labels: Collection[str] | None, claims: Iterable[str]) -> Collection[str] | None:
    """Return the labels of a tool with those claimed ones that make a call more consequential."""
    return None if labels is None else (*labels, *CONSEQUENTIAL.intersection(claims))
