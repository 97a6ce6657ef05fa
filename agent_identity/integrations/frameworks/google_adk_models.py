"""Models of Google ADK: the prompt is judged before it is sent, and the answer before anybody reads it."""

import asyncio
import functools
import logging
from collections.abc import AsyncGenerator, Callable, Mapping
from contextvars import ContextVar
from typing import Any, Final, cast, final
from weakref import WeakSet

from google.adk.agents import BaseAgent, LlmAgent
from google.adk.models import BaseLlm, LlmRequest, LlmResponse
from google.genai import types
from pydantic import ConfigDict, TypeAdapter

from agent_identity._enforcement.calls import Call, CallRequest, Shown
from agent_identity._enforcement.common import refusal, safe_message
from agent_identity._evidence.record import Model
from agent_identity.errors import Denied
from agent_identity.integrations.frameworks.tool_guards import ToolCall, ToolGuards

__all__ = ["GuardedModels", "said"]

_LOG: Final = logging.getLogger("agent_identity")
_ANYTHING: Final = TypeAdapter[object](object, config=ConfigDict(ser_json_bytes="base64"))
_GUARD: ContextVar["tuple[GuardedModels, str] | None"] = ContextVar("agent_identity_adk_model", default=None)
_GUARDED: Final = WeakSet[type[BaseLlm]]()
_Send = Callable[[LlmRequest, bool], AsyncGenerator[LlmResponse]]


@final
class GuardedModels:
    """Guards the models of an app.

    Args:
        guards: The guards of the app.
        name: The name of model calls in scopes and rules.

    Raises:
        ValueError: The name does not have 1 to 256 visible characters.
    """

    def __init__(self, guards: ToolGuards, name: str) -> None:
        guards.enforcer.guard(name, kind="model")  # Checks the name.
        self._guards = guards
        self._name = name

    async def guard(self, agent: BaseAgent) -> LlmResponse | None:
        """Guard the model of an agent in place, for the request that follows; return a refusal if it cannot be.

        Args:
            agent: The agent.
        """
        _GUARD.set((self, agent.name))
        model = agent.canonical_model if isinstance(agent, LlmAgent) else None
        if not isinstance(agent, LlmAgent) or model is None:
            guard = self._guards.of(self._name, kind="model")
            denied = Denied(f"the model of {agent.name} cannot be guarded; use an LlmAgent", code="not_guarded")
            return said(refusal(await guard.refuse_async({}, denied, guard.current_task)))
        if agent.canonical_model is not model:  # Older versions make one for each request.
            agent.model = model
        if type(model) not in _GUARDED:
            object.__setattr__(model, "__class__", _guarded_kind(type(model)))
        return None

    async def answers(
        self, acting: str, request: LlmRequest, send: _Send, *, stream: bool
    ) -> AsyncGenerator[LlmResponse]:
        """Send a request to the model under guard, and yield what the app is to get.

        Args:
            acting: The framework's name of the agent.
            request: The request.
            send: Calls the model.
            stream: The app asks for a stream.
        """
        at_once = stream and not self._guards.of(self._name, kind="model").holds
        queue, prompt = asyncio.Queue[LlmResponse | None](), _Prompt(request)

        async def body(call: Call) -> Shown:
            got: list[LlmResponse] = []
            async for answer in send(prompt.sent, stream):
                got.append(answer)
                if at_once:
                    queue.put_nowait(answer)
            # The last answer of a stream has the whole text; earlier parts of it would cut through what is looked for.
            return _shown(call, [answer for answer in got if not answer.partial] or got)

        asked = ToolCall(
            self._name,
            CallRequest(prompt.json, can_route=False, model=_named(request.model), revise=prompt.revise),
            acting,
            kind="streamed_model" if at_once else "model",
        )
        if not at_once:
            for answer in await self._guarded(asked, body, held=True):
                yield answer
            return
        # A task of its own, because the consumer's context must stay as it is between two answers.
        run = asyncio.create_task(self._guarded(asked, body, held=False))
        run.add_done_callback(lambda _: queue.put_nowait(None))
        try:
            while (answer := await queue.get()) is not None:
                yield answer
            for answer in await run:
                yield answer
        finally:
            run.cancel()
            await asyncio.wait([run])

    async def _guarded(self, asked: ToolCall, body: Callable[[Call], Any], *, held: bool) -> list[LlmResponse]:
        """Run a call of the model, and return the answers that are still to be delivered."""
        raised: BaseException | None = None

        async def noted(call: Call) -> object:
            nonlocal raised
            try:
                return await body(call)
            except BaseException as error:
                raised = error
                raise

        try:
            answers = await self._guards.run_async(asked, noted)
        except Denied as denied:
            return [said(refusal(denied))]
        except Exception as error:
            if error is raised:
                raise
            _LOG.error("the model was not called, or its answer withheld: %s", safe_message(error))
            return [said("refused: guard_failed: the call could not be guarded")]
        return cast("list[LlmResponse]", answers) if held else []


