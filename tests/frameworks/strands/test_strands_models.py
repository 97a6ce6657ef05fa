"""Prompts and answers of models in Strands: inspected before the model or anybody else reads them."""

from typing import Any

import pytest
from strands import tool
from strands_doubles import HELPER, ScriptedModel, made, outcomes, task, use, verified

from agent_identity import Effect, Rule, RuleSet, Scope
from agent_identity.constraints import Contains
from agent_identity.inspection import PersonalData
from agent_identity.integrations.frameworks.strands import AgentIdentityHooks
from agent_identity.policy import Obligation
from agent_identity.testing import Rehearse

MAIL, GONE = "bob@example.com", "[redacted:pii.email]"
REDACTING = RuleSet(
    Rule(Effect.ALLOW, when={"tool.kind": "model"}, obligations=[Obligation("redact", "pii.email")], id="clean"),
    Rule(Effect.ALLOW, when={"findings.stage": "result"}, obligations=[Obligation("redact")], id="results"),
)
BLOCKING = RuleSet(Rule(Effect.BLOCK, when={"findings.categories": Contains("pii.email")}, reason="mail", id="no"))


@tool
def read(invoice: str) -> str:
    """Read an invoice."""
    return f"{invoice} is open"


async def said(agent: Any, prompt: str) -> str:
    """Return everything that the consumer of a stream gets, but what it sent itself."""
    return repr([event async for event in agent.stream_async(prompt) if "init_event_loop" not in event])


async def test_a_prompt_is_redacted_before_the_model_reads_it(rehearse: Rehearse) -> None:
    """The model gets the message without what the policy removes; the conversation of the agent keeps it."""
    world = rehearse(policy=REDACTING, inspectors=[PersonalData("email")])
    agent = made(AgentIdentityHooks(world.enforcer, model="chat"), [read], "hello", system_prompt=f"You serve {MAIL}")
    model = agent.model
    with task(world, "chat"):
        await said(agent, f"I am {MAIL}")
    assert GONE in repr(model.prompts)
    assert MAIL not in repr(model.prompts)
    ((call),) = world.records.calls("chat")
    assert (call.outcome, call.record.action.kind) == ("success", "model")
    verified(world)


@pytest.mark.parametrize("policy", [REDACTING, BLOCKING])
async def test_nothing_of_a_withheld_answer_is_streamed(rehearse: Rehearse, policy: Any) -> None:
    """An answer is held back until inspectors have read it, and leaves redacted or not at all."""
    world = rehearse(policy=policy, inspectors=[PersonalData("email")])
    agent = made(AgentIdentityHooks(world.enforcer, model="chat"), [read], f"write to {MAIL} now")
    with task(world, "chat"):
        streamed = await said(agent, "go")
    assert MAIL not in streamed
    assert MAIL not in repr(agent.messages)
    text = agent.messages[-1]["content"][0]["text"]
    assert text.startswith("refused: content_blocked (reference ") if policy is BLOCKING else GONE in text
    verified(world)


async def test_calls_in_an_answer_survive_its_redaction(rehearse: Rehearse) -> None:
    """A redacted answer still calls its tools."""

    class Both(ScriptedModel):
        """Says something and calls a tool."""

        async def stream(self, *args: Any, **kwargs: Any) -> Any:
            first = not self.prompts
            async for chunk in super().stream(*args, **kwargs):
                yield chunk
                if first and "messageStart" in chunk:
                    yield {"contentBlockDelta": {"delta": {"text": f"asking {MAIL}"}}}
                    yield {"contentBlockStop": {}}

    world = rehearse(policy=REDACTING, inspectors=[PersonalData("email")])
    agent = made(AgentIdentityHooks(world.enforcer, model="chat"), [read], model=Both(use("read", invoice="A"), "done"))
    with task(world, "chat", "read"):
        await said(agent, "go")
    assert MAIL not in repr(agent.messages)
    assert outcomes(world) == ["success"] * 3
    assert "asking [redacted" in repr(agent.messages[1])
    verified(world)


async def test_without_inspectors_answers_are_streamed_and_recorded(rehearse: Rehearse) -> None:
    """Without anybody to read it an answer flows, and its kind says so."""
    world = rehearse()
    agent = made(AgentIdentityHooks(world.enforcer, model="chat"), [read], "one two three")
    with task(world, "chat"):
        words = [event["data"] async for event in agent.stream_async("go") if "data" in event]
    assert words == ["one ", "two ", "three "]
    ((call),) = world.records.calls("chat")
    assert (call.outcome, call.record.action.kind) == ("success", "streamed_model")
    verified(world)


async def test_a_model_that_the_scope_does_not_name_is_not_asked(rehearse: Rehearse) -> None:
    """A refused call of a model is answered in its place, and the model never hears of it."""
    world = rehearse()
    agent = made(AgentIdentityHooks(world.enforcer, model="chat"), [read], "hello")
    model = agent.model
    with task(world, "read"):
        await said(agent, "go")
    assert model.prompts == []
    assert agent.messages[-1]["content"][0]["text"].startswith("refused: tool_not_granted (reference ")
    verified(world)


async def test_errors_of_a_model_are_its_own(rehearse: Rehearse) -> None:
    """An error of the model reaches the caller as ever, and is on record."""

    class Broken(ScriptedModel):
        """Fails."""

        async def stream(self, *args: Any, **kwargs: Any) -> Any:
            raise ConnectionError("down")
            yield

    world = rehearse()
    agent = made(AgentIdentityHooks(world.enforcer, model="chat"), [read], model=Broken())
    with task(world, "chat"), pytest.raises(ConnectionError):
        await said(agent, "go")
    assert outcomes(world) == ["error"]
    verified(world)


async def test_models_are_asked_by_the_agent_that_acts(rehearse: Rehearse) -> None:
    """The model call of a named agent has it in its chain; late hooks guard the model as well."""
    world = rehearse()
    hooks = AgentIdentityHooks(world.enforcer, model="chat", agents={"helper": HELPER})
    agent = made(None, [read], "hello", name="helper")
    agent.hooks.add_hook(hooks)
    with task(world, scope=Scope("chat")):
        await said(agent, "go")
    assert [(call.tool, call.agents) for call in world.records.calls()] == [("chat", ("clerk", "helper"))]
    verified(world)


def test_a_name_unfit_for_records_is_refused_at_once(rehearse: Rehearse) -> None:
    """The name of model calls is checked where the hooks are made."""
    with pytest.raises(ValueError, match="name"):
        AgentIdentityHooks(rehearse().enforcer, model="")
