"""Cost of a guarded call in the OpenAI Agents SDK: a turn with one tool call, bare and guarded, paced and alternating.

Run as ``python benchmarks/frameworks/openai_agents.py [ROUNDS]``; prints ``name bare_us guarded_us ratio``.
"""

import asyncio
import gc
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from agents import Agent, Runner, function_tool, set_tracing_disabled
from agents.testing import ScriptedModel, assistant_message, function_call

import agent_identity as ai
from agent_identity.integrations.frameworks.openai_agents import protect

PAUSE = 0.005
WARM = 50


def agent_of() -> Agent[Any]:
    """Return an agent with one tool."""

    @function_tool
    async def read_invoice(invoice_id: str) -> str:
        return invoice_id

    return Agent(name="clerk", tools=[read_invoice])


def scripted(number: int) -> ScriptedModel:
    """Return a model that makes one call and ends."""
    turn = [function_call("read_invoice", {"invoice_id": "INV-42"}, call_id=f"call-{number}")]
    return ScriptedModel([turn, [assistant_message("done")]])


async def timed(agent: Agent[Any], number: int) -> float:
    """Return the microseconds of one run: two turns of the model, one call."""
    agent.model = scripted(number)
    await asyncio.sleep(PAUSE)
    start = time.perf_counter()
    await Runner.run(agent, "INV-42")
    return (time.perf_counter() - start) * 1e6


async def measure(enforcer: ai.Enforcer, rounds: int) -> tuple[float, float]:
    """Return the medians of bare and guarded runs."""
    bare, guarded = agent_of(), protect(agent_of(), enforcer)
    took: dict[str, list[float]] = {"bare": [], "guarded": []}
    for number in range(rounds + WARM):
        for name, agent in (("bare", bare), ("guarded", guarded)):
            elapsed = await timed(agent, number)
            if number >= WARM:
                took[name].append(elapsed)
    return statistics.median(took["bare"]), statistics.median(took["guarded"])


def main(rounds: int = 400) -> None:
    """Print the medians and their ratio."""
    set_tracing_disabled(True)
    who = {"principal": ai.Human("alice@example.com"), "agent": ai.Agent("clerk", owner="fin@example.com")}
    gc.freeze()
    with tempfile.TemporaryDirectory() as folder, ai.Enforcer.open(Path(folder) / "evidence") as enforcer:
        scope = ai.Scope("read_invoice", invoice_id="INV-42")
        with enforcer.task("measure", scope=scope, **who):
            bare, guarded = asyncio.run(measure(enforcer, rounds))
    print(f"openai-agents {bare:.0f} {guarded:.0f} {guarded / bare:.2f}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
