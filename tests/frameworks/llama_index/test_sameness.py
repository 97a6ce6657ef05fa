"""A permitted run under guard says to the model what the same run without a guard says."""

from collections.abc import Callable
from typing import Any

import pytest
from llama_index.core.base.llms.types import TextBlock
from llama_index.core.tools import FunctionTool
from llama_index.core.workflow import Context

from agent_identity import Scope


def look(invoice: str, limit: int = 3) -> dict[str, Any]:
    """Look something up."""
    return {"invoice": invoice, "limit": limit}


async def wait(invoice: str) -> str:
    """Read an invoice later."""
    return f"{invoice} is read"


async def count(ctx: Context[Any]) -> int:
    """Count the calls of a run."""
    number = await ctx.store.get("calls", default=0) + 1
    await ctx.store.set("calls", number)
    return int(number)


def nothing() -> None:
    """Do nothing."""


def fail() -> str:
    """Fail."""
    raise ValueError("no such invoice")


def blocks() -> list[TextBlock]:
    """Return blocks of content."""
    return [TextBlock(text="one"), TextBlock(text="two")]


SCRIPTS: dict[str, Any] = {
    "results": [[("look", {"invoice": "A"})], [("wait", {"invoice": "B"})], [("nothing", {})], "all done"],
    "at once": [[("look", {"invoice": name}) for name in "ABC"], "done"],
    "context": [[("count", {})], [("count", {})], "done"],
    "an error": [[("fail", {})], "done"],
    "arguments are missing": [[("look", {})], "done"],
    "blocks": [[("blocks", {})], "done"],
    "a direct answer": [[("answer", {"invoice": "A"})]],
    "a made-up tool": [[("pay_all", {})], "done"],
}


async def outcome(office: Any, shape: str, *, guarded: bool) -> Any:
    """Return what the model read, turn after turn, and the answer of the run.

    LlamaIndex tells the model the results of calls at once in the order in which they end, which nothing fixes.
    """
    office.said.clear()
    answer = FunctionTool.from_defaults(look, name="answer", return_direct=True)
    agent = office.agent(*SCRIPTS[shape], tools=[look, wait, count, nothing, fail, blocks, answer], guarded=guarded)
    said = str(await agent.run("go"))
    read = [
        [(message.role, message.content, dict(message.additional_kwargs)) for message in turn] for turn in office.said
    ]
    if shape == "at once":  # LlamaIndex lists the results in the order in which the calls ended.
        read = [sorted(turn, key=lambda message: message[2].get("tool_call_id", "")) for turn in read]
    return said, read


@pytest.mark.parametrize("shape", SCRIPTS)
async def test_a_permitted_run_is_the_bare_one(open_office: Callable[..., Any], shape: str) -> None:
    """Results, errors, contexts and direct answers are the framework's own."""
    office = open_office()
    tools = ("look", "wait", "count", "nothing", "fail", "blocks", "answer", "pay_all")
    with office.task(Scope({name: {} for name in tools})):
        guarded = await outcome(office, shape, guarded=True)
    assert guarded == await outcome(office, shape, guarded=False)
    assert office.calls() or shape == "a made-up tool"
