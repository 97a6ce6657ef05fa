"""Requests to and answers from a model, as JSON for inspectors: everything that is sent, not only the text.

LangChain's integrations send the message members that providers know, wherever they are: the reasoning of a model
and calls in an older form are in ``additional_kwargs``, a participant is in ``name``. An ``artifact`` is not sent.
https://docs.langchain.com/oss/python/langchain/messages
"""

from typing import Any, Final, TypeAlias, cast

from langchain.agents.middleware import ModelRequest, ModelResponse
from langchain_core.messages import BaseMessage, SystemMessage
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import ConfigDict, TypeAdapter

from agent_identity._evidence.record import Model

__all__ = ["AnyModelRequest", "AnyModelResponse", "answering_model", "model_of", "request_json", "response_json"]

AnyModelRequest: TypeAlias = (
    "ModelRequest[Any]"  # LangChain's types require it, for any contexts and answers of agents.
)
AnyModelResponse: TypeAlias = "ModelResponse[Any]"

_MEMBERS: Final = (
    *("name", "id", "tool_calls", "invalid_tool_calls", "tool_call_id", "status"),
    *("additional_kwargs", "response_metadata"),
)
_ANYTHING: Final = TypeAdapter[object](object, config=ConfigDict(ser_json_bytes="base64"))
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
