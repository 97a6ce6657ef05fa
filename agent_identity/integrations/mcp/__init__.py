"""MCP: servers that verify the authority of calls, and clients that guard, pin and address their calls.

Needs the extra ``mcp``: the official SDK, 1.x or 2.x.
"""

try:
    from agent_identity.integrations.mcp.client import protect_session, protected_session
    from agent_identity.integrations.mcp.server import Anonymous, protect_server
    from agent_identity.integrations.mcp.servers import McpServer
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] != "mcp":
        raise
    raise ImportError("the package mcp is not installed; run pip install '.[mcp]' in the checkout") from error

__all__ = ["Anonymous", "McpServer", "protect_server", "protect_session", "protected_session"]
