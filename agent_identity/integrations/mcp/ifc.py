"""Flow labels that an MCP server gives its results in ``_meta.ifc``; they only ever restrict."""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Final, cast

from agent_identity.inspection import Label

__all__ = ["label_in"]

_TRUSTED: Final = Label("trusted")
_UNTRUSTED: Final = Label("untrusted")
_MEMBER: Final = "ifc"
_MAX_BLOCKS: Final = 1_024


def label_in(content: Mapping[str, object]) -> Label:
    """Return the label that a result and its content blocks have together.

    Every integrity but ``trusted`` is untrusted, and readers other than ``public`` that nobody can tell are nobody.

    Args:
        content: A result as plain JSON.
    """
    blocks = content.get("content")
    listed = cast("list[object]", blocks) if isinstance(blocks, list) else []
    label = _UNTRUSTED if len(listed) > _MAX_BLOCKS else _TRUSTED
    for part in (content, *listed[:_MAX_BLOCKS]):
        label = label.meet(_label(part))
    return label


def _label(part: object) -> Label:
    meta = cast("Mapping[str, object]", part).get("_meta") if isinstance(part, Mapping) else None
    said = cast("Mapping[str, object]", meta).get(_MEMBER) if isinstance(meta, Mapping) else None
    if said is None:
        return _TRUSTED
    if not isinstance(said, Mapping):
        return _UNTRUSTED
    members = cast("Mapping[str, object]", said)
    readers = Label("trusted", _readers(members.get("confidentiality", "public")))
    return readers if members.get("integrity", "trusted") == "trusted" else readers.meet(_UNTRUSTED)


def _readers(said: object) -> AbstractSet[str] | None:
    names = cast("list[str]", said if isinstance(said, list) else [said])
    if names == ["public"]:
        return None
    try:
        return Label("trusted", frozenset(names)).readers
    except (TypeError, ValueError):
        return frozenset()
