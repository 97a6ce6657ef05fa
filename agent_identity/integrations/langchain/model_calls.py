"""One guarded call of a model: its prompt may be redacted, its answer is inspected before anybody reads it."""

import json
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from contextlib import nullcontext, suppress
from functools import partial
from typing import Any, cast

from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
    convert_to_messages,
)
from langgraph.config import get_config

from agent_identity import Task, adapters
from agent_identity.adapters import Call, CallRequest, GuardedCall, Part, Shown
from agent_identity.errors import AttenuationError, Denied
from agent_identity.integrations.langchain.held_answers import HeldAnswer
from agent_identity.integrations.langchain.model_io import (
    Prompt,
    answering_model,
    model_of,
    request_json,
    response_json,
    revised_answer,
    revised_messages,
)
from agent_identity.integrations.narrowing import is_array, is_dict, is_list

__all__ = ["ModelCall", "account", "account_answer", "join_prompt"]


class ModelCall:
    """One call of a model.

    Args:
        prompt: What the model is asked.
    """

    def __init__(self, prompt: Prompt) -> None:
        self._prompt = prompt
        self._messages = prompt.messages
        self._call: Call | None = None
        self._is_told = False

    def is_refused_by(self, error: Denied | AttenuationError) -> bool:
        """Return whether an error is the refusal of this call, and not of something that ran in it or after it."""
        return not self._is_told and (self._call is None or self._call.denial is error)

    def through(self, guard: GuardedCall, send: Callable[[list[BaseMessage]], object]) -> object:
        """Call the model under guard, and return its answer as it is delivered.

        Args:
            guard: The guard.
            send: Calls the model with messages.

        Raises:
            Denied: The call is refused, or its answer withheld.
        """
        held = HeldAnswer(get_config()) if guard.holds else None

        def body(call: Call) -> Shown:
            self._call = call
            with nullcontext() if held is None else held.unread():
                return self._shown(call, send(self._messages))

        delivered = guard.run(self._asked(), body)
        if held is not None:
            self._is_told = True
            held.tell(self._messages, [cast("BaseMessage", delivered)])
        return delivered

    async def through_async(self, guard: GuardedCall, send: Callable[[list[BaseMessage]], Awaitable[object]]) -> object:
        """Do what :meth:`through` does without blocking the event loop."""
        held = HeldAnswer(get_config()) if guard.holds else None

        async def body(call: Call) -> Shown:
            self._call = call
            with nullcontext() if held is None else held.unread():
                return self._shown(call, await send(self._messages))

        delivered = await guard.run_async(self._asked(), body)
        if held is not None:
            self._is_told = True
            await held.tell_async(self._messages, [cast("BaseMessage", delivered)])
        return delivered

    def _asked(self) -> CallRequest:
        prompt = self._prompt
        return CallRequest(request_json(prompt), can_route=False, model=model_of(prompt), revise=self._revise)

    def _revise(self, changed: Mapping[str, object]) -> None:
        self._messages = revised_messages(self._prompt, changed)

    @staticmethod
    def _shown(call: Call, answer: object) -> Shown:
        call.model = answering_model(answer)
        return Shown(answer, response_json(answer), rebuild=partial(revised_answer, answer))


def account(task: Task | None, result: object) -> None:
    """Register the messages that a guarded tool delivered, so that they do not lower the mark again.

    A tool may write messages in the name of a person as well; these are accounted for, and nobody's words.

    Args:
        task: The task that is open.
        result: What the call returned: a message, a command with messages, or several of them.
    """
    if task is not None and task.flow is not None:
        adapters.account(task, (content for message in _messages_in(result) for content in _delivered(message)))


def _delivered(message: BaseMessage) -> Generator[object]:
    yield from _contents(message)
    if isinstance(message, ToolMessage) and not isinstance(message.content, str):
        # ToolNode writes lists as text, unless they are blocks that models read.
        yield json.dumps(message.content, ensure_ascii=False, default=repr)


def _messages_in(result: object) -> Generator[BaseMessage]:
    """Yield the messages of a result: itself, or those that commands add or send."""
    for each in _listed(result):
        if isinstance(each, BaseMessage):
            yield each
            continue
        sent = (getattr(one, "arg", None) for one in _listed(getattr(each, "goto", None)))
        for state in (getattr(each, "update", None), *sent):
            members = state if is_dict(state) else None
            found = getattr(cast("object", state), "messages", None) if members is None else members.get("messages")
            for one in _listed(cast("object", found)):
                with suppress(ValueError, TypeError, NotImplementedError):  # It is no message, and LangChain says so.
                    yield from convert_to_messages([cast("Any", one)])


def _listed(value: object) -> list[object]:
    return list(value) if is_array(value) else [value]


def account_answer(task: Task | None, answer: object) -> None:
    """Know the answer of a model: it comes from what the model has read, whose labels count in the mark.

    Args:
        task: The task that is open.
        answer: The message that the model delivered.
    """
    if task is not None and task.flow is not None and isinstance(answer, AIMessage):
        adapters.account(task, _contents(answer))


def join_prompt(
    task: Task | None, messages: Sequence[BaseMessage], *, system: object = None, is_provided: bool = False
) -> None:
    """Lower the mark of a task for the messages that nobody accounted for, before a model reads them.

    Args:
        task: The task that is open.
        messages: What the model is about to read.
        system: The content of the application's system message, if that is the first one.
        is_provided: The provider of the model may run tools of its own, whose results are in its answers.

    Raises:
        EvidenceError: The mark could not be recorded; the model must not be asked.
    """
    # Any tool may write any message into the state of a graph, also a system message or in the name of a person.
    own = bool(messages) and isinstance(messages[0], SystemMessage) and messages[0].content == system
    parts = (Part("other", content) for message in messages[own:] for content in _contents(message))
    adapters.join_prompt(task, parts, are_principals=False, is_provided=is_provided)


def _contents(message: BaseMessage) -> Generator[object]:
    """Yield the contents of a message in their form in prompts: of a person each block, of others the whole.

    A person may attach a document, which others have written.
    """
    content = cast("object", message.content)
    if isinstance(message, HumanMessage) and is_list(content):
        yield from map(_said, content)
        return
    calls = message.tool_calls if isinstance(message, AIMessage) else None
    if isinstance(content, str) and not calls:
        yield content
    else:
        yield json.dumps([content, calls], ensure_ascii=False, sort_keys=True, default=repr)


def _said(block: object) -> object:
    """Return the text of a block that is the words of a person, and any other block itself."""
    if not is_dict(block):
        return block
    text = block.get("text")
    return text if block.get("type") == "text" and isinstance(text, str) else block
