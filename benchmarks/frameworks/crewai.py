"""Cost of a guarded tool call in CrewAI: one task with one call, bare and guarded, paced and alternating.

Run: CREWAI_DISABLE_TELEMETRY=true python -m benchmarks.frameworks.crewai [RUNS]
"""

import statistics
import sys
import tempfile
import time

from crewai import Agent, Task
from crewai.llms.base_llm import BaseLLM
from crewai.tools import tool

import agent_identity as ai
from agent_identity.integrations.frameworks.crewai import protect

PAUSE = 0.005


class Scripted(BaseLLM):
    """Asks for one call of the tool, then ends."""

    def supports_function_calling(self) -> bool:
        """Return that calls are native."""
        return True

    def call(self, messages: list[dict[str, object]], *_: object, **__: object) -> object:
        """Return a call, and a text after its result."""
        if any(message["role"] == "tool" for message in messages):
            return "done"
        return [{"id": "c", "type": "function", "function": {"name": "read", "arguments": '{"x": 1}'}}]


def agent(number: int) -> Agent:
    """Return an agent with one tool."""

    @tool
    def read(x: int) -> str:
        """Read."""
        return f"{x}"

    return Agent(role=f"r{number}", goal="g", backstory="b", llm=Scripted(model="scripted"), tools=[read])


def run(one: Agent) -> float:
    """Return the seconds that one task takes."""
    job = Task(description="d", expected_output="e", agent=one)
    time.sleep(PAUSE)
    begun = time.perf_counter()
    one.execute_task(job)
    return time.perf_counter() - begun


def main(runs: int = 100) -> None:
    """Print one line: name, medians of the bare and the guarded run in microseconds, and their ratio."""
    with tempfile.TemporaryDirectory() as folder, ai.Enforcer.open(folder) as enforcer:
        who = {"principal": ai.Human("alice@example.com"), "agent": ai.Agent("clerk", owner="fin@example.com")}
        plain, guarded = agent(0), agent(1)
        protect(guarded.tools, enforcer)
        with enforcer.task("read", scope=ai.Scope("read"), **who):  # type: ignore[arg-type]
            pairs = [(run(plain), run(guarded)) for _ in range(runs + 5)][5:]
    bare, ours = (statistics.median(times) * 1e6 for times in zip(*pairs, strict=True))
    print(f"crewai {bare:.0f} {ours:.0f} {ours / bare:.2f}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
