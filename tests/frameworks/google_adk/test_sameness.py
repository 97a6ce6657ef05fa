"""A permitted run under guard gives the events of the same run without a guard."""

from typing import Any

import pytest
from google.adk.agents import RunConfig
from google.adk.agents.run_config import StreamingMode
from google.adk.tools import AgentTool, LongRunningFunctionTool, ToolContext


def look(invoice: str, limit: int = 3) -> dict[str, Any]:
    """Look something up."""
    return {"invoice": invoice, "limit": limit}


async def wait(invoice: str) -> str:
    """Read an invoice later."""
    return f"{invoice} is read"


def count(tool_context: ToolContext) -> int:
    """Count the calls of a session."""
    tool_context.state["calls"] = tool_context.state.get("calls", 0) + 1
    number: int = tool_context.state["calls"]
    return number


def nothing() -> None:
    """Do nothing."""


def fail() -> str:
    """Fail."""
    raise ValueError("no such invoice")


def shaped(event: Any) -> Any:
    """Return what an event says, without times and random ids."""
    parts = [
        part.model_dump(exclude={"function_call": {"id"}, "function_response": {"id"}})
        for part in (event.content.parts if event.content else None) or ()
    ]
    state, target = dict(event.actions.state_delta), event.actions.transfer_to_agent
    return event.author, event.partial, event.turn_complete, parts, state, target, bool(event.long_running_tool_ids)


def agents(adk: Any) -> dict[str, Any]:
    """Return agents of the shapes that are compared."""
    call = adk.call
    later = adk.agent(["looked"], name="later", description="Looks later.")
    return {
        "results": adk.agent(
            [[call("look", invoice="A")], [call("wait", invoice="B")], [call("nothing")], [call("count")], "all done"],
            [look, wait, nothing, count],
        ),
        "at once": adk.agent([[call("look", invoice=name) for name in "ABC"] + [call("count")], "done"], [look, count]),
        "an error": adk.agent([[call("fail")], "done"], [fail]),
        "arguments are missing": adk.agent([[call("look")], "done"], [look]),
        "a long tool": adk.agent([[call("wait", invoice="B")], "waiting"], [LongRunningFunctionTool(wait)]),
        "an agent as a tool": adk.agent([[call("later", request="look")], "done"], [AgentTool(later)]),
        "a sub-agent": adk.agent([[call("transfer_to_agent", agent_name="later")]], sub_agents=[later]),
    }


async def outcome(adk: Any, shape: str, *, bare: bool, streams: bool) -> Any:
    """Return the events of a run, or the error by which it ends."""
    config = RunConfig(streaming_mode=StreamingMode.SSE if streams else StreamingMode.NONE)
    runner = adk.runner(agents(adk)[shape], bare=bare)
    try:
        return [shaped(event) for event in await adk.events(runner, run_config=config)]
    except ValueError as error:
        return type(error), str(error)


@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize(
    "shape",
    [
        *("results", "at once", "an error", "arguments are missing", "a long tool", "an agent as a tool"),
        "a sub-agent",
    ],
)
async def test_a_permitted_run_is_the_bare_one(adk: Any, shape: str, streams: bool) -> None:
    """Results, errors, state, streams and transfers are the framework's own."""
    adk.open()
    with adk.task("look wait count nothing fail later transfer_to_agent"):
        guarded = await outcome(adk, shape, bare=False, streams=streams)
    assert guarded == await outcome(adk, shape, bare=True, streams=streams)
    assert adk.calls() or shape == "a sub-agent"
