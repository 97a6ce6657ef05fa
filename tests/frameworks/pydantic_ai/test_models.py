"""Calls of models under guard: prompts inspected before they are sent, answers before anybody reads them."""

from typing import Any

import pytest
from pydantic_ai import Agent, UsageLimits
from pydantic_ai.capabilities import AbstractCapability
from pydantic_ai.exceptions import UserError
from pydantic_ai.messages import ModelResponse, TextPart
from pydantic_ai.models.function import FunctionModel

import agent_identity as ai
from agent_identity import Effect, Rule, RuleSet, records
from agent_identity.constraints import Contains
from agent_identity.errors import ConfigurationError
from agent_identity.inspection import PersonalData
from agent_identity.integrations.frameworks.pydantic_ai import AgentIdentity
from agent_identity.policy import Obligation

MAIL, GONE = "eve@example.com", "[redacted:pii.email]"
REDACTING = RuleSet(Rule(Effect.ALLOW, when={"tool.kind": "model"}, obligations=[Obligation("redact")], id="clean"))
BLOCKING = RuleSet(Rule(Effect.BLOCK, when={"findings.categories": Contains("pii.email")}, reason="no_mail", id="no"))
SCOPE = ai.Scope({"chat": {}, "read": {}, "pay": {}})

pytestmark = pytest.mark.skipif(
    not hasattr(AbstractCapability, "get_wrapper_model"), reason="this Pydantic AI has no strict place for models"
)


async def texts(agent: Agent[Any, Any], way: str, prompt: str) -> str:
    """Run an agent in one of three ways, and return all that a reader of the run sees of the answer."""
    if way == "run":
        return str((await agent.run(prompt)).output)
    if way == "stream":
        async with agent.run_stream(prompt) as result:
            return "|".join([text async for text in result.stream_text()])
    read = list[str]()
    async with agent.run_stream_events(prompt) as events:
        read.extend([repr(event) async for event in events])
    return "".join(read)


@pytest.mark.parametrize("way", ["run", "stream", "events"])
async def test_prompt_and_answer_are_redacted(open_office: Any, way: str) -> None:
    """Neither the model nor any reader of the run gets what has to be redacted."""
    office = open_office(policy=REDACTING, inspectors=[PersonalData("email")])
    agent = office.agent(f"write to {MAIL}", model="chat", instructions=f"I am {MAIL}")
    async with office.task(SCOPE):
        read = await texts(agent, way, f"who is {MAIL}?")
    assert MAIL not in repr(office.seen)
    assert f"who is {GONE}?" in repr(office.seen)
    assert (MAIL in read.replace(f"who is {MAIL}", ""), GONE in read) == (False, True)
    (call,) = office.world.records.calls("chat")
    assert (call.outcome, call.record.action.kind, call.record.decision.enforced) == ("success", "model", "modify")


@pytest.mark.parametrize("way", ["run", "stream", "events"])
async def test_a_blocked_prompt_is_not_sent(open_office: Any, way: str) -> None:
    """The refusal is the answer, and the model was not asked."""
    office = open_office(policy=BLOCKING, inspectors=[PersonalData("email")])
    async with office.task(SCOPE):
        read = await texts(office.agent("hello", model="chat"), way, f"who is {MAIL}?")
    assert office.seen == []
    assert "refused: policy_blocks" in read
    assert office.calls() == [("chat", "denied", "policy_blocks")]


@pytest.mark.parametrize("way", ["run", "stream", "events"])
async def test_a_blocked_answer_reaches_nobody(open_office: Any, way: str) -> None:
    """Not one letter of it leaves, streamed or not."""
    office = open_office(policy=BLOCKING, inspectors=[PersonalData("email")])
    async with office.task(SCOPE):
        read = await texts(office.agent(f"secret {MAIL}", model="chat"), way, "who?")
    assert len(office.seen) == 1
    assert ("secret" in read, "refused: " in read) == (False, True)


async def test_arguments_of_calls_are_not_changed(open_office: Any, make_call: Any) -> None:
    """An answer whose call would have to be changed is withheld, and no tool runs."""
    office = open_office(policy=REDACTING, inspectors=[PersonalData("email")])
    agent = office.agent([make_call("read", invoice=MAIL)], model="chat")
    async with office.task(SCOPE):
        result = await agent.run("go")
    assert office.ran == []
    assert result.output.startswith("refused: ")


async def test_a_scope_without_the_model_refuses_it(open_office: Any) -> None:
    """The name of the model's calls is in scopes like that of a tool."""
    office = open_office()
    async with office.task(ai.Scope("read")):
        result = await office.agent("hello", model="chat").run("go")
    assert (office.seen, result.output.startswith("refused: tool_not_granted")) == ([], True)


