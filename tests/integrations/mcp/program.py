"""A protected MCP server of its own process: by pipes, or with a port over streamable HTTP."""

import sys
from pathlib import Path

from agent_identity import Enforcer
from agent_identity.integrations.mcp import protect_server

try:
    from mcp.server.fastmcp import FastMCP as Server
except ModuleNotFoundError:
    from mcp.server.mcpserver import MCPServer as Server


def main(directory: str, description: str, port: str = "") -> None:
    """Serve until the other side goes away."""
    with Enforcer.open(directory) as enforcer:
        server = Server("invoices")

        @server.tool(description=description)
        def read(path: str) -> str:
            with (Path(directory) / "ran").open("a") as file:
                file.write(f"{path}\n")
            return f"{path} for {enforcer.current_task.principal.id}"

        protect_server(server, enforcer, name="invoices")
        if not port:
            server.run("stdio")
            return
        import uvicorn

        uvicorn.run(server.streamable_http_app(), host="127.0.0.1", port=int(port), log_level="error")


if __name__ == "__main__":
    main(*sys.argv[1:])