@final
class _Prompt:
    """The prompt of one request.

    Attributes:
        json: The prompt as JSON, for inspectors and the policy.
        sent: The request to send.
    """

    def __init__(self, request: LlmRequest) -> None:
        config = cast("dict[str, object]", _json(request.config))
        self._contents = cast("list[object]", _json(request.contents))
        self.json: dict[str, object] = {"messages": self._contents, **config}
        self.sent = request

    def revise(self, changed: Mapping[str, object]) -> None:
        """Take the messages as obligations changed them.

        Raises:
            ValueError: Something else than the text of messages was changed.
        """
        if {**changed, "messages": 0} != {**self.json, "messages": 0}:
            raise ValueError("the instructions, tools or settings of a request cannot be changed")
        contents = [types.Content.model_validate(one) for one in cast("list[object]", changed["messages"])]
        self.sent = self.sent.model_copy(update={"contents": contents})


def said(text: str) -> LlmResponse:
    """Return an answer in the place of that of the model.

    Args:
        text: What it says.
    """
    return LlmResponse(content=types.Content(role="model", parts=[types.Part(text=text)]))


@functools.lru_cache(maxsize=256)
def _guarded_kind(kind: type[BaseLlm]) -> type[BaseLlm]:
    """Return the subclass of a class of models whose calls by guarded apps pass the guard."""

    async def generate_content_async(
        self: BaseLlm,
        llm_request: LlmRequest,
        stream: bool = False,  # noqa: FBT001, FBT002  As in the base class.
    ) -> AsyncGenerator[LlmResponse]:
        guarded = _GUARD.get()
        send = functools.partial(kind.generate_content_async, self)
        answers = (
            send(llm_request, stream)
            if guarded is None
            else guarded[0].answers(guarded[1], llm_request, send, stream=stream)
        )
        try:
            async for answer in answers:
                yield answer
        finally:
            await answers.aclose()

    names = {name: getattr(kind, name) for name in ("__module__", "__qualname__", "__doc__")}
    guarded_kind = type(kind)(kind.__name__, (kind,), {**names, "generate_content_async": generate_content_async})
    _GUARDED.add(guarded_kind)
    return guarded_kind


def _shown(call: Call, answers: list[LlmResponse]) -> Shown:
    """Return the answers of a model for the guard."""
    call.model = next((_named(answer.model_version) for answer in reversed(answers) if answer.model_version), None)
    return Shown(answers, [_json(answer.content) for answer in answers], rebuild=functools.partial(_rebuilt, answers))


def _rebuilt(answers: list[LlmResponse], changed: object) -> list[LlmResponse]:
    """Return answers with texts as obligations changed them.

    Raises:
        ValueError: Something else was changed.
    """
    new = [one and types.Content.model_validate(one) for one in cast("list[Any]", changed)]
    for answer, content in zip(answers, new, strict=True):
        if _calls(answer.content) != _calls(content):
            raise ValueError("the arguments of a call cannot be changed")
    return [answer.model_copy(update={"content": content}) for answer, content in zip(answers, new, strict=True)]


def _calls(content: types.Content | None) -> list[types.FunctionCall]:
    return [part.function_call for part in (content and content.parts) or () if part.function_call]


def _named(name: str | None) -> Model | None:
    return Model(name=name) if name else None


def _json(value: object) -> object:
    return _ANYTHING.dump_python(value, mode="json", exclude_none=True, fallback=repr)
