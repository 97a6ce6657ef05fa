"""A scripted model for Strands, and the people of the tests."""

import copy
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Any

from strands import Agent as StrandsAgent
from strands.models import Model

from agent_identity import Agent, Human, Scope, Verifier
from agent_identity.testing import Rehearsal

ALICE, BOB = Human("alice@example.com"), Human("bob@example.com")
CLERK = Agent("clerk", owner="finance@example.com")
HELPER = Agent("helper", owner="finance@example.com")
WHO: dict[str, Any] = {"principal": ALICE, "agent": CLERK}

Step = str | dict[str, Any] | list[dict[str, Any]]


def use(tool: str, /, call_id: str = "", **given: Any) -> dict[str, Any]:
    """Return the wish of a model to call a tool."""
    return {"name": tool, "toolUseId": call_id or f"id-{tool}", "input": given}


class ScriptedModel(Model):
    """Answers from a script: a text, or calls of tools; keeps what it was asked."""

    def __init__(self, *script: Step) -> None:
        self.script = list(script)
        self.prompts: list[Any] = []

    def update_config(self, **model_config: Any) -> None:
        """Do nothing: there is no configuration."""

    def get_config(self) -> Any:
        """Return the name of the model."""
        return {"model_id": "scripted-1"}

    def structured_output(self, *args: Any, **kwargs: Any) -> Any:
        """Refuse: no test asks for it."""
        raise NotImplementedError

    async def stream(
        self, messages: Any, tool_specs: Any = None, system_prompt: Any = None, **kwargs: Any
    ) -> AsyncGenerator[Any, None]:
        """Yield the chunks of the next step."""
        self.prompts.append(copy.deepcopy(messages))
        step = self.script.pop(0) if self.script else "done"
        calls = [] if isinstance(step, str) else [step] if isinstance(step, dict) else step
        yield {"messageStart": {"role": "assistant"}}
        if isinstance(step, str):
            yield {"contentBlockStart": {"start": {}}}
            for word in step.split(" "):
                yield {"contentBlockDelta": {"delta": {"text": f"{word} "}}}
            yield {"contentBlockStop": {}}
        for call in calls:
            import json

            yield {"contentBlockStart": {"start": {"toolUse": {"name": call["name"], "toolUseId": call["toolUseId"]}}}}
            yield {"contentBlockDelta": {"delta": {"toolUse": {"input": json.dumps(call["input"])}}}}
            yield {"contentBlockStop": {}}
        yield {"messageStop": {"stopReason": "tool_use" if calls else "end_turn"}}
        yield {
            "metadata": {"usage": {"inputTokens": 1, "outputTokens": 1, "totalTokens": 2}, "metrics": {"latencyMs": 1}}
        }


def made(hooks: Any, tools: Sequence[Any], *script: Step, **options: Any) -> StrandsAgent:
    """Return an agent of Strands with a scripted model."""
    options.setdefault("name", "clerk")
    return StrandsAgent(
        model=options.pop("model", None) or ScriptedModel(*script),
        tools=list(tools),
        hooks=[*([hooks] if hooks is not None else []), *options.pop("more", ())],
        callback_handler=None,
        **options,
    )


def results(agent: StrandsAgent) -> list[tuple[str, str]]:
    """Return status and text of each result of a tool in the conversation."""
    found = []
    for message in agent.messages:
        for block in message["content"]:
            if "toolResult" in block:
                result = block["toolResult"]
                found.append((result["status"], str(result["content"][0].get("text", result["content"][0]))))
    return found


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
