"""Model calls of the OpenAI Agents SDK under guard: prompts, answers, streams, and what nobody reads too early."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
from agents import (
    Agent,
    Model,
    ModelBehaviorError,
    ModelProvider,
    ModelResponse,
    ModelRetrySettings,
    ModelSettings,
    RunConfig,
    Runner,
    Usage,
    WebSearchTool,
)
from agents.testing import ScriptedModel, assistant_message
from frameworks.openai_agents.scripts import BOB, CLERK, SCOPE, WHO, Ran, agent_of, call, facts, outputs, run, verifies
from openai.types.responses import ResponseTextDeltaEvent
from openai.types.responses.response_output_text import Logprob
from pydantic import BaseModel

import agent_identity as ai
from agent_identity.errors import ConfigurationError
from agent_identity.inspection import PersonalData
from agent_identity.integrations.frameworks.openai_agents import protect, protect_model
from agent_identity.policy import Obligation
from agent_identity.testing import Rehearsal, Rehearse

BLOCKING = ai.RuleSet(ai.Rule(ai.Effect.BLOCK, tools="chat", when={"findings.count": 1}, reason="personal", id="keep"))
REDACTING = ai.RuleSet(
    ai.Rule(ai.Effect.ALLOW, when={"tool.kind": "model"}, obligations=[Obligation("redact", "pii.*")], id="clean")
)
SECRET = "I wrote to carol@example.org."


def saying(text: str) -> ScriptedModel:
    """Return a model that says one thing."""
    return ScriptedModel([[assistant_message(text)], [assistant_message(text)]])


async def texts(streamed: Any, seen: list[str] | None = None) -> str:
    """Return everything that a reader of a stream sees."""
    seen = [] if seen is None else seen
    async for event in streamed.stream_events():
        seen.append(repr(event))
    return "".join(seen)


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(("policy", "said"), [(BLOCKING, "refused: "), (REDACTING, "I wrote to [redacted:pii.email].")])
async def test_nobody_reads_an_answer_before_it_was_inspected(
    rehearse: Rehearse, policy: Any, said: str, streamed: bool
) -> None:
    """An answer with a finding is withheld or redacted, also for those who read the stream."""
    world = rehearse(policy=policy, inspectors=[PersonalData()])
    agent = Agent(name="invoice-clerk", model=protect_model(saying(SECRET), world.enforcer))
    with world.enforcer.task("talk", scope=SCOPE, **WHO):
        if streamed:
            result = Runner.run_streamed(agent, "hello")
            assert "carol" not in await texts(result)
        else:
            result = await Runner.run(agent, "hello")
    assert result.final_output.startswith(said)
    assert "carol" not in repr(result.to_input_list())
    assert [(one.tool, one.record.action.kind) for one in world.records.calls()] == [("chat", "model")]
    verifies(world)


async def test_prompts_are_inspected_and_redacted_before_they_are_sent(rehearse: Rehearse) -> None:
    """The model gets the redacted text; a blocked prompt reaches no model."""
    model = saying("ok")
    world = rehearse(policy=REDACTING, inspectors=[PersonalData()])
    agent = Agent(
        name="invoice-clerk", instructions="Ask dave@example.org.", model=protect_model(model, world.enforcer)
    )
    with world.enforcer.task("talk", scope=SCOPE, **WHO):
        await Runner.run(agent, [{"role": "user", "content": "I am carol@example.org"}])
    sent = model.calls[0]
    assert ("@" in repr(sent.input), "@" in str(sent.system_instructions)) == (False, False)
    assert "redacted" in repr(sent.input)
    strict, other = rehearse(policy=BLOCKING, inspectors=[PersonalData()]), saying("ok")
    agent = Agent(name="invoice-clerk", model=protect_model(other, strict.enforcer))
    with strict.enforcer.task("talk", scope=SCOPE, **WHO):
        result = await Runner.run(agent, "I am carol@example.org")
    assert (other.calls, result.final_output[:9]) == ((), "refused: ")
    strict.records.assert_denied(code="policy_blocks", tool="chat", count=1)


async def test_the_arguments_of_calls_in_an_answer_are_never_changed(rehearse: Rehearse) -> None:
    """A finding there withholds the whole answer, and no tool runs."""
    ran, world = Ran(), rehearse(policy=REDACTING, inspectors=[PersonalData()])
    agent = agent_of(ran.tools(), [call("look_up", question="carol@example.org")])
    protect_model(agent.model, world.enforcer)
    result = await run(world, protect(agent, world.enforcer))
    assert (ran, result.final_output[:9]) == ([], "refused: ")


async def test_a_model_call_beyond_the_scope_is_refused(world: Rehearsal) -> None:
    """Outside any task and beyond the scope the model is not called, and the refusal is the answer."""
    model = saying("ok")
    agent = Agent(name="invoice-clerk", model=protect_model(model, world.enforcer))
    assert (await Runner.run(agent, "hello")).final_output.startswith("refused: no_task")
    result = await run(world, agent, scope=ai.Scope("read_invoice"))
    assert result.final_output.startswith("refused: tool_not_granted")
    streamed = Runner.run_streamed(agent, "hello")
    assert "refused: no_task" in await texts(streamed)
    assert model.calls == ()


class Models(ModelProvider):
    """Gives models for names."""

    def __init__(self, *models: Model) -> None:
        self.models = list(models)

    def get_model(self, model_name: str | None) -> Model:
        """Return the only model."""
        return self.models[0]


async def test_a_provider_gives_guarded_models(world: Rehearsal) -> None:
    """Agents whose model is a name are covered through the configuration of the run."""
    agent = Agent(name="invoice-clerk", model="gpt")
    provider = Models(saying("ok"))
    assert protect_model(provider, world.enforcer) is provider
    for _ in range(2):
        result = await run(world, agent, run_config=RunConfig(model_provider=provider))
    assert (result.final_output, isinstance(provider, Models)) == ("ok", True)
    assert facts(world) == [("chat", "success", "within_scope")] * 2


async def test_streams_that_nobody_inspects_run_through(world: Rehearsal) -> None:
    """Deltas arrive as the model writes them, and the record says that the answer was not held back."""
    agent = Agent(name="invoice-clerk", model=protect_model(saying("some long answer"), world.enforcer))
    with world.enforcer.task("talk", scope=SCOPE, **WHO):
        streamed = Runner.run_streamed(agent, "hello")
        assert "some long answer" in await texts(streamed)
    assert streamed.final_output == "some long answer"
    assert [(one.outcome, one.record.action.kind) for one in world.records.calls()] == [("success", "streamed_model")]


async def test_a_model_that_fails_is_an_error_on_record(world: Rehearsal) -> None:
    """The exception of the model is that of the run, streamed or not."""
    agent = Agent(
        name="invoice-clerk", model=protect_model(ScriptedModel([OSError("x"), OSError("y")]), world.enforcer)
    )
    with world.enforcer.task("talk", scope=SCOPE, **WHO):
        with pytest.raises(OSError, match="x"):
            await Runner.run(agent, "hello")
        with pytest.raises(OSError, match="y"):
            await texts(Runner.run_streamed(agent, "hello"))
    assert [outcome for _, outcome, _ in facts(world)] == ["error", "error"]


async def test_a_model_is_guarded_once(world: Rehearsal) -> None:
    """Again has no effect, otherwise is refused, and what is no model is told."""
    model = protect_model(saying("ok"), world.enforcer)
    kind = type(model)
    assert (type(protect_model(model, world.enforcer)), kind.__name__) == (kind, "ScriptedModel")
    with pytest.raises(ConfigurationError, match="another enforcer"):
        protect_model(model, world.enforcer, name="talk")
    for wrong in (("gpt", world.enforcer), (saying("ok"), "enforcer")):
        with pytest.raises(TypeError):
            protect_model(*wrong)  # type: ignore[type-var, arg-type]


async def test_a_stream_runs_under_the_task_in_which_it_was_made(world: Rehearsal) -> None:
    """Made under alice and consumed under bob it runs as alice, and is refused once her task has ended."""
    ran = Ran()
    calls = [[call("read_invoice", f"call-{number}", invoice_id="INV-42")] for number in range(2)]
    agent = protect(agent_of(ran.tools(), *calls), world.enforcer)
    with world.enforcer.task("alice", scope=SCOPE, **WHO):
        streamed = Runner.run_streamed(agent, "INV-42")
        with world.enforcer.no_task():
            bobs = world.enforcer.task("bob", principal=BOB, agent=CLERK, scope=ai.Scope("look_up"))
            with bobs:
                await texts(streamed)
    assert [one.principal for one in world.records.calls()] == ["alice@example.com"] * 2
    late = protect(agent_of(ran.tools(), *calls), world.enforcer)
    with world.enforcer.task("alice", scope=SCOPE, **WHO):
        streamed = Runner.run_streamed(late, "INV-42")
    with world.enforcer.task("bob", principal=BOB, agent=CLERK, scope=SCOPE):
        await texts(streamed)
    assert len(ran) == 2
    assert [text[:9] for text in outputs(streamed)] == ["refused: "] * 2


async def test_a_stream_that_is_left_ends_its_call(world: Rehearsal) -> None:
    """A reader who goes away leaves no call open."""
    agent = Agent(name="invoice-clerk", model=protect_model(saying("some long answer"), world.enforcer))
    with world.enforcer.task("talk", scope=SCOPE, **WHO):
        streamed = Runner.run_streamed(agent, "hello")
        async for _ in streamed.stream_events():
            streamed.cancel()
            break
        for _ in range(10):
            await asyncio.sleep(0)
    assert len([one for one in world.records if type(one).__name__ == "Intent"]) == len(facts(world))


class Incomplete(Model):
    """A model that writes a text and does not come to an end, or waits in the middle of it."""

    def __init__(self, text: str, waits: asyncio.Event | None = None) -> None:
        self.text = text
        self.waits = waits

    async def get_response(self, *_args: Any, **_kwargs: Any) -> ModelResponse:
        """Answer with nothing."""
        return ModelResponse(output=[], usage=Usage(), response_id=None)

    async def stream_response(self, *_args: Any, **_kwargs: Any) -> AsyncIterator[Any]:
        """Write a text in two parts."""
        for number, part in enumerate((self.text[:12], self.text[12:])):
            yield ResponseTextDeltaEvent(
                type="response.output_text.delta",
                content_index=0,
                delta=part,
                item_id="m",
                logprobs=[],
                output_index=0,
                sequence_number=number,
            )
            if self.waits is not None:
                await self.waits.wait()


async def test_a_stream_that_is_cut_off_leaves_nothing_uninspected(rehearse: Rehearse) -> None:
    """Parts of a text that never became an answer are not delivered: together they may say what none of them does."""
    world = rehearse(policy=BLOCKING, inspectors=[PersonalData()])
    agent = Agent(name="invoice-clerk", model=protect_model(Incomplete(SECRET), world.enforcer))
    with world.enforcer.task("talk", scope=SCOPE, **WHO):
        streamed = Runner.run_streamed(agent, "hello")
        seen = list[str]()
        with pytest.raises(ModelBehaviorError):
            await texts(streamed, seen)
    assert "example.org" not in "".join(seen)
    assert [outcome for _, outcome, _ in facts(world)] == ["success"]


async def test_monitor_mode_delivers_what_the_model_wrote(rehearse: Rehearse) -> None:
    """In monitor mode a finding changes nothing, not even how a stream is cut."""
    world = rehearse(mode="monitor", policy=BLOCKING, inspectors=[PersonalData()])
    plain = Runner.run_streamed(Agent(name="invoice-clerk", model=saying(SECRET)), "hello")
    kinds = [event.data.type async for event in plain.stream_events() if event.type == "raw_response_event"]
    agent = Agent(name="invoice-clerk", model=protect_model(saying(SECRET), world.enforcer))
    with world.enforcer.task("talk", scope=SCOPE, **WHO):
        streamed = Runner.run_streamed(agent, "hello")
        seen = [event.data.type async for event in streamed.stream_events() if event.type == "raw_response_event"]
    assert (seen, streamed.final_output) == (kinds, SECRET)
    assert len(facts(world)) == 1


async def test_a_stream_ends_with_its_task(world: Rehearsal) -> None:
    """What a model writes after the end of the task reaches nobody, and the refusal is on record."""
    gate = asyncio.Event()
    agent = Agent(name="invoice-clerk", model=protect_model(Incomplete("before, after", gate), world.enforcer))
    with world.enforcer.task("talk", scope=SCOPE, **WHO):
        streamed = Runner.run_streamed(agent, "hello")
        events = streamed.stream_events()
        seen = [repr(await anext(events)) for _ in range(2)]
    gate.set()
    seen += [repr(event) async for event in events]
    assert ("after" in "".join(seen), str(streamed.final_output)[:9]) == (False, "refused: ")
    assert [(outcome, code) for _, outcome, code in facts(world)] == [("denied", "task_ended")]


class Answer(BaseModel):
    """A structured answer."""

    text: str


async def test_structured_answers_hosted_tools_and_handoffs_are_described(rehearse: Rehearse) -> None:
    """A request with everything in it is judged, and an answer in a structure arrives as it is."""
    seen = list[object]()

    class Seeing:
        name = "seeing"

        def inspect(self, content: Any) -> list[Any]:
            seen.append(content.value)
            return []

    world = rehearse(inspectors=[Seeing()])
    agent = Agent(
        name="invoice-clerk",
        output_type=Answer,
        tools=[WebSearchTool(), *Ran().tools()],
        handoffs=[agent_of([], name="second")],
        model_settings=ModelSettings(extra_headers={"authorization": "secret"}, temperature=0.5),
        model=protect_model(saying('{"text": "hello"}'), world.enforcer),
    )
    result = await run(world, agent)
    assert result.final_output == Answer(text="hello")
    request = next(value for value in seen if isinstance(value, Mapping) and "tools" in value)
    names = [tool["name"] for tool in request["tools"]]
    assert {WebSearchTool().name, "read_invoice", "transfer_to_second"} <= set(names)
    assert ("secret" in repr(request), request["settings"]["temperature"]) == (False, 0.5)
    assert "properties" in request["output_schema"]


async def test_a_request_that_cannot_be_inspected_is_not_sent(world: Rehearsal) -> None:
    """What is no JSON reaches no model."""
    circular: dict[str, Any] = {}
    circular["self"] = circular
    model = saying("ok")
    settings = ModelSettings(extra_args={"x": circular})
    agent = Agent(name="invoice-clerk", model=protect_model(model, world.enforcer))
    result = await run(world, agent, run_config=RunConfig(model_settings=settings))
    assert (model.remaining_steps, result.final_output[:22]) == (2, "refused: bad_arguments")


async def test_each_attempt_of_a_retried_model_is_a_call(world: Rehearsal) -> None:
    """The SDK asks a model again; each time is one record."""
    model = ScriptedModel([OSError("x"), [assistant_message("ok")]])
    settings = ModelSettings(retry=ModelRetrySettings(max_retries=1, policy=lambda _context: True))
    agent = Agent(name="invoice-clerk", model=protect_model(model, world.enforcer), model_settings=settings)
    result = await run(world, agent)
    assert (result.final_output, [outcome for _, outcome, _ in facts(world)]) == ("ok", ["error", "success"])


async def test_a_redacted_answer_has_no_second_copy(rehearse: Rehearse) -> None:
    """The tokens that a model gives beside its text are not delivered with the redacted one."""
    world = rehearse(policy=REDACTING, inspectors=[PersonalData()])
    message = assistant_message(SECRET)
    tokens = [Logprob(token=token, bytes=[], logprob=0, top_logprobs=[]) for token in ("carol", "@", "example.org")]
    message.content[0].logprobs = tokens
    agent = Agent(name="invoice-clerk", model=protect_model(ScriptedModel([[message]]), world.enforcer))
    with world.enforcer.task("talk", scope=SCOPE, **WHO):
        result = await Runner.run(agent, "hello")
    assert result.final_output == "I wrote to [redacted:pii.email]."
    assert "carol" not in repr(result.raw_responses)
    verifies(world)
