"""The one name of a tool: ``server/tool`` where a server offers it.

Names of servers and tools may have any mark in them, so no one splits a name: a server is told from its registration.
"""

from collections.abc import Iterable


def tool_name(server: str | None, own: str) -> str:
    """Return the name of a tool in scopes, policies and records.

    Args:
        server: The server that offers it; ``None`` for a tool of this process.
        own: Its name there.
    """
    return own if server is None else f"{server}/{own}"


def is_of_server(name: str, server: str) -> bool:
    """Return whether a name is that of a tool of a server, or of its prompts, resources or requests (``server:…``)."""
    return name.startswith((f"{server}/", f"{server}:"))


def server_of(name: str, servers: Iterable[str]) -> str | None:
    """Return the server of a name among registered ones: the longest whose tool it can be.

    Args:
        name: The name of a tool.
        servers: The names of the servers on record.
    """
    return max((server for server in servers if is_of_server(name, server)), key=len, default=None)


def names_at_servers(name: str) -> tuple[str, ...]:
    """Return what a tool may be called at a server, as spans of other libraries name it: each end after a slash."""
    parts = name.split("/")
    return tuple("/".join(parts[at:]) for at in range(1, len(parts)))
