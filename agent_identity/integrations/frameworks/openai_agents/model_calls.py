"""Model calls of the SDK under guard: prompts are inspected before they are sent, answers before anybody reads them."""

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Final, TypeAlias, TypeVar, cast

from agents import FunctionTool, Model, ModelProvider, ModelResponse, Tool
from openai.types.responses import Response

from agent_identity import Enforcer
from agent_identity.adapters import Call, CallRequest, Prompt, Shown, ToolCall, ToolGuards, account, off_loop, refusal
from agent_identity.errors import AgentIdentityError, ConfigurationError, Denied
from agent_identity.integrations.frameworks.openai_agents.bodies import trace_id
from agent_identity.integrations.frameworks.openai_agents.local_tools import is_local
from agent_identity.integrations.frameworks.openai_agents.model_io import (
    Items,
    Request,
    answer_contents,
    events_of,
    output_json,
    parts_of,
    refused_response,
    request_json,
    revised_output,
    revised_request,
)
from agent_identity.integrations.frameworks.openai_agents.sessions import thread
from agent_identity.records import Model as ModelFacts

__all__ = ["protect_model"]

_Stream: TypeAlias = Callable[..., AsyncIterator[Any]]
ModelT = TypeVar("ModelT", bound=Model | ModelProvider)
_LAST: Final = frozenset({"error", "response.failed", "response.incomplete"})
_GUARD: Final = "__agent_identity_model__"


def protect_model(model: ModelT, enforcer: Enforcer, *, name: str = "chat", principal_messages: bool = False) -> ModelT:
    """Guard each call of a model, or of every model of a provider, in place.

    A call is judged and recorded under ``name``, which the scope must cover. Inspectors of the enforcer see the prompt
    before it is sent: instructions, input, tools as described to the model, settings. They see the answer before
    anybody reads it: a stream is held back until then, and delivered with each text as one delta. A refusal is the
    answer of the model. Streams that no inspector looks at run through, and are recorded as ``streamed_model``.

    Args:
        model: A model for ``Agent(model=…)`` or ``RunConfig(model=…)``, or a provider for
            ``RunConfig(model_provider=…)``, which agents use whose model is a name.
        enforcer: The enforcer.
        name: The name of the calls in scopes and rules.
        principal_messages: Count messages of users as the principal's own words. With information flow, other parts of
            a prompt that no guard of the task delivered have unknown integrity.

    Returns:
        The argument: the same object.

    Raises:
        ConfigurationError: It is guarded otherwise already, or its class cannot be extended.
        TypeError: It is neither a model nor a provider, or the enforcer is none.
    """
    if not isinstance(cast("object", model), Model | ModelProvider):
        raise TypeError(f"model is {type(model).__name__}; pass a Model or a ModelProvider of the OpenAI Agents SDK")
    if not isinstance(cast("object", enforcer), Enforcer):
        raise TypeError(f"enforcer is {type(enforcer).__name__}; pass an Enforcer")
    known = getattr(type(model), _GUARD, None)
    if known is None:
        _extend(model, _ModelGuards(enforcer, name, principal_messages=principal_messages))
    elif (known.enforcer, known.name, known.are_principals) != (enforcer, name, principal_messages):
        raise ConfigurationError("the model is guarded by another enforcer or under another name; make a new model")
    return model


class _ModelGuards:
    """The guards of the calls of one model, or of those of a provider."""

    def __init__(self, enforcer: Enforcer, name: str, *, principal_messages: bool) -> None:
        self.enforcer: Final = enforcer
        self.name: Final = name
        self.are_principals: Final = principal_messages
        self.tools: Final = ToolGuards(
            enforcer,
            workflow=trace_id,
            names_run=True,
            thread=thread,
            model=name,
            principal_messages=principal_messages,
        )

    @property
    def holds(self) -> bool:
        """True if streams are held back until inspectors have seen them."""
        return self.tools.of(self.name, kind="model").holds

    def asked(self, model_call: "_ModelCall", kind: str = "model") -> ToolCall:
        """Return the description of a call."""
        return ToolCall(self.name, model_call.asked(), kind=kind, prompt=model_call.prompt())


def _extend(model: Model | ModelProvider, guards: _ModelGuards) -> None:
    """Give a model or a provider a subclass of its class, which looks like it."""
    kind = type(model)
    names = {"__module__": kind.__module__, "__qualname__": kind.__qualname__, _GUARD: guards}
    first = _GuardedModel if isinstance(model, Model) else _GuardedProvider
    try:
        object.__setattr__(model, "__class__", type(kind.__name__, (first, kind), names))
    except TypeError:
        raise ConfigurationError(f"{kind.__name__} has a layout of its own, and cannot be guarded in place") from None


def _guards_of(model: object) -> _ModelGuards:
    return cast("_ModelGuards", getattr(type(model), _GUARD))


class _GuardedProvider(ModelProvider):
    """What a guarded provider does in the place of its class."""

    def get_model(self, model_name: str | None) -> Model:
        guards, model = _guards_of(self), super().get_model(model_name)  # type: ignore[safe-super]
        return protect_model(model, guards.enforcer, name=guards.name, principal_messages=guards.are_principals)


