"""Records of a client and a server of MCP: both say what a tool touches."""

from typing import Any

import pytest
from mcp_parties import ALICE, CLERK, NAME, SCOPE, Pair, in_memory

from agent_identity import records
from agent_identity._record.schema import Detail
from agent_identity.errors import Denied
from agent_identity.integrations.mcp.client import protect_session
from agent_identity.integrations.mcp.server import protect_server
from agent_identity.integrations.mcp.servers import McpServer
from agent_identity.policy import Touch

PLACE = Touch("file", "/shared/{path}", "read", data=["personal"])


def read(pair: Pair, name: str, kind: type) -> list[Any]:
    """Return the records of a kind in a directory."""
    return [one for one in records.read(pair.folder / name) if isinstance(one, kind)]


def details_of(pair: Pair, name: str) -> list[Detail]:
    """Return the details in the lines of a directory."""
    return [detail for _, detail in records.read_lines(pair.folder / name) if detail is not None]


async def test_a_client_says_what_tools_touch(pair: Pair) -> None:
    """The client declares it with the server that it calls; a refused call has it in its detail, a prompt has none."""
    caller = pair.open("caller")
    server = pair.server()
    to = McpServer(NAME, touches={"read": PLACE})
    async with in_memory(server, lambda session: protect_session(session, caller, to)) as session:
        with caller.task("books", principal=ALICE, agent=CLERK, scope=SCOPE):
            await session.call_tool("read", {"path": "a"})
            with pytest.raises(Denied):
                await session.call_tool("read", {"path": "b"})
            await session.get_prompt("ask", {"topic": "a"})
    called, prompted = read(pair, "caller", records.Intent)
    (resource,) = called.resources
    assert (resource.name, resource.data, resource.digest is not None) == ("/shared/{path}", ("personal",), True)
    assert prompted.resources is None
    details = details_of(pair, "caller")
    assert [detail.resources[0].name for detail in details] == ["/shared/{path}"]


async def test_a_server_says_what_its_tools_touch(pair: Pair) -> None:
    """Calls of strangers are recorded with what they would have touched."""
    serving = pair.open("serving")
    server = pair.server(protect=lambda it: protect_server(it, serving, name=NAME, touches={"read": [PLACE]}))
    async with in_memory(server) as session:
        result = await session.call_tool("read", {"path": "a"})
    assert result.model_dump(by_alias=True)["isError"] is True
    assert pair.ran == []
    (detail,) = details_of(pair, "serving")
    assert [one.name for one in detail.resources] == ["/shared/{path}"]


@pytest.mark.parametrize("wrong", ["read", ["read"], {"read": "file"}, {"read": ["file"]}])
def test_something_else_is_a_type_error(pair: Pair, wrong: Any) -> None:
    """It is refused where server or client is described, before anything is guarded."""
    with pytest.raises(TypeError, match="touches"):
        McpServer(NAME, touches=wrong)
    with pytest.raises(TypeError, match="touches"):
        protect_server(pair.server(), pair.b, name=NAME, touches=wrong)
