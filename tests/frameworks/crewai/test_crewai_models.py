"""Prompts and answers of models in CrewAI: inspected before the model or the crew reads them."""

from typing import Any

import pytest
from crewai.llms.base_llm import LLMCallBlockedError
from crewai.tools import tool
from crewai_doubles import HELPER, crew_of, member, outcomes, scripted, task, verified

from agent_identity import Effect, Rule, RuleSet
from agent_identity.inspection import PersonalData
from agent_identity.integrations.frameworks.crewai import protect
from agent_identity.policy import Obligation
from agent_identity.testing import Rehearse

MAIL, GONE = "bob@example.com", "[redacted:pii.email]"
REDACTING = RuleSet(
    Rule(Effect.ALLOW, when={"tool.kind": "model"}, obligations=[Obligation("redact", "pii.email")], id="clean"),
    Rule(Effect.ALLOW, when={"findings.stage": "result"}, obligations=[Obligation("redact")], id="results"),
)
BLOCKING = RuleSet(Rule(Effect.BLOCK, when={"findings.stage": "result"}, reason="mail", id="no"))


@tool("read")
def read(invoice: str) -> str:
    """Read an invoice."""
    return f"{invoice} is open"


@pytest.mark.parametrize("native", [True, False])
def test_prompts_and_answers_are_redacted(rehearse: Rehearse, native: bool) -> None:
    """The model gets the prompt without what the policy removes, and the crew the answer likewise."""
    world = rehearse(policy=REDACTING, inspectors=[PersonalData("email")])
    llm = scripted(f"write to {MAIL} now", native=native)
    crew = crew_of(member(llm, []))
    crew.tasks[0].description = f"I am {MAIL}"
    protect(crew, world.enforcer, model="chat")
    with task(world, "chat"):
        answer = str(crew.kickoff())
    assert MAIL not in repr(llm.prompts)
    assert GONE in repr(llm.prompts)
    assert (MAIL in answer, GONE in answer) == (False, True)
    assert {call.record.action.kind for call in world.records.calls("chat")} == {"model"}
    verified(world)


async def test_calls_of_tools_pass_in_asynchronous_runs(rehearse: Rehearse) -> None:
    """An answer with calls reaches the crew as it is, and the chain names the agent that asks."""
    world = rehearse()
    llm = scripted([("read", {"invoice": "A"})], "done")
    crew = protect(crew_of(member(llm, [read], role="helper")), world.enforcer, model="chat", agents={"helper": HELPER})
    with task(world, "chat", "read"):
        assert str(await crew.akickoff()) == "done"
    assert {call.agents for call in world.records.calls()} == {("clerk", "helper")}
    assert set(outcomes(world)) == {"success"}
    verified(world)


@pytest.mark.parametrize("scope", ["chat", "other"])
def test_a_refused_call_of_a_model_is_blocked_as_by_a_hook(rehearse: Rehearse, scope: str) -> None:
    """CrewAI gets its own error for blocked models; out of scope the model is not asked at all."""
    world = rehearse(policy=BLOCKING, inspectors=[PersonalData("email")])
    llm = scripted(*[f"write to {MAIL}"] * 9)
    crew = protect(crew_of(member(llm, [])), world.enforcer, model="chat")
    with task(world, scope), pytest.raises(LLMCallBlockedError, match="refused: "):
        crew.kickoff()
    assert bool(llm.prompts) == (scope == "chat")
    assert set(outcomes(world)) == {"denied"} if scope == "other" else True
    verified(world)


def test_a_model_is_guarded_once(rehearse: Rehearse) -> None:
    """A model that two agents share gives one record for each call."""
    world = rehearse()
    llm: Any = scripted("done")
    crew = crew_of(member(llm, []), member(llm, [], role="helper"))
    protect(protect(crew, world.enforcer, model="chat"), world.enforcer, model="chat")
    with task(world, "chat"):
        crew.kickoff()
    assert outcomes(world) == ["success"] * len(llm.prompts)


def test_a_name_unfit_for_records_is_refused_at_once(rehearse: Rehearse) -> None:
    """The name of model calls is checked where the crew is protected."""
    crew = crew_of(member(scripted("done"), []))
    with pytest.raises(ValueError, match="name"):
        protect(crew, rehearse().enforcer, model="")
