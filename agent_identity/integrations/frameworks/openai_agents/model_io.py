"""Requests to and answers from models of the SDK, as JSON for inspectors."""

import json
from collections.abc import Generator, Mapping, Sequence
from typing import Any, Final, TypeAlias, cast

from agents import FunctionTool, Handoff, ModelResponse, Tool
from agents.usage import Usage
from openai.types.responses import (
    Response,
    ResponseCompletedEvent,
    ResponseOutputMessage,
    ResponseOutputText,
    ResponseTextDeltaEvent,
)
from pydantic import ConfigDict, TypeAdapter

from agent_identity.adapters import Part

__all__ = [
    "Items",
    "Request",
    "answer_contents",
    "events_of",
    "output_json",
    "parts_of",
    "refused_response",
    "request_json",
    "revised_output",
    "revised_request",
]

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
    for item in cast("list[object]", given) if isinstance(given, list) else [{"role": "user", "content": given}]:
        role = cast("Mapping[str, object]", item).get("role")
        if role not in ("system", "developer"):
            yield from (Part("person" if role == "user" else "other", one) for one in _contents(item))
    yield from (Part("other", kept) for name in _AROUND if (kept := request.get(name)))


def answer_contents(answer: object) -> Generator[object]:
    """Yield the contents of an answer, in their form in later prompts.

    Args:
        answer: A response, or the events of one.
    """
    for event in cast("list[object]", answer) if isinstance(answer, list) else [answer]:
        response = getattr(event, "response", event)
        output: object = getattr(response, "output", None)
        for item in cast("list[object]", output) if isinstance(output, list) else []:
            yield from _contents(_json(item))
        yield getattr(response, "response_id", getattr(response, "id", None))


def _contents(item: object) -> Generator[object]:
    """Yield the contents of an item of a prompt or answer."""
    one = cast("Mapping[str, Any]", item)
    content = one.get("output") if str(one.get("type")).endswith("call_output") else one.get("content")
    if one.get("type") == "function_call":
        yield [one.get("name"), one.get("arguments")]
        yield from _texts(one.get("arguments"))
    elif isinstance(content, list):
        for part in cast("list[object]", content):
            yield cast("Mapping[str, object]", part).get("text", part) if isinstance(part, Mapping) else part
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
    values = cast("Mapping[str, object]", parsed).values() if isinstance(parsed, Mapping) else ()
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
