"""Tools of MCP servers in Strands: on record with their server, as ``server/tool``."""

import sys
from typing import Any

from mcp import StdioServerParameters, stdio_client
from strands.tools.mcp import MCPClient
from strands_doubles import made, results, task, use, verified

from agent_identity import Scope
from agent_identity.integrations.frameworks.strands import AgentIdentityHooks
from agent_identity.testing import Rehearse

SERVER = """
from mcp.server.fastmcp import FastMCP
server = FastMCP("billing")

@server.tool()
def read(invoice: str, language: str = "en") -> str:
    return f"{invoice} is open ({language})"

server.run()
"""


def test_tools_of_servers_are_recorded_with_their_server(rehearse: Rehearse) -> None:
    """The record has kind ``mcp`` and the name that the hooks got for the client; refused calls reach no server."""
    client = MCPClient(lambda: stdio_client(StdioServerParameters(command=sys.executable, args=["-c", SERVER])))
    world = rehearse()
    hooks = AgentIdentityHooks(world.enforcer, servers={"billing": client})
    with client:
        tools: list[Any] = client.list_tools_sync()
        agent = made(hooks, tools, use("read", "c1", invoice="A"), use("read", "c2", invoice="B"))
        with task(world, scope=Scope("billing/read", invoice="A", language="en")):
            agent("go")
    first, second = results(agent)
    assert first == ("success", "A is open (en)")
    assert second[1].startswith("refused: argument_out_of_scope")
    found = [(call.record.action.kind, call.tool) for call in world.records.calls()]
    assert found == [("mcp", "billing/read")] * 2
    verified(world)
