"""The cost of a guarded tool call in Pydantic AI, paced: one run with one call, bare and guarded in turn.

python benchmarks/frameworks/pydantic_ai_calls.py
"""

import asyncio
import logging
import tempfile
import time
from statistics import median

from pydantic_ai import Agent
from pydantic_ai.capabilities import AbstractCapability
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

import agent_identity as ai
from agent_identity.integrations.frameworks.pydantic_ai import AgentIdentity

RUNS = 300
PAUSE = 0.005
"""Seconds between two runs."""


def answer(messages: list[ModelMessage], _: AgentInfo) -> ModelResponse:
    """Answer with a call, then with a text."""
    call = ToolCallPart("add", {"x": 1, "y": 2})
    return ModelResponse(parts=[call if len(messages) == 1 else TextPart("3")])


def add(x: int, y: int) -> int:
    """Add."""
    return x + y


def agent(*capabilities: AbstractCapability[object]) -> Agent[None, str]:
    """Return an agent with one tool."""
    return Agent(FunctionModel(answer), tools=[add], capabilities=capabilities)


async def measured() -> tuple[float, float]:
    """Return the median seconds of a bare and of a guarded run."""
    seconds: tuple[list[float], list[float]] = ([], [])
    with tempfile.TemporaryDirectory() as folder, ai.Enforcer.open(folder) as enforcer:
        agents = agent(), agent(AgentIdentity(enforcer))
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
    print(f"pydantic_ai {bare * 1e6:.0f} {guarded * 1e6:.0f} {guarded / bare:.2f}")


if __name__ == "__main__":
    main()
