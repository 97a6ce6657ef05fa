"""Prompts and answers of models: judged before they are sent, and before anybody reads them."""

from typing import Any

import pytest
from google.adk.agents import LlmAgent
from google.adk.agents.run_config import RunConfig, StreamingMode
from google.adk.models import BaseLlm, LLMRegistry, LlmResponse
from google.genai import types

from agent_identity import Effect, Rule, RuleSet
from agent_identity.constraints import Contains
from agent_identity.inspection import PersonalData
from agent_identity.policy import Obligation

SSE = {"run_config": RunConfig(streaming_mode=StreamingMode.SSE)}
MAIL = "mail bob@example.com now"


def blocking(stage: str) -> dict[str, Any]:
    """Return options under which a mail address in prompts or answers is blocked."""
    rule = Rule(Effect.BLOCK, when={"findings.stage": stage, "findings.categories": Contains("pii.email")}, id="no")
    return {"policy": RuleSet(rule), "inspectors": [PersonalData("email")]}


async def said(adk: Any, script: list[Any], message: str = "go", scope: str = "model", **options: Any) -> list[str]:
    """Return what the app hears of a model."""
    runner = adk.runner(adk.agent(script))
    with adk.task(scope):
        return adk.texts(await adk.events(runner, message, **options))


async def test_model_calls_are_on_record_and_streams_flow(adk: Any) -> None:
    """Without inspectors each part of an answer is delivered as it comes."""
    adk.open(plugin={"model": "model"})
    assert await said(adk, ["hello"]) == ["hello"]
    assert (await said(adk, ["hey"], **SSE, session="t"))[:3] == ["h", "e", "y"]
    calls = adk.world.records.calls("model")
    assert [(call.outcome, call.record.action.kind) for call in calls] == [
        ("success", "model"),
        ("success", "streamed_model"),
    ]


@pytest.mark.parametrize("options", [{}, SSE])
async def test_a_refused_prompt_is_not_sent(adk: Any, options: Any) -> None:
    """The model is not called, and the refusal stands in the place of its answer."""
    adk.open(plugin={"model": "model"}, **blocking("call"))
    root = adk.agent(["hello"])
    runner = adk.runner(root)
    with adk.task("model"):
        heard = adk.texts(await adk.events(runner, MAIL, **options))
    assert [text.partition(" ")[0] for text in heard] == ["refused:"]
    assert not root.model.asked


@pytest.mark.parametrize("options", [{}, SSE])
async def test_nothing_of_a_withheld_answer_gets_out(adk: Any, options: Any) -> None:
    """The text of a stream is held back until all of it was inspected."""
    adk.open(plugin={"model": "model"}, **blocking("result"))
    heard = await said(adk, [MAIL], **options)
    assert len(heard) == 1
    assert heard[0].startswith("refused:")
    assert "bob" not in heard[0]


@pytest.mark.parametrize("options", [{}, SSE])
async def test_an_answer_is_delivered_redacted(adk: Any, options: Any) -> None:
    """Whatever asks for the stream gets the redacted text, once."""
    rule = Rule(Effect.ALLOW, when={"tool.kind": "model"}, obligations=[Obligation("redact", "pii.email")], id="clean")
    adk.open(plugin={"model": "model"}, policy=RuleSet(rule), inspectors=[PersonalData("email")])
    heard = await said(adk, [MAIL], **options)
    assert len(heard) == 1
    assert "bob" not in heard[0]
    assert heard[0].startswith("mail ")


async def test_a_prompt_is_sent_redacted(adk: Any) -> None:
    """The model gets the redacted messages, and the session keeps what the person wrote."""
    rule = Rule(Effect.ALLOW, when={"tool.kind": "model"}, obligations=[Obligation("redact", "pii.email")], id="clean")
    adk.open(plugin={"model": "model"}, policy=RuleSet(rule), inspectors=[PersonalData("email")])
    root = adk.agent(["hello"])
    with adk.task("model"):
        assert adk.texts(await adk.events(adk.runner(root), MAIL)) == ["hello"]
    (request,) = root.model.asked
    assert [part.text for content in request.contents for part in content.parts] == ["mail [redacted:pii.email] now"]


