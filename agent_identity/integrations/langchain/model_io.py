"""Requests to and answers from a model, as JSON for inspectors: everything that is sent, not only the text.

LangChain's integrations send the message members that providers know, wherever they are: the reasoning of a model
and calls in an older form are in ``additional_kwargs``, a participant is in ``name``. An ``artifact`` is not sent.
https://docs.langchain.com/oss/python/langchain/messages
"""

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final, TypeAlias, cast

from langchain.agents.middleware import ModelRequest, ModelResponse
from langchain_core.messages import BaseMessage, SystemMessage
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import ConfigDict, TypeAdapter

from agent_identity._evidence.record import Model

__all__ = [
    "AnyModelRequest",
    "AnyModelResponse",
    "answering_model",
    "model_of",
    "request_json",
    "response_json",
    "revised_request",
    "revised_response",
]

AnyModelRequest: TypeAlias = (
    "ModelRequest[Any]"  # LangChain's types require it, for any contexts and answers of agents.
)
AnyModelResponse: TypeAlias = "ModelResponse[Any]"

_MEMBERS: Final = (
    *("name", "id", "tool_calls", "invalid_tool_calls", "tool_call_id", "status"),
    *("additional_kwargs", "response_metadata"),
)
_ANYTHING: Final = TypeAdapter[object](object, config=ConfigDict(ser_json_bytes="base64"))
_SENT: Final = ("content", "additional_kwargs", "response_metadata", "tool_calls", "invalid_tool_calls")
"""Members of messages in a prompt that obligations may change: the calls in it were made before."""

_SAID: Final = ("content", "additional_kwargs", "response_metadata")
_ARGUMENTS: Final = frozenset({"args", "arguments", "input", "partial_json"})
"""Members of a content block that is a call."""

_AROUND: Final = ("tool_choice", "model_settings")


def request_json(request: AnyModelRequest) -> dict[str, object]:
    """Return the request to the model as arguments of a call: messages, tools and settings.

    Args:
        request: The request of the agent.

    Raises:
        ValueError: A part cannot be written as JSON; then nothing may be sent.
    """
    request_facts: dict[str, object] = {
        "messages": [_plain(message) for message in (*_system(request), *request.messages)]
    }
    if request.tools:
        request_facts["tools"] = [
            _json(convert_to_openai_tool(tool) if isinstance(tool, BaseTool) else tool) for tool in request.tools
        ]
    return request_facts | {name: _json(value) for name in _AROUND if (value := getattr(request, name, None))}


def response_json(response: AnyModelResponse) -> object:
    """Return the answer of the model.

    Args:
        response: The response for the agent.

    Raises:
        ValueError: A part cannot be written as JSON.
    """
    return [_plain(message) for message in response.result]


def revised_request(request: AnyModelRequest, changed: Mapping[str, object]) -> AnyModelRequest:
    """Return a request with messages as obligations changed them.

    Args:
        request: The request of the agent.
        changed: What :func:`request_json` returned, changed.

    Raises:
        ValueError: Something else than the text of messages was changed.
    """
    before = request_json(request)
    if {name: value for name, value in changed.items() if name != "messages"} != {
        name: value for name, value in before.items() if name != "messages"
    }:
        raise ValueError("the tools or settings of a request cannot be changed")
    system = _system(request)
    messages = _revised([*system, *request.messages], before["messages"], changed.get("messages"), _SENT)
    if not system or messages[0] is system[0]:
        return request.override(messages=cast("Any", messages[len(system) :]))
    overrides: dict[str, object] = {"messages": messages[1:]}
    if isinstance(cast("object", getattr(request, "system_message", None)), SystemMessage):
        overrides["system_message"] = messages[0]
    else:
        overrides["system_prompt"] = messages[0].content
    return request.override(**cast("Any", overrides))


