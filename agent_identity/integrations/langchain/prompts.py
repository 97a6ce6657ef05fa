"""Accounts for what a model is about to read: messages that no guard delivered lower the mark of the task."""

import json
from collections.abc import Iterable
from typing import Final, cast

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage

from agent_identity._enforcement.tasks import Task
from agent_identity._flow import UNKNOWN, UNTRUSTED
from agent_identity.errors import Denied

__all__ = ["account", "account_answer", "join_prompt"]

_PROMPT: Final = "prompt"


def account(task: Task | None, result: object) -> None:
    """Know the answers of a guarded tool call, so that the model may read them.

    Args:
        task: The task that is open.
        result: What the call returned: a message, or a command with messages.
    """
    if task is None or task.flow is None:
        return
    update = cast("object", getattr(result, "update", None))
    listed = cast("dict[str, object]", update).get("messages") if isinstance(update, dict) else None
    for message in (result, *(cast("list[object]", listed) if isinstance(listed, list) else ())):
        if isinstance(message, ToolMessage):
            task.flow.account(_text_of(message))


def account_answer(task: Task | None, answer: object) -> None:
    """Know the answer of a model: it comes from what the model has read, whose labels count in the mark.

    Args:
        task: The task that is open.
        answer: A message, or a response with messages.
    """
    if task is None or task.flow is None:
        return
    listed = cast("object", getattr(answer, "result", None))
    for message in cast("list[object]", listed) if isinstance(listed, list) else [answer]:
        if isinstance(message, AIMessage):
            task.flow.account(_text_of(message))


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
    if task is None or task.flow is None:
        return
    unknown = False
    for message in messages:
        if isinstance(message, SystemMessage) or task.flow.is_accounted(text := _text_of(message)):
            continue
        if isinstance(message, HumanMessage) and are_principals and text and _said(task, text):
            continue
        unknown = True
    if unknown or is_provided:
        label = UNTRUSTED if is_provided else UNKNOWN
        task.flow.join(label, intent=None, name=_PROMPT, cause=_PROMPT)


def _said(task: Task, text: str) -> bool:
    """Take in the words of the principal; return whether the task may hear them."""
    try:
        task.said(text)
    except (Denied, ValueError):  # A delegated task, a guarded body, or a text too long.
        return False
    return True


def _text_of(message: BaseMessage) -> str:
    content = cast("object", message.content)
    calls = message.tool_calls if isinstance(message, AIMessage) else None
    if isinstance(content, str) and not calls:
        return content
    return json.dumps([content, calls], ensure_ascii=False, sort_keys=True, default=repr)
