"""Requests to and answers from a model, as JSON for inspectors: everything that is sent, not only the text.

LangChain's integrations send the message members that providers know, wherever they are: the reasoning of a model
and calls in an older form are in ``additional_kwargs``, a participant is in ``name``. An ``artifact`` is not sent.
https://docs.langchain.com/oss/python/langchain/messages
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeAlias, cast

from langchain.agents.middleware import ModelRequest, ModelResponse
from langchain_core.messages import BaseMessage, SystemMessage
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import ConfigDict, TypeAdapter

from agent_identity.integrations.narrowing import is_dict, is_list
from agent_identity.records import Model

__all__ = [
    "AnyModelRequest",
    "AnyModelResponse",
    "Prompt",
    "answering_model",
    "model_of",
    "request_json",
    "response_json",
    "revised_answer",
    "revised_messages",
    "system_content",
]

AnyModelRequest: TypeAlias = (
    "ModelRequest[Any]"  # LangChain's types require it, for any contexts and answers of agents.
)
AnyModelResponse: TypeAlias = "ModelResponse[Any]"


class Prompt(NamedTuple):
    """What a model object is asked.

    Attributes:
        messages: The messages, the system message among them.
        tools: The tools that are bound to the model.
        choice: Which of them it must call.
        settings: All other options.
        model: The model.
        system: The content of the application's system message, which is the first of the messages; ``None`` without.
        structured: LangChain reads the answer as a structure, and not as text.
    """

    messages: list[BaseMessage]
    tools: tuple[object, ...]
    choice: object
    settings: Mapping[str, object]
    model: object
    system: object
    structured: bool


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


def system_content(request: object) -> object:
    """Return the content of the system message of a request of an agent; ``None`` without one."""
    # Before langchain 1.1 there was only its text.
    message = getattr(request, "system_message", None)
    return message.content if isinstance(message, SystemMessage) else getattr(request, "system_prompt", None)


def request_json(prompt: Prompt) -> dict[str, object]:
    """Return what a model is asked as arguments of a call: messages, tools and settings.

    Args:
        prompt: What the model is asked.

    Raises:
        ValueError: A part cannot be written as JSON; then nothing may be sent.
    """
    facts: dict[str, object] = {"messages": [_plain(message) for message in prompt.messages]}
    if prompt.tools:
        facts["tools"] = [
            _json(convert_to_openai_tool(tool) if isinstance(tool, BaseTool) else tool) for tool in prompt.tools
        ]
    around = {"tool_choice": prompt.choice, "model_settings": prompt.settings}
    return facts | {name: _json(value) for name, value in around.items() if value}


def response_json(answer: object) -> object:
    """Return the answer of a model.

    Args:
        answer: Its message.

    Raises:
        ValueError: A part cannot be written as JSON.
    """
    return [_plain(answer) if isinstance(answer, BaseMessage) else _json(answer)]


def revised_messages(prompt: Prompt, changed: Mapping[str, object]) -> list[BaseMessage]:
    """Return the messages of a prompt as obligations changed them.

    Args:
        prompt: What the model is asked.
        changed: What :func:`request_json` returned, changed.

    Raises:
        ValueError: Something else than the text of messages was changed.
    """
    before = request_json(prompt)
    if {name: value for name, value in changed.items() if name != "messages"} != {
        name: value for name, value in before.items() if name != "messages"
    }:
        raise ValueError("the tools or settings of a request cannot be changed")
    return _revised(prompt.messages, before["messages"], changed.get("messages"), _SENT)


def revised_answer(answer: object, changed: object) -> object:
    """Return an answer with its text as obligations changed it; the arguments of its calls stay as they are.

    Args:
        answer: The message of the model.
        changed: What :func:`response_json` returned, changed.

    Raises:
        ValueError: Something else than the text of a message was changed.
    """
    if not isinstance(answer, BaseMessage):
        raise ValueError("an answer that is no message cannot be changed")  # noqa: TRY004  As documented.
    (revised,) = _revised([answer], response_json(answer), changed, _SAID)
    return revised


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
    if is_dict(value):
        return [value[name] for name in ("tool_calls", "function_call") if name in value]
    blocks = value if is_list(value) else []
    return [block for block in blocks if isinstance(block, dict) and not block.keys().isdisjoint(_ARGUMENTS)]


def model_of(prompt: Prompt) -> Model | None:
    """Return the requested model, as integrations name it; ``None`` if unnamed.

    Args:
        prompt: What the model is asked.
    """
    for name in ("model", "model_name"):
        for named in (prompt.settings.get(name), getattr(prompt.model, name, None)):
            if isinstance(named, str) and named:
                return Model(name=named, provider=_provider(prompt.model))
    return None


def _provider(model: object) -> str | None:
    """Return the provider of a model by the package of its integration: ``openai`` for ``langchain_openai``."""
    package = type(model).__module__.partition(".")[0]
    name = package.removeprefix("langchain_")
    return None if name == package or name in ("core", "community", "classic") else name


def answering_model(answer: object) -> Model | None:
    """Return the answering model, by the metadata of its message; ``None`` if unnamed.

    Args:
        answer: The message.
    """
    metadata = cast("dict[str, object]", answer.response_metadata) if isinstance(answer, BaseMessage) else {}
    name, provider = metadata.get("model_name"), metadata.get("model_provider")
    if isinstance(name, str) and name:
        return Model(name=name, provider=provider if isinstance(provider, str) and provider else None)
    return None


def _plain(message: BaseMessage) -> dict[str, object]:
    members = {name: _json(value) for name in _MEMBERS if (value := getattr(message, name, None))}
    return {"type": message.type, "content": _json(cast("object", message.content)), **members}


def _json(value: object) -> object:
    return _ANYTHING.dump_python(value, mode="json", fallback=repr)