async def test_a_model_that_the_app_makes_for_each_request_is_guarded(adk: Any) -> None:
    """An agent may have the name of its model only."""

    class Named(BaseLlm):
        @classmethod
        def supported_models(cls) -> list[str]:
            """Return the pattern of its names."""
            return ["named-model"]

        async def generate_content_async(
            self,
            llm_request: Any,
            stream: bool = False,  # noqa: FBT002  As in the base class.
        ) -> Any:
            """Answer."""
            yield LlmResponse(content=types.Content(role="model", parts=[types.Part(text=MAIL)]))

    LLMRegistry.register(Named)
    adk.open(plugin={"model": "model"}, **blocking("result"))
    with adk.task("model"):
        (heard,) = adk.texts(await adk.events(adk.runner(LlmAgent(name="root", model="named-model"))))
    assert heard.startswith("refused: ")


async def test_a_model_that_a_callback_puts_in_is_guarded(adk: Any) -> None:
    """A model that a callback of the agent chooses after the plugin ran is guarded too."""
    root = adk.agent(["first"])
    other = adk.agent([MAIL]).model

    def choose(callback_context: Any, llm_request: Any) -> None:
        callback_context.get_invocation_context().agent.model = other

    root.before_model_callback = choose
    adk.open(plugin={"model": "model"}, **blocking("result"))
    with adk.task("model"):
        (heard,) = adk.texts(await adk.events(adk.runner(root)))
    assert (len(other.asked), heard[:9]) == (1, "refused: ")
    assert [outcome for _, outcome, _ in adk.calls("model")] == ["denied"]


async def test_the_error_of_a_model_reaches_the_app(adk: Any) -> None:
    """The app raises what the model raised; it is an error on record."""
    adk.open(plugin={"model": "model"})
    for options in ({}, {**SSE, "session": "t"}):
        with pytest.raises(ConnectionError):
            await said(adk, [ConnectionError("down")], **options)
    assert [call[1] for call in adk.calls("model")] == ["error", "error"]


async def test_outside_the_scope_no_model_is_asked(adk: Any) -> None:
    """A scope that does not name the model refuses it, and the run ends with the refusal."""
    adk.open(plugin={"model": "model"})
    (heard,) = await said(adk, ["hello"], scope="pay")
    assert heard.startswith("refused: tool_not_granted")


async def test_models_of_other_apps_are_left_alone(adk: Any) -> None:
    """A model that was guarded in one app is bare in an app without the plugin."""
    adk.open(plugin={"model": "model"})
    root = adk.agent(["hello"])
    with adk.task("model"):
        await adk.events(adk.runner(root))
        await adk.events(adk.runner(root, bare=True), session="t")
    assert len(adk.calls("model")) == 1
    assert type(root.model).__name__ == "Script"


async def test_an_error_in_the_adapter_asks_no_model_and_ends_no_run(adk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What fails in the guard is answered as a refusal without details."""

    def fail(*_: Any) -> Any:
        raise RuntimeError("a secret")

    adk.open(plugin={"model": "model"})
    monkeypatch.setattr("agent_identity.integrations.frameworks.google_adk.plugin._guarded_kind", fail)
    (heard,) = await said(adk, ["hello"])
    assert heard.startswith("refused: guard_failed")
    monkeypatch.undo()
    monkeypatch.setattr("agent_identity.integrations.frameworks.google_adk.plugin._named", fail)
    (heard,) = await said(adk, ["hello"], session="t")
    assert "hello" not in heard
    assert "secret" not in heard


async def test_a_redacted_answer_has_no_second_copy(adk: Any) -> None:
    """The tokens that a model gives beside its text are not delivered with the redacted one."""
    rule = Rule(Effect.ALLOW, when={"tool.kind": "model"}, obligations=[Obligation("redact", "pii.email")], id="clean")
    adk.open(plugin={"model": "model"}, policy=RuleSet(rule), inspectors=[PersonalData("email")])
    root = adk.agent([])

    class Telling(type(root.model)):  # type: ignore[misc]
        async def generate_content_async(self, llm_request: Any, stream: bool = False) -> Any:  # noqa: FBT002
            chosen = [types.LogprobsResultCandidate(token=token) for token in ("bob", "@", "example.com")]
            content = types.Content(role="model", parts=[types.Part(text=MAIL)])
            yield LlmResponse(content=content, logprobs_result=types.LogprobsResult(chosen_candidates=chosen))

    root.model = Telling(script=[], asked=[])
    with adk.task("model"):
        events = await adk.events(adk.runner(root))
    assert "[redacted:" in repr(events)
    assert "bob" not in repr(events)
