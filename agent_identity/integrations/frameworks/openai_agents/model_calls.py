"""Model calls of the SDK under guard: prompts are inspected before they are sent, answers before anybody reads them."""

import inspect
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final, TypeAlias, TypeVar, cast

from agents import FunctionTool, Handoff, Model, ModelProvider, ModelResponse, Tool
from agents.usage import Usage
from openai.types.responses import (
    Response,
    ResponseCompletedEvent,
    ResponseOutputMessage,
    ResponseOutputText,
    ResponseTextDeltaEvent,
)
from pydantic import ConfigDict, TypeAdapter

from agent_identity import Enforcer
from agent_identity.adapters import (
    Call,
    CallRequest,
    Part,
    Prompt,
    Shown,
    ToolCall,
    ToolGuards,
    account,
    off_loop,
    refusal,
)
from agent_identity.errors import AgentIdentityError, ConfigurationError, Denied
from agent_identity.integrations.frameworks.openai_agents.bodies import trace_id
from agent_identity.integrations.frameworks.openai_agents.local_tools import is_local
from agent_identity.integrations.frameworks.openai_agents.sessions import thread
from agent_identity.integrations.narrowing import is_list, is_mapping
from agent_identity.records import Model as ModelFacts

Request: TypeAlias = "Mapping[str, Any]"
"""The arguments of ``get_response`` or ``stream_response`` by name."""

Items: TypeAlias = "list[Any]"
"""Items of an answer, or events of a stream: of many classes of the library ``openai``."""

_ANYTHING: Final = TypeAdapter[object](object, config=ConfigDict(ser_json_bytes="base64"))
_SENT: Final = frozenset({"content", "output", "summary"})
"""Members of items in a prompt that obligations may change: the calls in it were made before."""

_TEXTS: Final = ("system_instructions", "input")
_AROUND: Final = ("previous_response_id", "conversation_id", "prompt")


def request_json(request: Request) -> dict[str, object]:
    """Return the arguments of a model call as JSON: instructions, input, tools, handoffs, settings.

    Args:
        request: The arguments of ``get_response`` by name.

    Raises:
        ValueError: A part cannot be written as JSON; then nothing may be sent.
    """
    facts: dict[str, object] = {name: _json(request.get(name)) for name in (*_TEXTS, *_AROUND) if request.get(name)}
    tools, handoffs = cast("Sequence[Tool]", request["tools"]), cast("Sequence[Handoff[Any, Any]]", request["handoffs"])
    described = [*map(_described, tools), *map(_handed, handoffs)]
    schema = request.get("output_schema")
    if schema is not None and not schema.is_plain_text():
        facts["output_schema"] = _json(schema.json_schema())
    settings = {name: value for name, value in vars(request["model_settings"]).items() if value is not None}
    settings.pop("extra_headers", None)  # They may hold a token.
    return facts | ({"tools": described} if described else {}) | ({"settings": _json(settings)} if settings else {})


def revised_request(request: Request, changed: Mapping[str, object]) -> Request:
    """Return the arguments of a model call with texts as obligations changed them.

    Args:
        request: The arguments by name.
        changed: What :func:`request_json` returned, changed.

    Raises:
        ValueError: Something else than texts was changed.
    """
    before = request_json(request)
    if any(changed.get(name) != value for name, value in before.items() if name not in _TEXTS):
        raise ValueError("the tools or settings of a request cannot be changed")
    old, new = before.get("input"), changed.get("input")
    if not isinstance(old, str) and new != old:
        _check_items(old, new)
    return {**request, **{name: changed[name] for name in _TEXTS if name in before}}


def output_json(output: Sequence[object]) -> list[object]:
    """Return the items of an answer.

    Args:
        output: The output of a response.

    Raises:
        ValueError: A part cannot be written as JSON.
    """
    return [_json(item) for item in output]


def revised_output(output: Items, changed: object) -> Items:
    """Return the items of an answer with the texts of messages as obligations changed them.

    Args:
        output: The output of a response.
        changed: What :func:`output_json` returned, changed.

    Raises:
        ValueError: Something else than the text of messages was changed.
    """
    before = output_json(output)
    if not isinstance(changed, list) or len(cast("list[object]", changed)) != len(before):
        raise ValueError("an item of an answer was dropped")
    items: Items = []
    for item, old, new in zip(output, before, cast("list[object]", changed), strict=True):
        if old != new and not isinstance(item, ResponseOutputMessage):
            raise ValueError("only the text of messages of an answer can be changed")
        items.append(item if old == new else _revised_message(new))
    return items


