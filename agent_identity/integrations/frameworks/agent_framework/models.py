"""Models of Microsoft Agent Framework: the prompt is judged before it is sent, the answer before anybody reads it."""

import functools
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping, Sequence
from typing import Any, Final, cast, final

from agent_framework import (
    ChatContext,
    ChatMiddleware,
    ChatResponse,
    ChatResponseUpdate,
    Content,
    Message,
    ResponseStream,
)
from pydantic import ConfigDict, TypeAdapter

from agent_identity.adapters import Call, CallRequest, Part, Prompt, Shown, ToolCall, guard_failed, refusal
from agent_identity.errors import Denied
from agent_identity.integrations.frameworks.agent_framework.tools import RunFacts, runs_here
from agent_identity.integrations.narrowing import is_array
from agent_identity.records import Model

__all__ = ["GuardedModel", "instruction_texts"]

_ANYTHING: Final = TypeAdapter[object](object, config=ConfigDict(ser_json_bytes="base64"))
_CALLS: Final = frozenset({"function_call", "mcp_server_tool_call"})


@final
class GuardedModel(ChatMiddleware):
    """Guards the model calls of one run.

    Args:
        facts: The facts of the run.
        name: The name of model calls in scopes and rules.
    """

    def __init__(self, facts: RunFacts, name: str) -> None:
        self._facts = facts
        self._name = name

    async def process(self, context: ChatContext, call_next: Callable[[], Awaitable[None]]) -> None:
        """Judge one request and its answer, which is delivered whole; called by the agent."""
        request = _Request(context, call_next, self._facts)
        try:
            response = await self._guarded(request)
        except Denied as denied:
            response = _refused(refusal(denied))
        except Exception as error:
            if error is request.raised:
                raise
            response = _refused(guard_failed("a model", error))
        context.result = _stream_of(response) if context.stream else response

    async def _guarded(self, request: "_Request") -> "ChatResponse[Any]":
        asked = ToolCall(self._name, request.asked(), self._facts.acting, kind="model", prompt=request.prompt())
        with self._facts.at_origin():
            return cast("ChatResponse[Any]", await self._facts.guards.run_async(asked, request.send))


@final
class _Request:
    """One request to a model.

    Args:
        context: The request as the framework describes it.
        call_next: Calls the model.
        facts: The facts of the run. Memories write in the name of the user, and instructions, as well.

    Attributes:
        raised: The error of the model, if it raised one.
    """

    def __init__(self, context: ChatContext, call_next: Callable[[], Awaitable[None]], facts: RunFacts) -> None:
        self._context = context
        self._call_next = call_next
        self._facts = facts
        self._messages: list[object] = []
        self.raised: BaseException | None = None

    def asked(self) -> CallRequest:
        """Return the prompt for inspectors and the policy: messages, tools and settings."""
        self._messages = _plain(self._context.messages)
        options = dict(self._context.options or {})
        tools = [_described(tool) for tool in cast("Sequence[object]", options.pop("tools", None) or ())]
        prompt = {"messages": self._messages, "tools": tools, **cast("dict[str, object]", _json(options))}
        model: object = options.get("model")
        named = Model(name=model) if isinstance(model, str) and model else None
        return CallRequest(prompt, can_route=False, model=named, revise=self._revise)

    def prompt(self) -> Prompt:
        """Return the prompt and the contents of its answer, for information flow."""
        return Prompt(self._parts, _answer_contents, self._is_provided)

    def _is_provided(self) -> bool:
        tools: object = (self._context.options or {}).get("tools") or ()
        listed = tools if is_array(tools) else [tools]
        return any(not runs_here(tool) for tool in listed)

    def _parts(self) -> Generator[Part]:
        own = self._facts.instructions
        for added in _added((self._context.options or {}).get("instructions"), own):
            yield Part("other", added)
        for message in self._context.messages:
            for content in message.contents:
                if message.role == "system" and content.text in own:
                    continue
                by = message.role == "user" and content.type == "text" and content.text in self._facts.spoken
                yield from (Part("person" if by else "other", one) for one in _contents(content))

    async def send(self, call: Call) -> Shown:
        """Call the model, and return its answer for the guard.

        Args:
            call: The guarded call.
        """
        try:
            await self._call_next()
            result: object = self._context.result
            if isinstance(result, ResponseStream):
                result = await result.get_final_response()
        except BaseException as error:
            self.raised = error
            raise
        response = cast("ChatResponse[Any]", result)
        model: object = response.model
        call.model = Model(name=model) if isinstance(model, str) and model else None
        return Shown(response, _plain(response.messages), rebuild=functools.partial(_rebuilt, response))

    def _revise(self, changed: Mapping[str, object]) -> None:
        self._context.messages = _revised(self._context.messages, self._messages, changed["messages"])


