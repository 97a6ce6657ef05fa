"""A scripted model for CrewAI, and the people of the tests."""

import itertools
import json
import os
from pathlib import Path
from typing import Any

os.environ["CREWAI_DISABLE_TELEMETRY"] = "true"

from crewai import Agent as CrewAgent
from crewai import Crew, Task
from crewai.llms.base_llm import BaseLLM
from pydantic import PrivateAttr

from agent_identity import Agent, Human, Scope, Verifier
from agent_identity.testing import Rehearsal

ALICE, BOB = Human("alice@example.com"), Human("bob@example.com")
CLERK = Agent("clerk", owner="finance@example.com")
HELPER = Agent("helper", owner="finance@example.com")
WHO: dict[str, Any] = {"principal": ALICE, "agent": CLERK}

Call = tuple[str, dict[str, Any]]
_NUMBERS = itertools.count()


class ScriptedLLM(BaseLLM):
    """Answers from a script: a text, or calls of tools; keeps what it was asked."""

    native: bool = True
    _script: list[str | list[Call]] = PrivateAttr(default_factory=list)
    _prompts: list[Any] = PrivateAttr(default_factory=list)

    @property
    def prompts(self) -> list[Any]:
        """What the model was asked."""
        return self._prompts

    def supports_function_calling(self) -> bool:
        """Return whether calls are native."""
        return self.native

    def call(self, messages: Any, tools: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Return the next step."""
        self._prompts.append(json.loads(json.dumps(messages, default=str)))
        step = self._script.pop(0) if self._script else "done"
        if isinstance(step, str):
            return step if self.native else f"Thought: I know.\nFinal Answer: {step}"
        if not self.native:
            ((name, given),) = step
            return f"Thought: I call.\nAction: {name}\nAction Input: {json.dumps(given)}"
        return [
            {"id": f"c{number}", "type": "function", "function": {"name": name, "arguments": json.dumps(given)}}
            for number, (name, given) in enumerate(step)
        ]

    async def acall(self, *args: Any, **kwargs: Any) -> Any:
        """Do what ``call`` does."""
        return self.call(*args, **kwargs)


def scripted(*script: str | list[Call], native: bool = True) -> ScriptedLLM:
    """Return a model with a script."""
    llm = ScriptedLLM(model="scripted-1", native=native)
    llm._script = list(script)
    return llm


def member(llm: BaseLLM, tools: list[Any], role: str = "clerk", **options: Any) -> CrewAgent:
    """Return an agent of CrewAI; role, goal and backstory make up who it is, and each test has agents of its own."""
    return CrewAgent(
        role=role, goal="work", backstory=f"number {next(_NUMBERS)}", llm=llm, tools=tools, verbose=False, **options
    )


def crew_of(*members: CrewAgent, **options: Any) -> Crew:
    """Return a crew with one task for its first member."""
    job = Task(description="do it", expected_output="a word", agent=members[0])
    return Crew(agents=list(members), tasks=[job], verbose=False, **options)


def answers(llm: ScriptedLLM) -> list[str]:
    """Return what the tools answered, as the model read it at last."""
    last = llm.prompts[-1]
    if llm.native:
        return [str(message["content"]) for message in last if message.get("role") == "tool"]
    return [repr(last)]


def outcomes(world: Rehearsal, tool: str | None = None) -> list[str]:
    """Return the outcomes on record."""
    return [call.outcome for call in world.records.calls(tool)]


def verified(world: Rehearsal) -> None:
    """Close the enforcer, and prove that its directory verifies."""
    world.close()
    report = Verifier().ledger(Path(world.directory))
    assert report.verdict == "verified", report.findings


def task(world: Rehearsal, *tools: str, **options: Any) -> Any:
    """Open a task of alice for the clerk."""
    scope = options.pop("scope", None) or Scope(dict.fromkeys(tools))
    return world.enforcer.task("work", scope=scope, **{**WHO, **options})
