"""Tools of MCP servers in CrewAI: resolved for a run, guarded by the hook, on record with their server."""

import sys
from pathlib import Path

import pytest
from crewai.mcp import MCPServerStdio
from crewai.utilities.string_utils import sanitize_tool_name
from crewai_doubles import answers, crew_of, member, scripted, task, verified

from agent_identity import Scope
from agent_identity.integrations.frameworks.crewai import protect
from agent_identity.testing import Rehearse

SERVER = """
from mcp.server.fastmcp import FastMCP
server = FastMCP("billing")

@server.tool()
def read(invoice: str) -> str:
    return f"{invoice} is open"

server.run()
"""


def test_tools_of_servers_are_recorded_with_their_server(
    rehearse: Rehearse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record has kind ``mcp`` and the name that CrewAI gives to the server; refused calls reach no server."""
    (tmp_path / "server.py").write_text(SERVER)
    monkeypatch.chdir(tmp_path)
    world = rehearse()
    llm = scripted("done")
    agent = member(llm, [], mcps=[MCPServerStdio(command=sys.executable, args=["server.py"])])
    (made,) = agent.get_mcp_tools(agent.mcps)
    name = sanitize_tool_name(made.name)
    llm._script[:] = [[(name, {"invoice": "A"})], [(name, {"invoice": "B"})], "done"]
    crew = protect(crew_of(agent), world.enforcer)
    full = f"{made.server_name}/{name}"
    with task(world, scope=Scope(full, invoice="A")):
        crew.kickoff()
    first, second = answers(llm)
    assert "A is open" in first
    assert second.startswith("refused: argument_out_of_scope")
    assert {(call.record.action.kind, call.tool) for call in world.records.calls()} == {("mcp", full)}
    verified(world)
