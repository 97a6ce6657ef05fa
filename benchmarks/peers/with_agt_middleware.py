"""Microsoft's toolkit: its middleware for LangChain, which wraps the call of a tool."""

import agent_os.integrations
from agent_os.integrations.base import GovernancePolicy
from comparing import AUTHORITY, GIVEN, Peer, bare_tool, compare
from langgraph.prebuilt.tool_node import ToolCallRequest

tool = bare_tool()
middleware = agent_os.integrations.LangChainKernel(policy=GovernancePolicy(allowed_tools=[tool.name])).as_middleware()
call = {"name": tool.name, "args": GIVEN, "id": "call_1", "type": "tool_call"}
request = ToolCallRequest(tool_call=call, tool=tool, state={}, runtime=None)
compare(
    Peer(
        package="agent-governance-toolkit-core",
        does=AUTHORITY,
        call=lambda: middleware.wrap_tool_call(request, lambda asked: tool.invoke(asked.tool_call["args"])),
    )
)
