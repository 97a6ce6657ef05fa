"""What type checkers see of MCP: what is guarded keeps its type."""

from typing import assert_type

from mcp import ClientSession
from mcp.server.fastmcp import FastMCP
from mcp.server.lowlevel import Server

from agent_identity import Agent, Enforcer, Scope
from agent_identity.integrations.mcp.client import protect_session, protected_session
from agent_identity.integrations.mcp.server import Anonymous, protect_server
from agent_identity.integrations.mcp.servers import McpServer


def guarded(session: ClientSession, high: FastMCP, low: Server, enforcer: Enforcer) -> None:
    """Sessions and servers of every class come back as what they were."""
    assert_type(protect_session(session, enforcer, McpServer("files", url="https://files.example.com")), ClientSession)
    assert_type(protected_session("in", "out", enforcer, McpServer("files"), client_info=None), ClientSession)
    assert_type(protect_server(high, enforcer, name="files"), FastMCP)
    strangers = Anonymous(Agent("desk", owner="it@example.com"), Scope("files/list"))
    assert_type(protect_server(low, enforcer, name="files", dangerously_let_in_anonymous=strangers), Server)
