"""A protected MCP server of its own process: by pipes, or on a socket that it is given, over streamable HTTP."""

import contextlib
import os
import sys
from pathlib import Path

from opentelemetry.sdk.trace import TracerProvider

from agent_identity import Enforcer
from agent_identity.integrations.mcp.server import protect_server
from agent_identity.options import Telemetry

try:
    from mcp.server.fastmcp import FastMCP as Server
except ModuleNotFoundError:
    from mcp.server.mcpserver import MCPServer as Server


def main(directory: str, description: str, fd: str = "") -> None:
    """Serve until the other side goes away."""
    with Enforcer.open(directory, telemetry=Telemetry(tracer_provider=TracerProvider())) as enforcer:
        server = protect_server(Server("invoices"), enforcer, name="invoices")

        @server.tool(description=os.environ.get("DESCRIPTION", description))
        def read(path: str) -> str:
            with (Path(directory) / "ran").open("a") as file:
                file.write(f"{path}\n")
            return f"{path} for {enforcer.current_task.principal.id}"

        if not fd:
            server.run("stdio")
            return
        import uvicorn

        with contextlib.suppress(KeyboardInterrupt):
            uvicorn.run(
                server.streamable_http_app(),
                fd=int(fd),
                log_level="error",
                timeout_graceful_shutdown=1,
            )


if __name__ == "__main__":
    main(*sys.argv[1:])
