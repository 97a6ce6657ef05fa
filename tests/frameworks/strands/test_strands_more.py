"""Graphs, structured answers and background work of Strands under guard."""

import importlib.util
import inspect
from typing import Any

import pytest
from pydantic import BaseModel
from strands import Agent, tool
from strands.multiagent import GraphBuilder
from strands_doubles import BOB, HELPER, made, outcomes, task, use, verified

from agent_identity.integrations.frameworks.strands import AgentIdentityHooks
from agent_identity.testing import Rehearse

ran: list[Any] = []


@pytest.fixture(autouse=True)
def _forget() -> None:
    ran.clear()


@tool
async def read(invoice: str) -> str:
    """Read an invoice."""
    ran.append(invoice)
    return f"{invoice} is open"


class Invoice(BaseModel):
    """The form of an answer."""

    number: str


def test_a_structured_answer_is_no_call(rehearse: Rehearse) -> None:
    """The tool by which Strands reads a structured answer needs no grant; other tools of the run do."""
    world = rehearse()
    script = use("read", "c1", invoice="A"), use("Invoice", "c2", number="A")
    agent = made(AgentIdentityHooks(world.enforcer), [read], *script)
    with task(world, "read"):
        answer = agent("go", structured_output_model=Invoice)
    assert answer.structured_output == Invoice(number="A")
    assert [call.tool for call in world.records.calls()] == ["read"]
    verified(world)


async def test_the_stream_of_a_graph_runs_under_the_task_in_which_it_was_made(rehearse: Rehearse) -> None:
    """Nodes of a graph act by their names, and a graph that Bob consumes runs for Alice, who made its stream."""
    world = rehearse()
    hooks = AgentIdentityHooks(world.enforcer, agents={"helper": HELPER})
    builder = GraphBuilder()
    first = builder.add_node(made(hooks, [read], use("read", "c1", invoice="A"), "found"), "first")
    helper = made(hooks, [read], use("read", "c2", invoice="B"), "found", name="helper")
    builder.add_edge(first, builder.add_node(helper, "second"))
    builder.set_entry_point("first")
    builder.set_hook_providers([hooks])
    builder.set_execution_timeout(60)
    graph = builder.build()
    with task(world, "read"):
        stream = graph.stream_async("go")
        with task(world, "read", principal=BOB):
            async for _ in stream:
                pass
    assert ran == ["A", "B"]
    assert [(call.principal, call.agents) for call in world.records.calls()] == [
        ("alice@example.com", ("clerk",)),
        ("alice@example.com", ("clerk", "helper")),
    ]


@pytest.mark.skipif(
    importlib.util.find_spec("strands.background_tasks") is None
    or "background_tasks" not in inspect.signature(Agent).parameters,
    reason="background tasks came later",
)
def test_background_work_is_guarded(rehearse: Rehearse) -> None:
    """A tool that Strands runs beside the conversation passes the guard like others."""
    for tools, outcome in ((("other",), "denied"), (("read",), "success")):
        world = rehearse()
        script = use("read", "c1", invoice="A"), "working", "done", "done"
        options = {"always": ["read"], "wait_for_completion": True}
        agent = made(AgentIdentityHooks(world.enforcer), [read], *script, background_tasks=options)
        with task(world, *tools):
            agent("go")
        assert ran == (["A"] if outcome == "success" else [])
        assert outcomes(world, "read") == [outcome]
        verified(world)
