"""Finds agents and MCP servers in files that configure or describe them.

They are the configurations of MCP clients (``clients.json``), CrewAI YAML, A2A cards and MCP ``server.json``.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final, TypedDict, cast

from agent_identity._scan._documents import line_of, member
from agent_identity._scan._redaction import address, command_line, label
from agent_identity._scan._tables import read_table
from agent_identity._scan.results import Item
from agent_identity.canonical import JSON

MOST: Final = 500
"""MCP servers of one configuration that are reported."""

_ADDRESSES: Final = ("url", "httpUrl", "serverUrl", "uri", "endpoint")
_SETTINGS: Final = ("env", "envs", "environment", "env_keys", "env_vars")
_HEADERS: Final = ("headers", "http_headers", "env_http_headers")
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,127}")
_IMAGES: Final = re.compile(r"(?:^|/)(?:mcp/|mcp-|[\w.-]*-mcp\b|[\w.-]*mcp-server)|docker/mcp-gateway", re.IGNORECASE)

_MOST: Final = 2_000
_CARDS: Final = ("agent-card.json", "agent_card.json", "agent.json", "agentcard.json")


@dataclass(frozen=True, slots=True)
class Client:
    """One row of the table of clients.

    Attributes:
        client: Name of the product.
        files: Patterns of its configuration files.
        keys: Dotted paths to the servers; ``*`` is any member.
    """

    client: str
    files: Sequence[str]
    keys: Sequence[str]


class _Table(TypedDict):
    clients: list[dict[str, object]]


@cache
def _clients() -> Sequence[tuple[Client, re.Pattern[str]]]:
    rows = [Client(**cast("dict[str, str]", row)) for row in cast("_Table", read_table("clients.json"))["clients"]]
    return [(row, re.compile("|".join(map(_pattern, row.files)))) for row in rows]


def _pattern(glob: str) -> str:
    parts = [re.escape(part) for part in glob.split("/")]
    joined = "/".join(part.replace(r"\*", "[^/]*") for part in parts)
    return rf"(?:{joined.replace('[^/]*[^/]*/', '(?:.*/)?')})\Z"


def client_of(path: str) -> Client | None:
    """Return the client that a file belongs to.

    Args:
        path: Absolute path with forward slashes.
    """
    return next((row for row, pattern in _clients() if pattern.match(path)), None)


def configured(client: Client, file: str, text: str, document: JSON) -> list[Item]:
    """Return the MCP servers of one configuration.

    Args:
        client: Whose configuration it is.
        file: Path for the results.
        text: Text of the file, for lines.
        document: Its value.
    """
    items: list[Item] = []
    for key in client.keys:
        for servers in _at(document, re.split(r"(?<!\\)\.", key)):
            for name, entry in _entries(servers, listed=client.client == "Continue"):
                item = _item(client, name, entry, (file, line_of(text, name)))
                if item is not None and len(items) < MOST:
                    items.append(item)
    return items


def _at(value: JSON, path: Sequence[str]) -> Iterator[JSON]:
    if not path:
        yield value
    elif isinstance(value, dict):
        members = value
        name = path[0].replace("\\", "")
        for one in list(members.values())[:MOST] if name == "*" else [members[name]] if name in members else []:
            yield from _at(one, path[1:])


def _entries(servers: JSON, *, listed: bool) -> Iterator[tuple[str, Mapping[str, JSON]]]:
    """Yield names and settings; clients write servers as a map, Continue also as a list of objects."""
    if isinstance(servers, dict):
        for key, value in servers.items():
            if isinstance(value, dict):
                yield str(key), value
            elif value in ("", None):
                yield str(key), {}
    elif listed and isinstance(servers, list):
        for entry in servers:
            if isinstance(entry, dict):
                inner = entry
                name = inner.get("name")
                transport = inner.get("transport")
                flat = {**inner, **transport} if isinstance(transport, dict) else inner
                yield (name if isinstance(name, str) else ""), flat


def _item(client: Client, name: str, entry: Mapping[str, JSON], at: tuple[str, int]) -> Item | None:
    if client.client == "Goose" and entry.get("type") in ("builtin", "platform", "frontend", "inline_python"):
        return None
    if client.client == "Docker Compose" and not _IMAGES.search(_text(entry.get("image"))):
        return None
    place, transport = _place(client, entry)
    environment = [*_names(entry, _SETTINGS), *_texts(entry.get("bearer_token_env_var"))]
    return Item(
        "mcp_client",
        label(name),
        "configured",
        client.client,
        *at,
        guarded=None,
        place=place,
        transport=transport,
        environment=tuple(sorted({text for text in environment if _NAME.fullmatch(text)})),
        headers=tuple(sorted({text for text in _names(entry, _HEADERS) if _NAME.fullmatch(text)})),
        enabled=not (_true(entry.get("disabled")) or _false(entry.get("enabled"))),
    )


def _place(client: Client, entry: Mapping[str, JSON]) -> tuple[str, str]:
    """Return address or command, without secrets, and the transport."""
    kind = _text(entry.get("type")) or _text(entry.get("transport"))
    for key in _ADDRESSES:
        if _text(entry.get(key)):
            sse = "sse" in kind or (client.client == "Gemini CLI" and key == "url" and not kind)
            return address(_text(entry[key])), "sse" if sse else "http"
    command, arguments = entry.get("command", entry.get("cmd")), entry.get("args")
    if isinstance(command, dict):
        inner = command
        command, arguments = inner.get("path", inner.get("command")), inner.get("args", arguments)
    words = [*_texts(command), *_texts(arguments)]
    if words:
        return command_line(words[0], words[1:]), "stdio"
    image = _text(entry.get("image")) or _text(entry.get("ref"))
    return (command_line(image, ()), "stdio") if image else ("", "")


def _names(entry: Mapping[str, JSON], keys: Sequence[str]) -> Iterator[str]:
    """Yield names of settings; never their values."""
    for key in keys:
        value = entry.get(key)
        if isinstance(value, dict):
            yield from (str(name) for name in value)
        elif isinstance(value, list):
            yield from (text.partition("=")[0] for text in _texts(cast("JSON", value)))
    inner = member(cast("JSON", entry), "requestOptions", "headers") if keys is _HEADERS else None
    if isinstance(inner, dict):
        yield from (str(name) for name in inner)


def _texts(value: JSON) -> list[str]:
    if isinstance(value, str):
        return [value]
    return [one for one in value if isinstance(one, str)] if isinstance(value, list) else []


def _text(value: JSON) -> str:
    return value if isinstance(value, str) else ""


def _true(value: JSON) -> bool:
    return value is True or value == "true"


def _false(value: JSON) -> bool:
    return value is False or value == "false"


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
