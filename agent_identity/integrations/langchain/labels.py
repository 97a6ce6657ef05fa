"""Label claims in the tags and metadata of a LangChain tool.

They come with the tool, and adapters fill the metadata from server data. So they are claims, which can only
make a decision stricter.
"""

from collections.abc import Iterable, Mapping
from typing import Final, cast

from langchain_core.tools import BaseTool

from agent_identity.adapters import claims_from
from agent_identity.policy import Claims

__all__ = ["METADATA_KEY", "claims_of"]

METADATA_KEY: Final = "agent_identity"
"""The ``metadata`` key of a mapping with ``labels`` and ``data``."""


def claims_of(tool: BaseTool) -> Claims | None:
    """Return the labels that a tool claims: its tags, ``metadata["agent_identity"]``, and its MCP annotations."""
    metadata = _mapping(tool.metadata)
    own = _mapping(metadata.get(METADATA_KEY))
    labels = (*_items(tool.tags), *_items(own.get("labels")))
    return claims_from(labels, _items(own.get("data")), annotations=metadata)


def _mapping(value: object) -> Mapping[str, object]:
    return cast("Mapping[str, object]", value) if isinstance(value, Mapping) else {}


def _items(value: object) -> Iterable[object]:
    return cast("Iterable[object]", value) if isinstance(value, list | tuple | set | frozenset) else ()
