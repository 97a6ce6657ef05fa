"""Finds agents and servers in documents that describe them: CrewAI YAML, A2A cards, MCP ``server.json``."""

from collections.abc import Iterator
from typing import Final

from agent_identity._scan._documents import line_of, member
from agent_identity._scan._redaction import address, label
from agent_identity._scan.results import Item
from agent_identity.canonical import JSON

__all__ = ["described", "is_description"]

_MOST: Final = 2_000
_CARDS: Final = ("agent-card.json", "agent_card.json", "agent.json", "agentcard.json")


def is_description(path: str) -> bool:
    """Tell whether a file may be a description, by its name."""
    name = path.rpartition("/")[2].lower()
    crew = name.endswith((".yaml", ".yml")) and "agent" in name
    return crew or name == "server.json" or name.endswith(_CARDS)


def described(file: str, text: str, document: JSON) -> list[Item]:
    """Return what a document describes; nothing if it is of another kind.

    Args:
        file: Path for the results.
        text: Text of the file, for lines.
        document: Its value.
    """
    if not isinstance(document, dict):
        return []
    if file.lower().endswith((".yaml", ".yml")):
        return list(_crew(file, text, document))
    if file.rpartition("/")[2] == "server.json":
        return list(_server(file, document))
    return list(_card(file, text, document))


def _crew(file: str, text: str, document: dict[str, JSON]) -> Iterator[Item]:
    for name, value in list(document.items())[:_MOST]:
        if (
            isinstance(value, dict)
            and isinstance(member(value, "role"), str)
            and isinstance(member(value, "goal"), str)
        ):
            line = line_of(f"\n{text}", f"\n{name}:")
            yield Item("agent", label(str(name)), "declared", "CrewAI", file, line, guarded=None)
            model = member(value, "llm")
            if isinstance(model, str) and model:
                yield Item("model", label(model), "declared", "CrewAI", file, line)


def _server(file: str, document: JSON) -> Iterator[Item]:
    name = member(document, "name")
    remote, package = (_first(member(document, key)) for key in ("remotes", "packages"))
    if not isinstance(name, str) or (remote is None and package is None):
        return
    url, identifier = member(remote, "url"), member(package, "identifier")
    place = address(url) if isinstance(url, str) else label(identifier) if isinstance(identifier, str) else ""
    kind = member(remote, "type") if remote is not None else member(package, "transport", "type")
    transport = kind if kind in ("sse", "stdio") else "http"
    yield Item("mcp_server", label(name), "declared", "MCP registry", file, place=place, transport=str(transport))


def _first(value: JSON) -> JSON:
    return value[0] if isinstance(value, list) and value else None


def _card(file: str, text: str, document: JSON) -> Iterator[Item]:
    name, skills = member(document, "name"), member(document, "skills")
    interfaces, url = member(document, "supportedInterfaces"), member(document, "url")
    if (
        not isinstance(name, str)
        or not isinstance(skills, list)
        or not (isinstance(interfaces, list) or isinstance(url, str))
    ):
        return
    first = member(_first(interfaces), "url") or url
    place = address(first) if isinstance(first, str) else ""
    yield Item("agent_card", label(name), "declared", "A2A", file, line_of(text, "name"), place=place, transport="http")