def revised_response(response: AnyModelResponse, changed: object) -> AnyModelResponse:
    """Return a response with messages as obligations changed them; the arguments of its calls stay as they are.

    Args:
        response: The response of the model.
        changed: What :func:`response_json` returned, changed.

    Raises:
        ValueError: Something else than the text of messages was changed.
    """
    if cast("object", response.structured_response) is not None:
        raise ValueError("an answer in a structure cannot be changed")
    return dataclasses.replace(response, result=_revised(response.result, response_json(response), changed, _SAID))


def _revised(
    messages: Sequence[BaseMessage], before: object, after: object, members: Collection[str]
) -> list[BaseMessage]:
    old, new = cast("list[dict[str, object]]", before), cast("list[dict[str, object]]", after)
    if not isinstance(after, list) or not len(messages) == len(old) == len(new):
        raise ValueError("a message was dropped")
    return [_revised_message(*each, members) for each in zip(messages, old, new, strict=True)]


def _revised_message(
    message: BaseMessage, old: Mapping[str, object], new: Mapping[str, object], members: Collection[str]
) -> BaseMessage:
    if old == new:
        return message
    changes = {name: new.get(name) for name in old if new.get(name) != old[name]}
    for name, value in changes.items():
        if name not in members or value is None or getattr(message, name) != old[name]:
            raise ValueError(f"the {name} of a message cannot be changed")
    if members is _SAID and any(_calls_in(old.get(name)) != _calls_in(new.get(name)) for name in changes):
        raise ValueError("the arguments of a call cannot be changed")
    return message.model_copy(update=changes)


def _calls_in(value: object) -> list[object]:
    """Return the calls in the content of an answer, or in its additional members."""
    if isinstance(value, dict):
        members = cast("dict[str, object]", value)
        return [members[name] for name in ("tool_calls", "function_call") if name in members]
    blocks = cast("list[object]", value) if isinstance(value, list) else []
    return [block for block in blocks if isinstance(block, dict) and not block.keys().isdisjoint(_ARGUMENTS)]


def model_of(request: AnyModelRequest) -> Model | None:
    """Return the requested model, as integrations name it; ``None`` if unnamed.

    Args:
        request: The request of the agent.
    """
    settings = cast("object", getattr(request, "model_settings", None))
    chosen = cast("dict[str, object]", settings) if isinstance(settings, dict) else {}
    for name in ("model", "model_name"):
        for named in (chosen.get(name), getattr(request.model, name, None)):
            if isinstance(named, str) and named:
                return Model(name=named, provider=_provider(request.model))
    return None


def _provider(model: object) -> str | None:
    """Return the provider of a model by the package of its integration: ``openai`` for ``langchain_openai``."""
    package = type(model).__module__.partition(".")[0]
    name = package.removeprefix("langchain_")
    return None if name == package or name in ("core", "community", "classic") else name


def answering_model(response: AnyModelResponse) -> Model | None:
    """Return the answering model, by the metadata of its message; ``None`` if unnamed.

    Args:
        response: The response for the agent.
    """
    for message in reversed(response.result):
        metadata = cast("dict[str, object]", message.response_metadata)
        name, provider = metadata.get("model_name"), metadata.get("model_provider")
        if isinstance(name, str) and name:
            return Model(name=name, provider=provider if isinstance(provider, str) and provider else None)
    return None


def _system(request: AnyModelRequest) -> list[SystemMessage]:
    # Before langchain 1.1 there was only its text.
    message = cast("object", getattr(request, "system_message", None))
    if isinstance(message, SystemMessage):
        return [message]
    return [] if request.system_prompt is None else [SystemMessage(request.system_prompt)]


def _plain(message: BaseMessage) -> dict[str, object]:
    members = {name: _json(value) for name in _MEMBERS if (value := getattr(message, name, None))}
    return {"type": message.type, "content": _json(cast("object", message.content)), **members}


def _json(value: object) -> object:
    return _ANYTHING.dump_python(value, mode="json", fallback=repr)
