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
        prompts.account(task, map(_text_of, _messages_in(result)))


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
    prompts.account(task, (_text_of(message) for message in messages if isinstance(message, AIMessage)))


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
    parts = (_part_of(message) for message in messages)
    prompts.join_prompt(task, parts, are_principals=are_principals, is_provided=is_provided)


def _part_of(message: BaseMessage) -> Part:
    if isinstance(message, SystemMessage):
        return Part("application", None)
    # What LangChain writes in the name of a person, as a summary of what tools returned, it marks so.
    is_person = isinstance(message, HumanMessage) and "lc_source" not in message.additional_kwargs
    return Part("person" if is_person else "other", _text_of(message))


def _text_of(message: BaseMessage) -> str:
    content = cast("object", message.content)
    calls = message.tool_calls if isinstance(message, AIMessage) else None
    if isinstance(content, str) and not calls:
        return content
    return json.dumps([content, calls], ensure_ascii=False, sort_keys=True, default=repr)