async def test_a_named_agent_asks_the_model_by_a_delegation(open_office: Any, make_call: Any) -> None:
    """Calls of model and tools have the same chain, streamed or not."""
    office = open_office()
    agent = office.agent([make_call("read", invoice="INV-1")], model="chat", agents={"clerk": office.researcher})
    async with office.task(SCOPE):
        await agent.run("go")
        await texts(agent, "stream", "go")
    assert {call.agents for call in office.world.records.calls()} == {("invoice-clerk", "researcher")}
    assert [name for name, _, _ in office.calls()] == ["chat", "read", "chat"] * 2


async def test_the_model_is_on_record(open_office: Any, tmp_path: Any) -> None:
    """Version 2 of the record names the model that was asked, and the one that answered."""
    office = open_office()
    with ai.Enforcer.open(tmp_path / "drafts") as enforcer:
        agent = office.agent("hello", guarded=False, capabilities=[AgentIdentity(enforcer, model="chat")])
        parties = {"principal": office.alice, "agent": office.clerk}
        async with enforcer.task("ask", scope=ai.Scope("chat"), **parties):
            await agent.run("go")
    found = list(records.read(tmp_path / "drafts"))
    named = [one.action.model.name for one in found if isinstance(one, records.Intent | records.Outcome)]
    assert len(named) == 2
    assert all(name.startswith("function:") for name in named)


async def test_an_error_of_the_model_is_raised_as_ever(open_office: Any) -> None:
    """It is the application's to handle, and it is recorded."""
    from pydantic_ai.models.function import FunctionModel

    office = open_office()

    def fail(messages: Any, info: Any) -> ModelResponse:
        raise ConnectionError("down")

    agent = Agent(FunctionModel(fail), capabilities=[AgentIdentity(office.enforcer, model="chat")])
    async with office.task(SCOPE):
        with pytest.raises(ConnectionError):
            await agent.run("go")
    assert office.calls() == [("chat", "error", "within_scope")]


async def test_a_model_that_another_capability_chooses_is_guarded_as_well(open_office: Any) -> None:
    """The guard is next to the model that gets the request, whoever chose it."""
    office = open_office()
    other = office.agent("from elsewhere").model

    class Chooses(AbstractCapability[Any]):
        async def before_model_request(self, ctx: Any, request_context: Any) -> Any:
            request_context.model = other
            return request_context

    agent = office.agent("unused", model="chat", capabilities=[Chooses()])
    async with office.task(SCOPE):
        assert (await agent.run("go")).output == "from elsewhere"
    assert office.calls() == [("chat", "success", "within_scope")]


async def test_nothing_sends_a_prompt_beside_the_guard(open_office: Any) -> None:
    """Counting tokens sends the prompt as well, and is refused."""
    office = open_office()
    agent = office.agent("hello", model="chat")
    async with office.task(SCOPE):
        with pytest.raises(UserError, match="before its inspection"):
            await agent.run("go", usage_limits=UsageLimits(count_tokens_before_request=True))
    assert office.seen == []


def test_a_name_unfit_for_records_is_refused_at_once(open_office: Any) -> None:
    """A mistake is told where the capability is made."""
    with pytest.raises((ValueError, ConfigurationError)):
        AgentIdentity(open_office().enforcer, model="a\x00b")


def test_an_answer_that_lost_a_part_is_withheld() -> None:
    """What a policy made of an answer must still be one."""
    from agent_identity.integrations.frameworks.pydantic_ai.capability import _revised_response

    with pytest.raises(ValueError, match="kind"):
        _revised_response(ModelResponse(parts=[TextPart("a")]), [{"parts": [], "kind": "nothing"}])


async def test_a_redacted_answer_has_no_second_copy(open_office: Any) -> None:
    """The tokens that a provider gives beside its text are not delivered with the redacted one."""
    office = open_office(policy=REDACTING, inspectors=[PersonalData("email")])
    agent = office.agent(model="chat")
    details = {"logprobs": [{"token": token} for token in ("eve", "@", "example.com")]}

    def told(*_: Any) -> ModelResponse:
        part = TextPart(f"write to {MAIL}", provider_details=dict(details))
        return ModelResponse(parts=[part], provider_details=dict(details))

    async with office.task(SCOPE):
        result = await agent.run("hello", model=FunctionModel(told))
    assert result.output == f"write to {GONE}"
    assert "eve" not in repr(result.all_messages())
