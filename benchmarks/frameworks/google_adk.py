"""The cost of a guarded tool call in Google ADK, paced: one run with one call, bare and guarded in turn.

python benchmarks/frameworks/google_adk.py
"""

import asyncio
import logging
import tempfile
import time
from collections.abc import AsyncGenerator
from statistics import median

from google.adk.agents import LlmAgent
from google.adk.apps import App
from google.adk.models import BaseLlm, LlmRequest, LlmResponse
from google.adk.plugins.base_plugin import BasePlugin
from google.adk.runners import InMemoryRunner
from google.genai import types

import agent_identity as ai
from agent_identity.integrations.frameworks.google_adk import AgentIdentityPlugin

RUNS = 300
PAUSE = 0.005
"""Seconds between two runs."""


class Model(BaseLlm):
    """Calls the tool once in each run."""

    model: str = "scripted"

    async def generate_content_async(
        self,
        llm_request: LlmRequest,
        stream: bool = False,  # noqa: FBT001, FBT002  As in the base class.
    ) -> AsyncGenerator[LlmResponse]:
        """Answer with a call, then with a text."""
        call = types.Part(function_call=types.FunctionCall(name="add", args={"x": 1, "y": 2}))
        part = types.Part(text="3") if llm_request.contents[-1].parts[0].function_response else call
        yield LlmResponse(content=types.Content(role="model", parts=[part]))


def add(x: int, y: int) -> int:
    """Add."""
    return x + y


async def timed(runner: InMemoryRunner, number: int) -> float:
    """Return the seconds of one run in a session of its own."""
    session = await runner.session_service.create_session(app_name="app", user_id="u", session_id=f"s{number}")
    message = types.UserContent("go")
    start = time.perf_counter()
    async for _ in runner.run_async(user_id="u", session_id=session.id, new_message=message):
        pass
    return time.perf_counter() - start


def runner(*plugins: BasePlugin) -> InMemoryRunner:
    """Return a runner of an app with one tool."""
    return InMemoryRunner(
        app=App(name="app", root_agent=LlmAgent(name="root", model=Model(), tools=[add]), plugins=[*plugins])
    )


async def measured() -> tuple[float, float]:
    """Return the median seconds of a bare and of a guarded run."""
    seconds: tuple[list[float], list[float]] = ([], [])
    with tempfile.TemporaryDirectory() as folder, ai.Enforcer.open(folder) as enforcer:
        runners = runner(), runner(AgentIdentityPlugin(enforcer))
        who = {"principal": ai.Human("alice@example.com"), "agent": ai.Agent("clerk", owner="fin@example.com")}
        with enforcer.task("add", scope=ai.Scope("add"), **who):
            for number in range(RUNS):
                for which in (0, 1):
                    seconds[which].append(await timed(runners[which], number))
                    await asyncio.sleep(PAUSE)
    return median(seconds[0]), median(seconds[1])


def main() -> None:
    """Print the name, the microseconds of both, and their ratio."""
    logging.disable(logging.WARNING)
    bare, guarded = asyncio.run(measured())
    print(f"google_adk {bare * 1e6:.0f} {guarded * 1e6:.0f} {guarded / bare:.2f}")


if __name__ == "__main__":
    main()
