"""MCP in one process: what a tool that calls a server there may, and what it may not."""

from typing import Any

import pytest
from mcp_parties import ALICE, NAME, Pair, in_memory, low_level, tool

from agent_identity import Agent, Human, Scope, Service
from agent_identity.errors import Denied
from agent_identity.integrations.mcp.server import Anonymous

BOB = Human("bob@example.com")
DESK = Agent("desk", owner="payments@example.com")
SCOPE = {"act": None, f"{NAME}/read": None}


async def test_a_tool_calls_a_server_in_its_own_process(pair: Pair) -> None:
    """The handler runs in the task that the call proves, whether the session was opened inside the tool or before."""
    server = pair.guarded()

    @pair.a.tool
    async def act(session: Any = None) -> str:
        if session is not None:
            return (await session.call_tool("read", {"path": "a"})).content[0].text
        async with pair.connected(server) as own:
            return (await own.call_tool("read", {"path": "a"})).content[0].text

    async with pair.connected(server) as session:
        with pair.task(Scope(SCOPE)):
            assert await act() == "content of a"
            with pair.a.action("act"):
                assert (await session.call_tool("read", {"path": "a"})).content[0].text == "content of a"
    found = pair.records("b", "outcome")
    assert [(r["outcome"], r["principal"]["id"]) for r in found] == [("success", ALICE.id)] * 2


async def test_a_handler_opens_no_task_for_others(pair: Pair) -> None:
    """A handler is a guarded body like any other: it does not become Bob with the enforcer of its server."""
    codes: list[str] = []

    def become_bob(*_: Any) -> str:
        try:
            with pair.b.no_task(), pair.b.task("p", principal=BOB, agent=DESK, scope=Scope("x")):
                codes.append("opened")
        except Denied as denied:
            codes.append(denied.code)
        return "done"

    server = low_level(lambda: [tool("read", path={"type": "string"})], become_bob)
    async with pair.connected(pair.guarded(server)) as session:
        with pair.task():
            await session.call_tool("read", {"path": "a"})
    assert codes == ["task_in_body"]


@pytest.mark.parametrize("listed", [True, False])
async def test_a_body_is_not_let_in_as_a_stranger(pair: Pair, listed: bool) -> None:
    """A tool that drops its authority is refused, unless the server's application lists whom strangers run as."""
    if listed:
        pair.b = pair.open("b", nested=[Service("anonymous")])
        pair.outer_elsewhere.add("b")
    server = pair.guarded(dangerously_let_in_anonymous=Anonymous(DESK, Scope(f"{NAME}/read")))

    @pair.a.tool
    async def act() -> Any:
        async with in_memory(server) as session:
            return await session.call_tool("read", {"path": "a"})

    async with in_memory(server) as session:  # Nobody's code: let in as ever.
        assert (await session.call_tool("read", {"path": "a"})).content[0].text == "content of a"
    with pair.task(Scope(SCOPE)):
        result = await act()
    if listed:
        assert result.content[0].text == "content of a"
    else:
        pair.refused(result, "task_in_body", "invoke_agent")