class _GuardedModel(Model):
    """What a guarded model does in the place of its class."""

    async def get_response(self, *args: object, **kwargs: object) -> ModelResponse:  # type: ignore[override]
        guards, model_call = _guards_of(self), _ModelCall(self, args, kwargs)
        body = partial(model_call.answer, super().get_response)  # type: ignore[safe-super]
        try:
            return cast("ModelResponse", await guards.tools.run_async(guards.asked(model_call), body))
        except AgentIdentityError as error:
            return refused_response(_refusal(error))

    def stream_response(self, *args: object, **kwargs: object) -> AsyncIterator[Any]:  # type: ignore[override]
        guards, model_call = _guards_of(self), _ModelCall(self, args, kwargs)
        call_model = super().stream_response  # type: ignore[safe-super]
        if guards.holds:
            return _held(guards, model_call, call_model)
        return _through(guards, model_call, call_model)


class _ModelCall:
    """One call of a model.

    Args:
        model: The model.
        args: The arguments of ``get_response`` or ``stream_response``.
        kwargs: Likewise.
    """

    def __init__(self, model: Model, args: tuple[object, ...], kwargs: Mapping[str, object]) -> None:
        bound = inspect.signature(Model.get_response).bind_partial(model, *args)
        self.arguments: Request = {**dict(list(bound.arguments.items())[1:]), **kwargs}
        self._model = model

    def asked(self) -> CallRequest:
        """Return the request for the guard."""
        named = getattr(self._model, "model", None)
        facts = ModelFacts(name=named) if isinstance(named, str) and named else None
        try:
            request = request_json(self.arguments)
        except (ValueError, TypeError, RecursionError):
            unread = Denied("the request cannot be written as JSON, so nobody can inspect it", code="bad_arguments")
            return CallRequest({}, can_route=False, model=facts, refusal=unread)
        return CallRequest(request, can_route=False, model=facts, revise=self._revise)

    def prompt(self) -> Prompt:
        """Return the prompt and the contents of its answer, for information flow."""
        return Prompt(lambda: parts_of(self.arguments), answer_contents, self._is_provided)

    def _is_provided(self) -> bool:
        tools = cast("list[Tool]", self.arguments["tools"])
        return any(not isinstance(tool, FunctionTool) and not is_local(tool) for tool in tools)

    async def answer(self, call_model: Callable[..., Awaitable[ModelResponse]], _call: Call) -> Shown:
        """Call the model, and return its answer."""
        response = await call_model(**self.arguments)

        def rebuild(changed: object) -> ModelResponse:
            return replace(response, output=revised_output(response.output, changed))

        return Shown(response, output_json(response.output), rebuild=rebuild)

    async def hold(self, call_model: _Stream, mode: str, call: Call) -> Shown:
        """Call the model, and return its answer as the events of a stream; in monitor mode as the model made them."""
        stream = call_model(**self.arguments)
        try:
            events = [event async for event in stream]
        finally:
            await _close(stream)
        response = next(filter(None, map(_response_of, reversed(events))), None)
        if response is None:  # It failed, or is cut off: what says so has all texts as a whole, and is not rebuilt.
            last = [event for event in events if event.type in _LAST]
            return Shown(events if mode == "monitor" else last, output_json(last))
        call.model = ModelFacts(name=response.model) if response.model else None

        def rebuild(changed: object) -> Items:
            return events_of(revised_output(response.output, changed), response)

        made = events if mode == "monitor" else events_of(response.output, response)
        return Shown(made, output_json(response.output), rebuild=rebuild)

    def _revise(self, changed: Mapping[str, object]) -> None:
        self.arguments = revised_request(self.arguments, changed)


async def _held(guards: _ModelGuards, model_call: _ModelCall, call_model: _Stream) -> AsyncIterator[Any]:
    """Yield an answer that was inspected as a whole."""
    body = partial(model_call.hold, call_model, guards.enforcer.mode)
    try:
        events = await guards.tools.run_async(guards.asked(model_call), body)
    except AgentIdentityError as error:
        events = _refused_events(error)
    for event in cast("list[object]", events):
        yield event


async def _through(guards: _ModelGuards, model_call: _ModelCall, call_model: _Stream) -> AsyncIterator[Any]:
    """Yield an answer that nobody inspects, while the model writes it and the task lives."""
    asked = guards.asked(model_call, "streamed_model")
    guard = guards.tools.of(guards.name, kind=asked.kind)
    try:
        await off_loop(partial(guards.tools.join, asked))
        call = await guard.begin_async(asked.request)
    except AgentIdentityError as error:
        for event in _refused_events(error):
            yield event
        return
    call.detach()  # Between two events the consumer runs.
    stream, response, failed = call_model(**model_call.arguments), None, None
    try:
        async for event in stream:
            response = _account_for(call, event) or response
            await guard.check_async(call)
            yield event
    except BaseException as error:
        failed = error
        if not call.done:
            await guard.fail_async(call, error, closed=True)
        if error is not call.denial:
            raise
    finally:
        await _close(stream)
    if failed is None:
        await guard.succeed_async(call, Shown(None, None if response is None else output_json(response.output)))
        return
    for event in _refused_events(cast("Denied", failed)):
        yield event


def _account_for(call: Call, event: object) -> Response | None:
    """Return the response of an event, if it has one, and register its contents for later prompts."""
    response = _response_of(event)
    if response is not None:
        account(call.task, answer_contents(response))
    return response


async def _close(stream: object) -> None:
    close = getattr(stream, "aclose", None)
    if close is not None:
        await close()


def _response_of(event: object) -> Response | None:
    response = getattr(event, "response", None)
    is_last = getattr(event, "type", None) == "response.completed"
    return response if is_last and isinstance(response, Response) else None


def _refusal(error: AgentIdentityError) -> str:
    denied = error if isinstance(error, Denied) else Denied("the model was not called", code=error.code)
    return refusal(denied)


def _refused_events(error: AgentIdentityError) -> Items:
    return events_of(refused_response(_refusal(error)).output, None)
