"""Accounting for prompts of LangChain models; see :mod:`agent_identity.integrations.prompts`."""

import json
from collections.abc import Generator, Iterable
from contextlib import suppress
from typing import Any, cast

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, convert_to_messages

from agent_identity._enforcement.tasks import Task
from agent_identity.integrations import prompts
from agent_identity.integrations.prompts import Part

__all__ = ["account", "account_answer", "join_prompt"]


def account(task: Task | None, result: object) -> None:
    """Register the messages of a guarded tool call, so that they do not lower the mark again.

    A tool may write messages in the name of a person as well; these are accounted for, and nobody's words.

    Args:
        task: The task that is open.
        result: What the call returned: a message, or a command with messages.
    """
    if task is not None and task.flow is not None:
        prompts.account(task, (content for message in _messages_in(result) for content in _contents(message)))


def _messages_in(result: object) -> Generator[BaseMessage]:
    """Yield the messages of a result: itself, or those that a command adds or sends."""
    goto = getattr(result, "goto", None)
    states = [getattr(result, "update", None), *(getattr(one, "arg", None) for one in _listed(goto))]
    listed = [cast("dict[str, object]", state).get("messages") for state in states if isinstance(state, dict)]
    if isinstance(result, BaseMessage):
        yield result
    for one in (one for each in listed for one in _listed(each)):
        with suppress(ValueError, TypeError, NotImplementedError):  # It is no message, and LangChain says so.
            yield from convert_to_messages([cast("Any", one)])


def _listed(value: object) -> list[object]:
    return list(cast("list[object]", value)) if isinstance(value, list | tuple) else [value]


def account_answer(task: Task | None, answer: object) -> None:
    """Know the answer of a model: it comes from what the model has read, whose labels count in the mark.

    Args:
        task: The task that is open.
        answer: A message, or a response with messages.
    """
    if task is None or task.flow is None:
        return
    listed = cast("object", getattr(answer, "result", None))
    messages = cast("list[object]", listed) if isinstance(listed, list) else [answer]
    prompts.account(task, (each for one in messages if isinstance(one, AIMessage) for each in _contents(one)))


def join_prompt(
    task: Task | None, messages: Iterable[BaseMessage], *, are_principals: bool, is_provided: bool = False
) -> None:
    """Lower the mark of a task for the messages that nobody accounted for, before a model reads them.

    Args:
        task: The task that is open.
        messages: What the model is about to read.
        are_principals: Messages of people are those of the principal, by the word of the application.
        is_provided: The provider of the model may run tools of its own, whose results are in its answers.

    Raises:
        EvidenceError: The mark could not be recorded; the model must not be asked.
    """
    parts = (part for message in messages for part in _parts_of(message))
    prompts.join_prompt(task, parts, are_principals=are_principals, is_provided=is_provided)


def _parts_of(message: BaseMessage) -> Generator[Part]:
    if isinstance(message, SystemMessage):
        return
    # What LangChain writes in the name of a person, as a summary of what tools returned, it marks so.
    is_person = isinstance(message, HumanMessage) and "lc_source" not in message.additional_kwargs
    yield from (Part("person" if is_person else "other", content) for content in _contents(message))


def _contents(message: BaseMessage) -> Generator[object]:
    """Yield the contents of a message in their form in prompts: of a person each block, of others the whole.

    A person may attach a document, which others have written.
    """
    content = cast("object", message.content)
    if isinstance(message, HumanMessage) and isinstance(content, list):
        yield from map(_said, cast("list[object]", content))
        return
    calls = message.tool_calls if isinstance(message, AIMessage) else None
    if isinstance(content, str) and not calls:
        yield content
    else:
        yield json.dumps([content, calls], ensure_ascii=False, sort_keys=True, default=repr)


def _said(block: object) -> object:
    """Return the text of a block that is the words of a person, and any other block itself."""
    if not isinstance(block, dict):
        return block
    one = cast("dict[str, object]", block)
    text = one.get("text")
    return text if one.get("type") == "text" and isinstance(text, str) else one
