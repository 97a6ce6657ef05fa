"""Model calls of the SDK under guard: prompts are inspected before they are sent, answers before anybody reads them."""

import inspect
from collections.abc import AsyncIterator, Mapping
from functools import partial
from typing import Any, Final, TypeVar, cast

from agents import Model, ModelProvider, ModelResponse
from openai.types.responses import Response

from agent_identity._enforcement import Enforcer
from agent_identity._enforcement.calls import Call, CallRequest, Shown
from agent_identity._enforcement.common import refusal
from agent_identity._evidence.record import Model as ModelFacts
from agent_identity.errors import AgentIdentityError, ConfigurationError, Denied
from agent_identity.integrations.frameworks.openai_agents.bodies import trace_id
from agent_identity.integrations.frameworks.openai_agents.model_io import (
    events_of,
    output_json,
    refused_response,
    request_json,
    revised_output,
    revised_request,
)

__all__ = ["protect_model"]

ModelT = TypeVar("ModelT", bound=Model | ModelProvider)
_GUARD: Final = "__agent_identity_model__"


def protect_model(model: ModelT, enforcer: Enforcer, *, name: str = "chat") -> ModelT:
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
    if known is not None:
        if known != (enforcer, name):
            raise ConfigurationError("the model is guarded otherwise already; make another one")
        return model
    kind = type(model)
    members = (
        _model_members(kind, enforcer, name) if issubclass(kind, Model) else _provider_members(kind, enforcer, name)
    )
    names = {"__module__": kind.__module__, "__qualname__": kind.__qualname__, _GUARD: (enforcer, name)}
    try:
        object.__setattr__(model, "__class__", type(kind.__name__, (kind,), {**members, **names}))
    except TypeError:
        raise ConfigurationError(
            f"{kind.__name__} cannot be guarded in place; its class has a layout of its own"
        ) from None
    return model


def _provider_members(kind: type[ModelProvider], enforcer: Enforcer, name: str) -> dict[str, object]:
    def get_model(self: ModelProvider, model_name: str | None) -> Model:
        return protect_model(kind.get_model(self, model_name), enforcer, name=name)

    return {"get_model": get_model}


def _model_members(kind: type[Model], enforcer: Enforcer, name: str) -> dict[str, object]:
    guards = [enforcer.guard(name, kind=each, workflow=trace_id) for each in ("model", "streamed_model")]
    held, streamed = guards

    async def get_response(self: Model, *args: Any, **kwargs: Any) -> ModelResponse:
        model_call = _ModelCall(self, args, kwargs)
        try:
            return cast("ModelResponse", await held.run_async(model_call.asked(), partial(model_call.answer, kind)))
        except AgentIdentityError as error:
            return refused_response(_refusal(error))

    async def stream_response(self: Model, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        model_call = _ModelCall(self, args, kwargs)
        try:
            if held.holds:
                events = await held.run_async(model_call.asked(), partial(model_call.hold, kind))
                for event in cast("list[object]", events):
                    yield event
                return
            call = await streamed.begin_async(model_call.asked())
        except AgentIdentityError as error:
            for event in _refused_events(error):
                yield event
            return
        call.detach()  # Between two events the consumer runs.
        response: Response | None = None
        stream = kind.stream_response(self, **model_call.arguments)
        try:
            async for event in stream:
                response = _response_of(event) or response
                await streamed.check_async(call)
                yield event
        except BaseException as error:
            if not call.done:
                await streamed.fail_async(call, error, closed=True)
            if error is not call.denial:
                raise
            for event in _refused_events(call.denial):
                yield event
            return
        finally:
            close = getattr(stream, "aclose", None)
            if close is not None:
                await close()
        await streamed.succeed_async(call, Shown(None, None if response is None else output_json(response.output)))

    return {"get_response": get_response, "stream_response": stream_response}


class _ModelCall:
    """One call of a model.

    Args:
        model: The model.
        args: The arguments of ``get_response`` or ``stream_response``.
        kwargs: Likewise.
    """

    def __init__(self, model: Model, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        bound = inspect.signature(Model.get_response).bind_partial(model, *args)
        self.arguments: dict[str, Any] = {**dict(list(bound.arguments.items())[1:]), **kwargs}
        self._model = model

    def asked(self) -> CallRequest:
        """Return the request for the guard."""
        named = getattr(self._model, "model", None)
        facts = ModelFacts(name=named) if isinstance(named, str) and named else None
        return CallRequest(request_json(self.arguments), can_route=False, model=facts, revise=self._revise)

    async def answer(self, kind: type[Model], _call: Call) -> Shown:
        """Call the model, and return its answer."""
        response = await kind.get_response(self._model, **self.arguments)

        def rebuild(changed: object) -> ModelResponse:
            return _with_output(response, revised_output(response.output, changed))

        return Shown(response, output_json(response.output), rebuild=rebuild)

    async def hold(self, kind: type[Model], call: Call) -> Shown:
        """Call the model, and return its answer as the events of a stream."""
        events = [event async for event in kind.stream_response(self._model, **self.arguments)]
        response = next(filter(None, map(_response_of, reversed(events))), None)
        if response is None or any(event.type in ("response.failed", "response.incomplete") for event in events):
            return Shown(events, output_json(events))  # Not rebuilt: a finding withholds it.
        call.model = ModelFacts(name=response.model) if response.model else None

        def rebuild(changed: object) -> list[Any]:
            return events_of(revised_output(response.output, changed), response)

        return Shown(events_of(response.output, response), output_json(response.output), rebuild=rebuild)

    def _revise(self, changed: Mapping[str, object]) -> None:
        self.arguments = revised_request(self.arguments, changed)


def _with_output(response: ModelResponse, output: list[Any]) -> ModelResponse:
    made = ModelResponse(output=output, usage=response.usage, response_id=response.response_id)
    made.request_id = response.request_id
    return made


def _response_of(event: object) -> Response | None:
    response = getattr(event, "response", None)
    is_last = getattr(event, "type", None) == "response.completed"
    return response if is_last and isinstance(response, Response) else None


def _refusal(error: AgentIdentityError) -> str:
    denied = error if isinstance(error, Denied) else Denied("the model was not called", code=error.code)
    return refusal(denied)


def _refused_events(error: AgentIdentityError) -> list[Any]:
    return events_of(refused_response(_refusal(error)).output, None)