def refused_response(text: str) -> ModelResponse:
    """Return an answer that says why there is none.

    Args:
        text: The refusal.
    """
    part = ResponseOutputText(text=text, type="output_text", annotations=[], logprobs=[])
    message = ResponseOutputMessage(id="refused", type="message", role="assistant", status="completed", content=[part])
    return ModelResponse(output=[message], usage=Usage(), response_id=None)


def events_of(output: Items, response: Response | None) -> Items:
    """Return an answer as a stream: each text as one delta, and the response.

    Args:
        output: The items of the answer as it is delivered.
        response: The response of the model; ``None`` for a refusal.
    """
    if response is None:
        response = Response(
            id="refused",
            created_at=0,
            model="refused",
            object="response",
            output=[],
            tool_choice="none",
            tools=[],
            parallel_tool_calls=False,
            status="completed",
        )
    events: Items = []
    for place, item in enumerate(output):
        parts = cast("list[object]", item.content) if isinstance(item, ResponseOutputMessage) else []
        for number, part in enumerate(parts):
            if isinstance(part, ResponseOutputText):
                events.append(
                    ResponseTextDeltaEvent(
                        type="response.output_text.delta",
                        content_index=number,
                        delta=part.text,
                        item_id=item.id,
                        logprobs=[],
                        output_index=place,
                        sequence_number=len(events),
                    )
                )
    whole = response.model_copy(update={"output": list(output)})
    last = ResponseCompletedEvent(type="response.completed", response=whole, sequence_number=len(events))
    return [*events, last]


def parts_of(request: Request) -> Generator[Part]:
    """Yield the parts of a prompt, including the earlier turns that the provider stores, for information flow.

    Args:
        request: The arguments of a model call by name.
    """
    given = _json(request.get("input"))
    for item in given if is_list(given) else [{"role": "user", "content": given}]:
        role = cast("Mapping[str, object]", item).get("role")
        if role not in ("system", "developer"):
            yield from (Part("person" if role == "user" else "other", one) for one in _contents(item))
    yield from (Part("other", kept) for name in _AROUND if (kept := request.get(name)))


def answer_contents(answer: object) -> Generator[object]:
    """Yield the contents of an answer, in their form in later prompts.

    Args:
        answer: A response, or the events of one.
    """
    for event in answer if is_list(answer) else [answer]:
        response = getattr(event, "response", event)
        output: object = getattr(response, "output", None)
        for item in output if is_list(output) else []:
            yield from _contents(_json(item))
        yield getattr(response, "response_id", getattr(response, "id", None))


def _contents(item: object) -> Generator[object]:
    """Yield the contents of an item of a prompt or answer."""
    one = cast("Mapping[str, Any]", item)
    content = one.get("output") if str(one.get("type")).endswith("call_output") else one.get("content")
    if one.get("type") == "function_call":
        yield [one.get("name"), one.get("arguments")]
        yield from _texts(one.get("arguments"))
    elif is_list(content):
        for part in content:
            yield part.get("text", part) if is_mapping(part) else part
    elif content is not None:
        yield content
    else:
        yield {name: value for name, value in one.items() if name not in ("id", "status") and value is not None}


def _texts(arguments: object) -> list[str]:
    """Return the texts among arguments that a model wrote; another agent may get one of them as its prompt."""
    try:
        parsed: object = json.loads(str(arguments))
    except ValueError:
        return []
    values = parsed.values() if is_mapping(parsed) else ()
    return [value for value in values if isinstance(value, str)]


def _revised_message(changed: object) -> ResponseOutputMessage:
    """Return a message without its tokens, which have the text once more."""
    message = ResponseOutputMessage.model_validate(changed)
    for part in message.content:
        if isinstance(part, ResponseOutputText):
            part.logprobs = None
    return message


def _check_items(old: object, new: object) -> None:
    before, after = cast("list[dict[str, object]]", old), cast("list[dict[str, object]]", new)
    if not isinstance(new, list) or len(before) != len(after):
        raise ValueError("an item of a prompt was dropped")
    for one, other in zip(before, after, strict=True):
        if any(one.get(name) != other.get(name) for name in one.keys() | other.keys() if name not in _SENT):
            raise ValueError("only the texts of a prompt can be changed")


def _described(tool: Tool) -> dict[str, object]:
    if isinstance(tool, FunctionTool):
        return {"name": tool.name, "description": tool.description, "parameters": _json(tool.params_json_schema)}
    return {"name": tool.name, "type": type(tool).__name__}


def _handed(handoff: Handoff[Any, Any]) -> dict[str, object]:
    schema = _json(handoff.input_json_schema)
    return {"name": handoff.tool_name, "description": handoff.tool_description, "parameters": schema}


def _json(value: object) -> object:
    return _ANYTHING.dump_python(value, mode="json", fallback=repr, exclude_none=True)


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
