"""Accounting for prompts: parts that no guard delivered lower the mark of the task."""

import json
from collections.abc import Callable, Iterable
from typing import Final, Literal, NamedTuple

from pydantic import ConfigDict, TypeAdapter

from agent_identity._flow.labels import UNKNOWN, UNTRUSTED
from agent_identity._guard.tasks.task import Task
from agent_identity._guard.tasks.task_context import tasks_in
from agent_identity._guard.tasks.task_flow import TaskFlow
from agent_identity.errors import Denied

_PROMPT: Final = "prompt"
_ANYTHING: Final = TypeAdapter[object](object, config=ConfigDict(ser_json_bytes="base64"))


class Part(NamedTuple):
    """One part of a prompt. Frozen.

    Attributes:
        by: The author: the application, a person, or another source, such as a tool or a model.
        content: A text, or a value that is written as JSON.
    """

    by: Literal["application", "person", "other"]
    content: object


def account(task: Task | None, contents: Iterable[object]) -> None:
    """Register contents whose labels already count in the mark of a task, so that they do not lower it again.

    Args:
        task: The task that is open.
        contents: The contents, each in its form in a prompt.
    """
    if task is not None and task.flow is not None:
        for content in contents:
            task.flow.shared.account(_text_of(content))


def join_prompt(task: Task | None, parts: Iterable[Part], *, are_principals: bool, is_provided: bool = False) -> None:
    """Lower the mark of a task for the parts that nobody accounted for. Call it before a model reads them.

    Args:
        task: The task that is open.
        parts: What the model is about to read.
        are_principals: True if the application declares that parts by persons are the principal's own words.
        is_provided: True if the provider of the model may run its own tools, whose results are in its answers.

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


def is_accounted(task: Task | None, content: object) -> bool:
    """Return whether the labels of a content count in the mark of a task already, or the task has none.

    Args:
        task: The task that is open.
        content: The content, in its form in a prompt.
    """
    return task is None or task.flow is None or _is_accounted(task.flow, content)


def resume_run(run: str, parts: Callable[[], Iterable[Part]]) -> None:
    """Lower the marks of the open tasks that have not seen a run begin, for what its messages bring along.

    Args:
        run: What was told to :func:`~agent_identity.adapters.saw_calls` when the run began; empty if unknown.
        parts: Returns the parts of its messages.

    Raises:
        EvidenceError: A mark could not be recorded; the model must not be asked.
    """
    for task in tasks_in():
        if task.flow is not None and not task.flow.shared.has_seen(run):
            join_prompt(task, parts(), are_principals=False)


def _is_accounted(flow: TaskFlow, content: object) -> bool:
    try:
        return flow.shared.is_accounted(_text_of(content))
    except (ValueError, TypeError, RecursionError):  # It cannot be written: nobody has accounted for it.
        return False


def _said(task: Task, text: str) -> bool:
    """Register words of the principal; return whether the task accepts them."""
    try:
        task.said(text)
    except (Denied, ValueError):  # A delegated task, a guarded body, or too long a text.
        return False
    return True


def _text_of(content: object) -> str:
    if isinstance(content, str):
        return content
    plain = _ANYTHING.dump_python(content, mode="json", fallback=repr)
    return json.dumps(plain, ensure_ascii=False, sort_keys=True, default=repr)
