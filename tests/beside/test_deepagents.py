"""Agents of deepagents, which plan, keep files and hand work to sub-agents, are guarded as others are."""

import asyncio
import importlib.util
import os
from pathlib import Path
from typing import Any

import orjson
import pytest
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import BaseTool, tool

from agent_identity import Agent, Enforcer, Human, Scope, Verifier
from agent_identity._ledger.reader import open_ledger
from agent_identity.integrations.langchain.middleware import AgentIdentityMiddleware
from agent_identity.integrations.langchain.protection import protect
from agent_identity.integrations.langchain.scripted import scripted_model

if importlib.util.find_spec("deepagents") is None and os.environ.get("AGENT_IDENTITY_NEIGHBOURS") != "all":
    pytest.skip("deepagents is not installed here; nox -s neighbours", allow_module_level=True)

from deepagents import create_deep_agent

ALICE = Human("alice@example.com")
CLERK, RESEARCHER = (Agent(name, owner="finance@example.com") for name in ("clerk", "researcher"))
SCOPE = Scope(dict.fromkeys(["find", "task", "write_file"]))
BODIES: list[str] = []


def make_tools() -> list[BaseTool]:
    """Return a tool that the task covers, and one that it does not."""

    @tool
    def find(q: str) -> str:
        """Find."""
        BODIES.append(q)
        return f"found {q}"

    @tool
    def wipe() -> str:
        """Wipe."""
        BODIES.append("wiped")
        return "wiped"

    return [find, wipe]


def agent(enforcer: Enforcer, way: str) -> Any:
    """Return an agent with a sub-agent; both ask for more than the task covers."""
    tools = make_tools() if way == "middleware" else protect(make_tools(), enforcer)
    researcher: dict[str, Any] = {
        "name": "researcher",
        "description": "Finds.",
        "system_prompt": "Find.",
        "tools": tools,
        "model": scripted_model(("find", {"q": "inside"}), ("wipe", {})),
    }
    options: dict[str, Any] = {}
    if way == "middleware":
        narrow = AgentIdentityMiddleware(enforcer, agent=RESEARCHER, scope=Scope("find"))
        researcher["middleware"] = [narrow]
        options["middleware"] = [AgentIdentityMiddleware(enforcer)]
    file = {"file_path": "/a.txt", "content": "hi"}
    work = {"description": "find", "subagent_type": "researcher"}
    model = scripted_model(("write_file", file), ("find", {"q": "outside"}), ("task", work), ("wipe", {}))
    return create_deep_agent(model, tools=tools, subagents=[researcher], **options)


def run(directory: Path, way: str, *, later: bool) -> tuple[list[tuple[str | None, str]], list[dict[str, Any]]]:
    """Run the agent; return how its tools answered, and the outcomes in the ledger, which verifies."""
    BODIES.clear()
    with Enforcer.open(directory) as enforcer, enforcer.task("t", principal=ALICE, agent=CLERK, scope=SCOPE):
        made, question = agent(enforcer, way), {"messages": [HumanMessage("go")]}
        state = asyncio.run(made.ainvoke(question)) if later else made.invoke(question)
    answers = [(m.name, m.status) for m in state["messages"] if isinstance(m, ToolMessage)]
    assert Verifier().ledger(directory).verdict == "verified"
    reader = open_ledger(directory)
    lines = [line.record for stream in reader.streams() for line in reader.entries(stream)]
    records = [orjson.loads(line) for line in lines if line is not None]
    return answers, [record for record in records if record["kind"] == "outcome"]


@pytest.mark.parametrize("later", [False, True])
def test_ac_39_every_call_of_a_deep_agent_names_the_human_and_who_acted(tmp_path: Path, later: bool) -> None:
    """By middleware, calls of its own tools for files and sub-agents as well; a sub-agent has its part of the scope."""
    answers, outcomes = run(tmp_path / "e", "middleware", later=later)
    assert answers == [("write_file", "success"), ("find", "success"), ("task", "success"), ("wipe", "error")]
    assert BODIES == ["outside", "inside"]
    assert [(r["action"]["tool"], [link["id"] for link in r["chain"]], r["outcome"]) for r in outcomes] == [
        ("write_file", ["clerk"], "success"),
        ("find", ["clerk"], "success"),
        ("find", ["clerk", "researcher"], "success"),
        ("wipe", ["clerk", "researcher"], "denied"),
        ("task", ["clerk"], "success"),
        ("wipe", ["clerk"], "denied"),
    ]
    assert {record["principal"]["id"] for record in outcomes} == {"alice@example.com"}


@pytest.mark.parametrize("later", [False, True])
def test_protected_tools_of_a_deep_agent_are_guarded_wherever_they_are_called(tmp_path: Path, later: bool) -> None:
    """In a sub-agent too; its own tools for files and sub-agents are nobody's then."""
    answers, outcomes = run(tmp_path / "e", "protect", later=later)
    assert answers[-1] == ("wipe", "error")
    assert BODIES == ["outside", "inside"]
    assert [(record["action"]["tool"], record["outcome"]) for record in outcomes] == [
        ("find", "success"),
        ("find", "success"),
        ("wipe", "denied"),
        ("wipe", "denied"),
    ]