def instruction_texts(*instructions: object) -> tuple[str, ...]:
    """Return the texts of instructions, each of which may be a list of blocks in the provider's form.

    Args:
        instructions: The instructions.
    """
    texts = list[str]()
    for one in filter(None, instructions):
        blocks = one if is_array(one) else [one]
        texts += [block if isinstance(block, str) else repr(block) for block in blocks]
    return tuple(texts)


def _added(instructions: object, own: Sequence[str]) -> Generator[str]:
    """Yield what others, such as memories, have added to the instructions of the application."""
    if not isinstance(instructions, str):
        yield from (text for text in instruction_texts(instructions) if text not in own)
        return
    added, texts = instructions.strip("\n"), [text.strip("\n") for text in own]
    for text in texts:
        added = added.removeprefix(text).strip("\n")
    for text in reversed(texts):
        added = added.removesuffix(text).strip("\n")
    if added:
        yield added


def _revised(messages: Sequence[Message], before: object, after: object) -> list[Message]:
    """Return messages with texts as obligations changed them.

    Raises:
        ValueError: Something else was changed.
    """
    old, new = cast("list[Any]", before), cast("list[Any]", after)
    if not len(messages) == len(old) == len(new):
        raise ValueError("a message was dropped")
    return [one if a == b else _changed(one, b) for one, a, b in zip(messages, old, new, strict=True)]


def _changed(message: Message, new: Mapping[str, Any]) -> Message:
    changed = Message.from_dict(dict(new))
    if _calls(message) != _calls(changed) or len(message.contents) != len(changed.contents):
        raise ValueError("the calls in a message cannot be changed")
    return changed


def _rebuilt(response: "ChatResponse[Any]", changed: object) -> "ChatResponse[Any]":
    """Return an answer with texts as obligations changed them.

    Raises:
        ValueError: Something else was changed.
    """
    response.messages = _revised(response.messages, _plain(response.messages), changed)
    response.raw_representation, response.additional_properties = None, {}  # They may have the text once more.
    return response


def _calls(message: Message) -> list[object]:
    return [_json(content.to_dict()) for content in message.contents if content.type in _CALLS]


def _answer_contents(response: object) -> Generator[object]:
    """Yield the contents of an answer, in their form in later prompts."""
    for message in cast("ChatResponse[Any]", response).messages:
        for content in message.contents:
            yield from _contents(content)


def _contents(content: Content) -> Generator[object]:
    """Yield the contents of a part of a prompt or answer, without call ids."""
    if content.type == "function_call":
        arguments = content.parse_arguments() or {}
        yield [content.name, arguments]
        yield from (value for value in arguments.values() if isinstance(value, str))
    elif content.type == "function_result":
        for item in content.items or []:
            yield from _contents(item)
        if not content.items:
            yield content.result
    else:
        yield content.text if content.text is not None else _json(content.to_dict())


def _plain(messages: Sequence[Message]) -> list[object]:
    return [_json(message.to_dict()) for message in messages]


def _json(value: object) -> object:
    return _ANYTHING.dump_python(value, mode="json", fallback=repr)


def _described(tool: object) -> object:
    describe = getattr(tool, "to_json_schema_spec", None)
    return _json(tool if describe is None else describe())


def _refused(text: str) -> "ChatResponse[Any]":
    """Return an answer in the place of that of the model."""
    return ChatResponse(messages=[Message("assistant", [Content.from_text(text)])])


def _stream_of(response: "ChatResponse[Any]") -> "ResponseStream[ChatResponseUpdate, ChatResponse[Any]]":
    """Return an answer as a stream with one part for each message."""

    async def updates() -> AsyncGenerator[ChatResponseUpdate]:
        for message in response.messages:
            yield ChatResponseUpdate(
                contents=message.contents,
                role=cast("Any", message.role),
                author_name=message.author_name,
                message_id=message.message_id,
                response_id=response.response_id,
                conversation_id=response.conversation_id,
                model=response.model,
                created_at=response.created_at,
                finish_reason=response.finish_reason,
                additional_properties=response.additional_properties,
            )
        if response.usage_details is not None:
            yield ChatResponseUpdate(contents=[Content.from_usage(response.usage_details)])

    def whole(_: Sequence[ChatResponseUpdate]) -> "ChatResponse[Any]":
        return response

    return ResponseStream(updates(), finalizer=whole)
