"""Cost of a guarded tool call in Strands Agents: one run with one call, bare and guarded, paced and alternating.

Run: python -m benchmarks.frameworks.strands [RUNS]
"""

import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncGenerator

from strands import Agent, tool
from strands.hooks import HookProvider
from strands.models import Model
from strands.types.content import Messages

import agent_identity as ai
from agent_identity.integrations.frameworks.strands import AgentIdentityHooks

PAUSE = 0.005


class Scripted(Model):
    """Asks for one call of the tool, then ends."""

    def update_config(self, **model_config: object) -> None:
        """Change nothing."""

    def get_config(self) -> dict[str, object]:
        """Return no configuration."""
        return {}

    def structured_output(self, *args: object, **kwargs: object) -> AsyncGenerator[object]:
        """Refuse: nobody asks for it here."""
        raise NotImplementedError

    async def stream(self, messages: Messages, *_: object, **__: object) -> AsyncGenerator[object]:
        """Yield a call after a text of the user, and a text after a result."""
        asked = "text" in messages[-1]["content"][0]
        yield {"messageStart": {"role": "assistant"}}
        yield {"contentBlockStart": {"start": {"toolUse": {"name": "read", "toolUseId": "c"}} if asked else {}}}
        yield {"contentBlockDelta": {"delta": {"toolUse": {"input": '{"x": 1}'}} if asked else {"text": "done"}}}
        yield {"contentBlockStop": {}}
        yield {"messageStop": {"stopReason": "tool_use" if asked else "end_turn"}}


@tool
async def read(x: int) -> str:
    """Read."""
    return f"{x}"


def agent(*hooks: HookProvider) -> Agent:
    """Return an agent with one tool."""
    return Agent(model=Scripted(), tools=[read], hooks=list(hooks), callback_handler=None)


async def measured(bare: Agent, guarded: Agent, runs: int) -> tuple[float, float]:
    """Return the medians in microseconds."""
    times: dict[Agent, list[float]] = {bare: [], guarded: []}
    for number in range(runs + 20):
        for one in (bare, guarded):
            one.messages.clear()
            await asyncio.sleep(PAUSE)
            begun = time.perf_counter()
            await one.invoke_async("go")
            if number >= 20:
                times[one].append(time.perf_counter() - begun)
    return statistics.median(times[bare]) * 1e6, statistics.median(times[guarded]) * 1e6


def main(runs: int = 300) -> None:
    """Print one line: name, medians of the bare and the guarded run in microseconds, and their ratio."""
    with tempfile.TemporaryDirectory() as folder, ai.Enforcer.open(folder) as enforcer:
        who = {"principal": ai.Human("alice@example.com"), "agent": ai.Agent("clerk", owner="fin@example.com")}
        with enforcer.task("read", scope=ai.Scope("read"), **who):  # type: ignore[arg-type]
            bare, guarded = asyncio.run(measured(agent(), agent(AgentIdentityHooks(enforcer)), runs))
    print(f"strands {bare:.0f} {guarded:.0f} {guarded / bare:.2f}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
