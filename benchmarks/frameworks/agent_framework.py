"""The cost of a guarded function call in Microsoft Agent Framework, paced: one run with one call, bare and guarded.

python benchmarks/frameworks/agent_framework.py
"""

import asyncio
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

sys.path = [path for path in sys.path if Path(path or ".").resolve() != Path(__file__).resolve().parent]  # Our name.

from agent_framework import (  # noqa: E402
    Agent,
    BaseChatClient,
    ChatMiddlewareLayer,
    ChatResponse,
    Content,
    FunctionInvocationLayer,
    Message,
    tool,
)

import agent_identity as ai  # noqa: E402
from agent_identity.integrations.frameworks.agent_framework import AgentIdentityMiddleware  # noqa: E402

RUNS = 300
PAUSE = 0.005
"""Seconds between two runs."""


class Client(FunctionInvocationLayer[Any], ChatMiddlewareLayer[Any], BaseChatClient[Any]):
    """Calls the function once in each run."""

    def _inner_get_response(self, *, messages: list[Message], **_: object) -> Any:
        call = Content.from_function_call("c1", "add", arguments={"x": 1, "y": 2})
        said = Content.from_text("3") if any(message.role == "tool" for message in messages) else call

        async def response() -> ChatResponse:
            return ChatResponse(messages=[Message("assistant", [said])])

        return response()


@tool(approval_mode="never_require")
async def add(x: int, y: int) -> int:
    """Add."""
    return x + y


async def timed(agent: Agent) -> float:
    """Return the seconds of one run."""
    start = time.perf_counter()
    await agent.run("go")
    return time.perf_counter() - start


async def measured() -> tuple[float, float]:
    """Return the median seconds of a bare and of a guarded run."""
    seconds: tuple[list[float], list[float]] = ([], [])
    with tempfile.TemporaryDirectory() as folder, ai.Enforcer.open(folder) as enforcer:
        guard = AgentIdentityMiddleware(enforcer)
        agents = Agent(client=Client(), tools=[add]), Agent(client=Client(), tools=[add], middleware=[guard])
        who = {"principal": ai.Human("alice@example.com"), "agent": ai.Agent("clerk", owner="fin@example.com")}
        with enforcer.task("add", scope=ai.Scope("add"), **who):
            for _ in range(RUNS):
                for which in (0, 1):
                    seconds[which].append(await timed(agents[which]))
                    await asyncio.sleep(PAUSE)
    return median(seconds[0]), median(seconds[1])


def main() -> None:
    """Print the name, the microseconds of both, and their ratio."""
    bare, guarded = asyncio.run(measured())
    print(f"agent_framework {bare * 1e6:.0f} {guarded * 1e6:.0f} {guarded / bare:.2f}")


if __name__ == "__main__":
    main()
