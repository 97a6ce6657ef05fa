"""The cost of a guarded tool call in LlamaIndex, paced: one run with one call, bare and guarded in turn.

python benchmarks/frameworks/llama_index_calls.py
"""

import asyncio
import logging
import tempfile
import time
from collections.abc import Sequence
from statistics import median

from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.base.llms.types import ChatMessage, MessageRole, ToolCallBlock
from llama_index.core.llms.mock import MockFunctionCallingLLM

import agent_identity as ai
from agent_identity.integrations.frameworks.llama_index import protect

RUNS = 300
PAUSE = 0.005
"""Seconds between two runs."""


def answer(messages: Sequence[ChatMessage], **_: object) -> ChatMessage:
    """Answer with a call, then with a text."""
    if messages[-1].role == MessageRole.TOOL:
        return ChatMessage(role=MessageRole.ASSISTANT, content="3")
    call = ToolCallBlock(tool_call_id="c", tool_name="add", tool_kwargs={"x": 1, "y": 2})
    return ChatMessage(role=MessageRole.ASSISTANT, blocks=[call])


async def add(x: int, y: int) -> int:
    """Add."""
    return x + y


def agent(tools: Sequence[object]) -> FunctionAgent:
    """Return an agent with one tool."""
    return FunctionAgent(tools=[*tools], llm=MockFunctionCallingLLM(response_generator=answer))


async def measured() -> tuple[float, float]:
    """Return the median seconds of a bare and of a guarded run."""
    seconds: tuple[list[float], list[float]] = ([], [])
    with tempfile.TemporaryDirectory() as folder, ai.Enforcer.open(folder) as enforcer:
        agents = agent([add]), agent(protect([add], enforcer))
        who = {"principal": ai.Human("alice@example.com"), "agent": ai.Agent("clerk", owner="fin@example.com")}
        with enforcer.task("add", scope=ai.Scope("add"), **who):
            for _ in range(RUNS):
                for which in (0, 1):
                    start = time.perf_counter()
                    await agents[which].run("go")
                    seconds[which].append(time.perf_counter() - start)
                    await asyncio.sleep(PAUSE)
    return median(seconds[0]), median(seconds[1])


def main() -> None:
    """Print the name, the microseconds of both, and their ratio."""
    logging.disable(logging.WARNING)
    bare, guarded = asyncio.run(measured())
    print(f"llama_index {bare * 1e6:.0f} {guarded * 1e6:.0f} {guarded / bare:.2f}")


if __name__ == "__main__":
    main()
