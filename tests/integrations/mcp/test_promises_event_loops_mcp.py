"""MCP clients and servers on an event loop that is watched."""

import sys
from pathlib import Path

import pytest
from mcp_parties import Pair

from agent_identity.errors import Denied

sys.path.insert(0, str(Path(__file__).parents[2]))

from watching import WATCHES, Watch, run


@WATCHES
def test_calls_of_a_server_are_guarded_on_both_sides(pair: Pair, watch: Watch) -> None:
    """Under the watch definitions are pinned, a call is addressed, let in and run, and one without a task refused."""
    server = pair.guarded()

    async def main() -> None:
        async with pair.connected(server) as session:
            async with pair.task():
                assert (await session.call_tool("read", {"path": "a"})).content[0].text == "content of a"
                assert (await session.read_resource("note://a")).contents[0].text == "note a"
            with pytest.raises(Denied) as caught:
                await session.call_tool("read", {"path": "a"})
            assert caught.value.code == "no_task"

    run(watch, main)
    assert pair.ran == [("read", "a"), ("note", "a")]
