"""Prompts and answers of models: judged before they are sent, and before anybody reads them."""

from typing import Any

import pytest
from agent_framework import ChatResponse, ChatResponseUpdate, Content, Message, ResponseStream

from agent_identity import Effect, Rule, RuleSet
from agent_identity.constraints import Contains
from agent_identity.inspection import PersonalData
from agent_identity.policy import Obligation

MAIL = "mail bob@example.com now"
REDACTING = RuleSet(
    Rule(Effect.ALLOW, when={"tool.kind": "model"}, obligations=[Obligation("redact", "pii.email")], id="clean")
)


def blocking(stage: str) -> dict[str, Any]:
    """Return options under which a mail address in prompts or answers is blocked."""
    rule = Rule(Effect.BLOCK, when={"findings.stage": stage, "findings.categories": Contains("pii.email")}, id="no")
    return {"policy": RuleSet(rule), "inspectors": [PersonalData("email")]}


async def heard(maf: Any, agent: Any, message: str = "go", scope: str = "model", *, stream: bool = False) -> str:
    """Return what the application hears, part by part if it streams."""
    with maf.task(scope):
        if not stream:
            return str((await maf.respond(agent, message)).text)
        return "".join([update.text async for update in agent.run(message, stream=True)])


@pytest.mark.parametrize("stream", [False, True])
async def test_model_calls_are_on_record(maf: Any, stream: bool) -> None:
    """The answer is delivered as it is, and its call has a record."""
    maf.open(options={"model": "model"})
    assert await heard(maf, maf.agent(["hello"]), stream=stream) == "hello"
    (call,) = maf.world.records.calls("model")
    assert (call.outcome, call.record.action.kind) == ("success", "model")


@pytest.mark.parametrize("stream", [False, True])
async def test_a_refused_prompt_is_not_sent(maf: Any, stream: bool) -> None:
    """The model is not called, and the refusal stands in the place of its answer."""
    maf.open(options={"model": "model"}, **blocking("call"))
    agent = maf.agent(["hello"])
    assert (await heard(maf, agent, MAIL, stream=stream)).startswith("refused: ")
    assert not agent.client.asked


@pytest.mark.parametrize("stream", [False, True])
async def test_nothing_of_a_withheld_answer_gets_out(maf: Any, stream: bool) -> None:
    """The text of a stream is held back until all of it was inspected."""
    maf.open(options={"model": "model"}, **blocking("result"))
    said = await heard(maf, maf.agent([MAIL]), stream=stream)
    assert said.startswith("refused: ")
    assert "bob" not in said


@pytest.mark.parametrize("stream", [False, True])
async def test_prompts_and_answers_are_redacted(maf: Any, stream: bool) -> None:
    """The model gets the redacted prompt, and the application the redacted answer."""
    maf.open(options={"model": "model"}, policy=REDACTING, inspectors=[PersonalData("email")])
    agent = maf.agent([MAIL])
    assert await heard(maf, agent, MAIL, stream=stream) == "mail [redacted:pii.email] now"
    (messages,) = agent.client.asked
    assert [message.text for message in messages] == ["mail [redacted:pii.email] now"]


@pytest.mark.parametrize("stream", [False, True])
async def test_the_error_of_a_model_reaches_the_application(maf: Any, stream: bool) -> None:
    """The run raises what the model raised; it is an error on record."""
    maf.open(options={"model": "model"})
    with pytest.raises(ConnectionError):
        await heard(maf, maf.agent([ConnectionError("down")]), stream=stream)
    assert [call[1] for call in maf.calls("model")] == ["error"]


async def test_outside_the_scope_no_model_is_asked(maf: Any) -> None:
    """A scope that does not name the model refuses it, and the run ends with the refusal."""
    maf.open(options={"model": "model"})
    agent = maf.agent(["hello"])
    assert (await heard(maf, agent, scope="pay")).startswith("refused: tool_not_granted")
    assert not agent.client.asked


async def test_calls_of_tools_in_answers_still_run(maf: Any) -> None:
    """A stream that is delivered whole has its calls as well."""
    maf.open(options={"model": "model"}, policy=REDACTING, inspectors=[PersonalData("email")])

    def look(what: str) -> str:
        """Look something up."""
        return what

    agent = maf.agent([[maf.call("look", what="x")]], [look])
    assert await heard(maf, agent, scope="model look", stream=True) == "done"
    assert [call[:2] for call in maf.calls()] == [("model", "success"), ("look", "success"), ("model", "success")]


async def test_what_comes_with_an_answer_is_kept_in_a_held_stream(maf: Any) -> None:
    """The ids and the usage of an answer reach who consumes its stream."""
    maf.open(options={"model": "model"})
    agent = maf.agent([])
    usage = {"input_token_count": 3, "output_token_count": 4, "total_token_count": 7}

    def answered(**_: Any) -> Any:
        async def updates() -> Any:
            yield ChatResponseUpdate(
                contents=[Content.from_text("hello")], role="assistant", response_id="r1", conversation_id="t1"
            )
            yield ChatResponseUpdate(contents=[Content.from_usage(usage)], role="assistant", response_id="r1")

        return ResponseStream(updates(), finalizer=ChatResponse.from_updates)

    agent.client._inner_get_response = answered
    with maf.task("model"):
        stream = agent.run("go", stream=True)
        parts = [update async for update in stream]
        response = await stream.get_final_response()
    assert response.text == "hello"
    assert response.usage_details["total_token_count"] == 7
    assert {part.response_id for part in parts if part.text} == {"r1"}


async def test_an_error_in_the_adapter_asks_no_model_and_ends_no_run(maf: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What fails in the guard is answered as a refusal without details."""

    def fail(*_: Any) -> Any:
        raise RuntimeError("a secret")

    maf.open(options={"model": "model"})
    monkeypatch.setattr("agent_identity.integrations.frameworks.agent_framework.middleware._plain", fail)
    agent = maf.agent(["hello"])
    said = await heard(maf, agent)
    assert said.startswith("refused: guard_failed")
    assert not agent.client.asked


async def test_a_redacted_answer_has_no_second_copy(maf: Any) -> None:
    """What the client keeps of the provider's own answer is not delivered beside the redacted one."""
    maf.open(options={"model": "model"}, policy=REDACTING, inspectors=[PersonalData("email")])
    agent = maf.agent([])

    async def response() -> Any:
        answer = [Message("assistant", [Content.from_text(MAIL)])]
        return ChatResponse(messages=answer, raw_representation={"text": MAIL}, additional_properties={"raw": MAIL})

    agent.client._inner_get_response = lambda **_: response()
    with maf.task("model"):
        heard_of = await maf.respond(agent)
    assert "[redacted:" in heard_of.text
    assert "bob" not in repr([heard_of.to_dict(), heard_of.raw_representation, heard_of.additional_properties])
