"""Accounts for what a model is about to read: parts that no guard delivered lower the mark of the task."""

import json
from collections.abc import Iterable
from typing import Final, Literal, NamedTuple

from pydantic import ConfigDict, TypeAdapter

from agent_identity._enforcement.tasks import Task, TaskFlow
from agent_identity._flow import UNKNOWN, UNTRUSTED
from agent_identity.errors import Denied

__all__ = ["Part", "account", "join_prompt"]

_PROMPT: Final = "prompt"
_ANYTHING: Final = TypeAdapter[object](object, config=ConfigDict(ser_json_bytes="base64"))


class Part(NamedTuple):
    """One part of a prompt. Frozen.

    Attributes:
        by: Who it is from: the application, a person, or somebody else, such as a tool or a model.
        content: A text, or something that is written as JSON.
    """

    by: Literal["application", "person", "other"]
    content: object


def account(task: Task | None, contents: Iterable[object]) -> None:
    """Know contents whose labels count in the mark of a task, so that the model may read them.

    Args:
        task: The task that is open.
        contents: The contents, each as it will stand in a prompt.
    """
    if task is not None and task.flow is not None:
        for content in contents:
            task.flow.account(_text_of(content))


def join_prompt(task: Task | None, parts: Iterable[Part], *, are_principals: bool, is_provided: bool = False) -> None:
    """Lower the mark of a task for the parts that nobody accounted for, before a model reads them.

    Args:
        task: The task that is open.
        parts: What the model is about to read.
        are_principals: Parts of people are those of the principal, by the word of the application.
        is_provided: The provider of the model may run tools of its own, whose results are in its answers.

    Raises:
        EvidenceError: The mark could not be recorded; the model must not be asked.
    """
    if task is None or task.flow is None:
        return
    unknown = False
    for part in parts:
        if part.by == "application" or _is_accounted(task.flow, part.content):
            continue
        if part.by == "person" and are_principals and isinstance(part.content, str) and _said(task, part.content):
            continue
        unknown = True
    if unknown or is_provided:
        label = UNTRUSTED if is_provided else UNKNOWN
        task.flow.join(label, intent=None, name=_PROMPT, cause=_PROMPT)


def _is_accounted(flow: TaskFlow, content: object) -> bool:
    try:
        return flow.is_accounted(_text_of(content))
    except (ValueError, TypeError, RecursionError):  # It cannot be written: nobody has accounted for it.
        return False


def _said(task: Task, text: str) -> bool:
    """Take in the words of the principal; return whether the task may hear them."""
    try:
        task.said(text)
    except (Denied, ValueError):  # A delegated task, a guarded body, or a text too long.
        return False
    return True


def _text_of(content: object) -> str:
    if isinstance(content, str):
        return content
    plain = _ANYTHING.dump_python(content, mode="json", fallback=repr)
    return json.dumps(plain, ensure_ascii=False, sort_keys=True, default=repr)
