"""Models under guard: no prompt is sent, and no answer read, before its inspection."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import Any, Final, NoReturn, cast

from pydantic_ai import RunContext
from pydantic_ai.exceptions import UserError
from pydantic_ai.messages import (
    ModelMessage,
    ModelMessagesTypeAdapter,
    ModelRequest,
    ModelResponse,
    SystemPromptPart,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.models import CompletedStreamedResponse, Model, ModelRequestParameters, StreamedResponse
from pydantic_ai.models.wrapper import WrapperModel
from pydantic_ai.settings import ModelSettings

from agent_identity.adapters import Call, CallRequest, Part, Prompt, Shown, ToolCall, ToolGuards, refusal
from agent_identity.errors import Denied
from agent_identity.integrations.frameworks.pydantic_ai.calls import agent_name, guarded, outermost, running
from agent_identity.records import Model as ModelFact

__all__ = ["GuardedModel", "spoken_in"]

_CALLS: Final = frozenset({"builtin-tool-call", "native-tool-call", "tool-call"})


class GuardedModel(WrapperModel):
    """A model whose requests are guarded. A stream begins once the whole answer was inspected.

    Args:
        wrapped: The model.
        guards: The guards.
        name: The name of its calls in scopes and rules.
    """

    def __init__(self, wrapped: Model, guards: ToolGuards, name: str) -> None:
        super().__init__(wrapped)
        self._guards = guards
        self._called = name

    def is_of(self, guards: ToolGuards) -> bool:
        """Return whether these guards, or equal ones, guard the model.

        Args:
            guards: The guards.
        """
        return self._guards.is_like(guards)

    async def request(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
    ) -> ModelResponse:
        """Ask the model under guard; a refusal is the answer."""

        async def ask(prompt: "_Prompt") -> ModelResponse:
            return await super(GuardedModel, self).request(prompt.messages, model_settings, prompt.parameters)

        return await self._answer(_Prompt(messages, model_request_parameters), ask)

    @asynccontextmanager
    async def request_stream(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
        run_context: RunContext[object] | None = None,
    ) -> AsyncGenerator[StreamedResponse]:
        """Ask the model under guard, and stream its answer once it was inspected."""

        async def ask(prompt: "_Prompt") -> ModelResponse:
            stream = super(GuardedModel, self).request_stream
            async with stream(prompt.messages, model_settings, prompt.parameters, run_context) as answer:
                async for _ in answer:
                    pass
                return answer.get()

        response = await self._answer(_Prompt(messages, model_request_parameters), ask)
        yield CompletedStreamedResponse(response, model_request_parameters=model_request_parameters, replay_events=True)

    async def count_tokens(self, *_: object, **__: object) -> NoReturn:
        """Refuse to send a prompt that nobody has inspected."""
        _refuse("count_tokens_before_request")

    async def compact_messages(self, *_: object, **__: object) -> NoReturn:
        """Refuse to send a prompt that nobody has inspected."""
        _refuse("compaction")

    async def batch_encode(self, *_: object, **__: object) -> NoReturn:
        """Refuse to send a prompt that nobody has inspected."""
        _refuse("a batch")

    async def _answer(self, prompt: "_Prompt", ask: Callable[["_Prompt"], Awaitable[ModelResponse]]) -> ModelResponse:
        async def body(call: Call) -> Shown:
            response = await ask(prompt)
            if response.model_name:
                call.model = ModelFact(name=response.model_name, provider=response.provider_name)
            return Shown(response, _json([response]), rebuild=partial(_revised_response, response))

        model = ModelFact(name=self.model_name, provider=self.system or None)
        request = CallRequest(prompt.facts, can_route=False, model=model, revise=prompt.revise)
        acting = agent_name(running.get())
        asked = ToolCall(self._called, request, acting, "model", prompt=prompt.read())
        try:
            return cast("ModelResponse", await guarded(self._guards, asked, body))
        except Denied as denied:
            return ModelResponse(parts=[TextPart(refusal(denied))], model_name=self.model_name)


class _Prompt:
    """What a model is about to get.

    Attributes:
        messages: The messages, as they are sent.
        parameters: The rest of the request, as it is sent.
        facts: Both as JSON, for inspectors and the policy.
    """

    def __init__(self, messages: list[ModelMessage], parameters: ModelRequestParameters) -> None:
        self.messages = messages
        self.parameters = parameters
        self._spoken = _spoken(running.get())
        tools = (*parameters.function_tools, *parameters.output_tools)
        self.facts: dict[str, object] = {
            "messages": _json(messages),
            "instructions": [part.content for part in parameters.instruction_parts or ()],
            "tools": [[tool.name, tool.description, tool.parameters_json_schema] for tool in tools],
        }

    def read(self) -> Prompt:
        """Return the prompt and the contents of its answer, for information flow."""
        return Prompt(self._parts, _answer_contents, lambda: bool(self.parameters.native_tools))

    def _parts(self) -> Generator[Part]:
        for message in self.messages:
            if isinstance(message, ModelResponse):
                yield from (Part("other", content) for content in _answer_contents(message))
            else:
                yield from _asked(message, self._spoken)

    def revise(self, changed: Mapping[str, object]) -> None:
        """Take the messages and instructions as obligations changed them.

        Raises:
            ValueError: Something else was changed, or does not fit.
        """
        texts = cast("list[str]", changed["instructions"])
        parts = self.parameters.instruction_parts or []
        if changed["tools"] != self.facts["tools"] or len(texts) != len(parts):
            raise ValueError("the tools of a request cannot be changed")
        if changed["messages"] != self.facts["messages"]:
            self.messages = ModelMessagesTypeAdapter.validate_python(changed["messages"])
        if parts:
            revised = [replace(part, content=text) for part, text in zip(parts, texts, strict=True)]
            self.parameters = replace(self.parameters, instruction_parts=revised)


def spoken_in(prompt: object, history: Iterable[ModelMessage]) -> frozenset[str]:
    """Return the texts of the user that the application passes to a run.

    Args:
        prompt: The prompt of the run.
        history: The messages before it.
    """
    contents = [prompt, *_prompts_of(history)]
    texts = [one for content in contents for one in (content if isinstance(content, list | tuple) else [content])]
    return frozenset(text for text in texts if isinstance(text, str))


def _spoken(ctx: RunContext[object] | None) -> frozenset[str]:
    """Return the texts of the user that the application passed to a run; none within another run."""
    asked = outermost.get()
    return asked.spoken if ctx is not None and asked is not None and asked.run_id == ctx.run_id else frozenset()


def _prompts_of(messages: Iterable[ModelMessage]) -> Generator[object]:
    """Yield the prompts with which runs began.

    Tools and hooks may add prompts of the user later in a run, and Pydantic AI sends what validators say as such.
    """
    begun = set[str | None]()
    for message in messages:
        is_first = message.run_id is None or message.run_id not in begun
        begun.add(message.run_id)
        # What a tool returned beside its value is sent after it as a prompt of the user.
        if is_first and not any(isinstance(part, ToolReturnPart) for part in message.parts):
            yield from (part.content for part in message.parts if isinstance(part, UserPromptPart))


def _asked(message: ModelRequest, spoken: frozenset[str]) -> Generator[Part]:
    """Yield the parts of a request to a model, for information flow."""
    for part in message.parts:
        if isinstance(part, UserPromptPart):
            texts = [part.content] if isinstance(part.content, str) else part.content
            for text in texts:
                yield Part("person" if isinstance(text, str) and text in spoken else "other", text)
        elif not isinstance(part, SystemPromptPart):
            yield Part("other", cast("object", getattr(part, "content", part)))


def _revised_response(response: ModelResponse, changed: object) -> ModelResponse:
    """Return an answer with the texts as obligations changed them.

    Raises:
        ValueError: The arguments of a call were changed, or the answer does not fit.
    """
    if _calls_in(changed) != _calls_in(_json([response])):
        raise ValueError("the arguments of a call cannot be changed")
    (revised,) = ModelMessagesTypeAdapter.validate_python(changed)
    answer = cast("ModelResponse", revised)
    for one in (answer, *answer.parts):
        (getattr(one, "provider_details", None) or {}).pop("logprobs", None)  # They have the text once more.
    return answer


def _answer_contents(response: object) -> Generator[object]:
    """Yield the contents of an answer, without the members that change before the next prompt."""
    for part in cast("ModelResponse", response).parts:
        if isinstance(part, ToolCallPart):
            arguments = part.args_as_dict(raise_if_invalid=False)
            yield [part.tool_name, arguments]
            yield from (value for value in arguments.values() if isinstance(value, str))
        else:
            yield getattr(part, "content", part)


def _calls_in(answers: object) -> list[object]:
    (answer,) = cast("list[dict[str, Any]]", answers)
    return [part for part in answer["parts"] if part.get("part_kind") in _CALLS]


def _json(messages: list[Any]) -> object:
    return ModelMessagesTypeAdapter.dump_python(messages, mode="json")


def _refuse(what: str) -> NoReturn:
    raise UserError(f"{what} sends a prompt before its inspection; switch it off, or omit model= of AgentIdentity")
