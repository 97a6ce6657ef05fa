"""Guarded tools and models of Strands Agents: proxies whose streams pass the guard."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Generator, Mapping, Sequence
from contextlib import AbstractContextManager, aclosing, nullcontext, suppress
from contextvars import Context, ContextVar, copy_context
from types import coroutine
from typing import Any, Final, TypeAlias, cast, final
from weakref import WeakValueDictionary

import wrapt
from opentelemetry import context as otel
from pydantic import BaseModel
from strands import models
from strands.event_loop.streaming import process_stream
from strands.interrupt import Interrupt, InterruptException
from strands.types.tools import AgentTool, ToolUse

from agent_identity import Enforcer
from agent_identity.adapters import (
    Call,
    CallRequest,
    GuardedCall,
    Prompt,
    Shown,
    ToolCall,
    ToolGuards,
    guard_of,
    refusal,
    resumed,
    tool_name,
)
from agent_identity.errors import Denied
from agent_identity.integrations.frameworks.strands.listed_tools import unguarded
from agent_identity.integrations.frameworks.strands.prompts import contents_of, parts_of, result_contents
from agent_identity.integrations.frameworks.strands.session import SESSION
from agent_identity.integrations.frameworks.tool_schemas import with_defaults
from agent_identity.integrations.narrowing import is_list, is_mapping
from agent_identity.records import Model

__all__ = [
    "INTERRUPTING",
    "AdmittedTool",
    "GuardedModel",
    "GuardedTool",
    "HaltedError",
    "Interrupting",
    "Place",
    "answered",
    "arguments_of",
    "resume",
]

Interrupting: TypeAlias = Callable[[str, object], object]
"""Interrupts an agent by name and reason, or returns the answer if there is one."""

INTERRUPTING: Final[ContextVar[Interrupting]] = ContextVar("agent_identity_strands_interrupt")
"""Interrupts the agent in the place of the call that is judged; for approval channels."""

_Event: TypeAlias = Mapping[str, object]
_Emit: TypeAlias = Callable[[object], Awaitable[None]]
_NOTHING: Final = object()
_STATUSES: Final = ("success", "error")
_WITHHELD: Final = "the text of the error is redacted"


class HaltedError(Exception):
    """Carries the event by which a tool asks people, out of the guard.

    Attributes:
        event: The event.
    """

    def __init__(self, event: _Event) -> None:
        super().__init__()
        self.event = event


def arguments_of(value: object, schema: Mapping[str, object] | None) -> tuple[dict[str, object], tuple[str, ...]]:
    """Return the arguments of a call with the defaults of its tool, and the names that the model gave."""
    written = value if is_mapping(value) else {"input": value}
    return with_defaults(written, schema)


@final
class Place:
    """The place in which a call was admitted, until it waits for a person: who resumes it decides where it goes on.

    Args:
        enforcer: The enforcer of the tasks.
    """

    def __init__(self, enforcer: Enforcer) -> None:
        self._enforcer = enforcer
        self._waits = False
        self._take()

    def _take(self) -> None:
        self._context = otel.get_current()
        self._task = self._enforcer.current_task
        self._is_left = False

    def resume(self) -> None:
        """Have the call go on here, if it waits; until it does, whoever answers last decides."""
        if self._waits:
            self._take()

    def leave(self, *interrupts: Interrupt) -> None:
        """Know that the call waits for a person.

        Args:
            interrupts: What the person is asked.
        """
        self._is_left = self._waits = True
        _LEFT.update((one.id, self) for one in interrupts)

    def entered(self) -> AbstractContextManager[None]:
        """Return a block that runs under the task in which the call was admitted, or resumed."""
        self._waits = False
        if self._is_left or self._task is self._enforcer.current_task:
            return nullcontext()
        return resumed(self._context)


_LEFT: Final = WeakValueDictionary[str, Place]()
"""The places of calls that wait for a person, by the ids of interrupts."""


def resume(prompt: object) -> None:
    """Have the calls go on here that a prompt answers: they may have to wait for others before they do.

    Args:
        prompt: The input of a run.
    """
    for block in prompt if is_list(prompt) else ():
        answer = block.get("interruptResponse") if is_mapping(block) else None
        left = _LEFT.get(cast("str", answer.get("interruptId"))) if isinstance(answer, Mapping) else None
        if left is not None:
            left.resume()


@final
class AdmittedTool(wrapt.ObjectProxy):  # type: ignore[misc,type-arg]
    """A tool of a call that may run later, in a context that another call has left.

    Args:
        tool: The tool.
        place: The place in which the call was admitted.
    """

    def __init__(self, tool: AgentTool, place: Place) -> None:
        super().__init__(tool)
        self._self_place = place

    @property
    def taken(self) -> tuple[AgentTool, Place]:
        """The tool and the place."""
        return cast("AgentTool", self.__wrapped__), self._self_place


@final
class GuardedTool(wrapt.ObjectProxy):  # type: ignore[misc,type-arg]
    """A tool whose stream passes the guard; everything else is the tool's.

    Args:
        tool: The tool.
        guards: The guards of the agent's tools.
        acting: The name of the agent.
        interrupt: Interrupts the agent in the place of the call.
        server: The name of the tool's MCP server; ``""`` for an MCP tool of an unnamed one.
        place: The place in which the call was admitted; ``None`` for the one in which it runs.
        session: The id of the agent's session: of its session manager, or of the agent itself.
    """

    def __init__(
        self,
        tool: AgentTool,
        guards: ToolGuards,
        acting: str,
        *,
        interrupt: Interrupting,
        server: str | None,
        place: Place | None,
        session: str | None,
    ) -> None:
        super().__init__(tool)
        self._self_place = place
        self._self_session = session
        self._self_guards = guards
        self._self_acting = acting
        self._self_interrupt = interrupt
        self._self_server = server

    async def stream(
        self, tool_use: ToolUse, invocation_state: dict[str, object], **kwargs: object
    ) -> AsyncGenerator[object]:
        """Run the tool under guard; called by the agent."""
        tool, guards, routed = cast("AgentTool", self.__wrapped__), self._self_guards, True

        async def run() -> object:
            with nullcontext() if self._self_place is None else self._self_place.entered():
                return await judged_run()

        async def judged_run() -> object:
            INTERRUPTING.set(self._interrupt)
            SESSION.set(self._self_session)
            wanted = self._wanted(tool_use)
            guard = guards.guard_of_call(wanted)

            async def body(call: Call) -> object:
                nonlocal routed
                routed = False
                judged = cast("ToolUse", {**tool_use, "input": _judged(call, tool_use["input"])})
                events = unguarded(tool, judged, invocation_state, **kwargs)
                if guard is guard_of(wanted.function):  # It takes the steps of its function itself.
                    return await _drained(events, None if guard.holds else _emit)

                async def emit(event: object) -> None:
                    await _emit(await guard.emit_async(call, event))

                return await _drained(_stepped(events, guard, call), None if guard.holds else emit)

            return await guards.run_async(wanted, body)

        items = _relayed(run())
        try:
            async for item in items:
                if item is not _NOTHING:
                    yield answered(tool_use, item) if routed else item
        except HaltedError as halted:
            asked = cast("_Event", halted.event["tool_interrupt_event"])
            self._leave(*cast("list[Interrupt]", asked["interrupts"]))
            yield halted.event
        except Denied as denied:
            yield answered(tool_use, refusal(denied), "error")
        finally:
            await items.aclose()

    def _interrupt(self, name: str, reason: object) -> object:
        try:
            return self._self_interrupt(name, reason)
        except InterruptException as left:
            self._leave(left.interrupt)
            raise

    def _leave(self, *interrupts: Interrupt) -> None:
        if self._self_place is not None:
            self._self_place.leave(*interrupts)

    def _wanted(self, tool_use: ToolUse) -> ToolCall:
        tool = cast("AgentTool", self.__wrapped__)
        described = cast("Mapping[str, object]", tool.tool_spec.get("inputSchema") or {})
        schema = cast("Mapping[str, object]", described.get("json", described))
        arguments, supplied = arguments_of(tool_use["input"], schema)
        kind = "agent" if tool.tool_type == "agent" else "function" if self._self_server is None else "mcp"
        request = CallRequest(arguments, supplied, call_id=tool_use["toolUseId"])
        server = self._self_server or None
        return ToolCall(
            tool_name(server, tool.tool_name),
            request,
            self._self_acting,
            kind,
            server,
            schema=schema,
            contents=result_contents,
            function=getattr(tool, "__wrapped__", None),
            description=tool.tool_spec.get("description"),
        )


_PROVIDED: Final = ("anthropic_tools", "gemini_tools")
"""Members of the configuration of models with tools that their providers run, besides those in ``params``."""


@final
class GuardedModel(wrapt.ObjectProxy):  # type: ignore[misc,type-arg]
    """A model whose prompts and answers pass the guard; everything else is the model's.

    Args:
        model: The model.
        guards: The guards.
        name: The name of model calls in scopes and rules.
        acting: The name of the agent.
    """

    def __init__(self, model: models.Model, guards: ToolGuards, name: str, acting: str) -> None:
        super().__init__(model)
        self._self_guards = guards
        self._self_name = name
        self._self_acting = acting

    async def stream(
        self,
        messages: Sequence[object],
        tool_specs: Sequence[object] | None = None,
        system_prompt: str | None = None,
        **kwargs: object,
    ) -> AsyncGenerator[object]:
        """Ask the model under guard; called by the agent."""
        guards, name = self._self_guards, self._self_name
        sent: dict[str, object] = {"messages": messages, "system_prompt": system_prompt}
        if kwargs.get("system_prompt_content") is not None:
            sent["system_prompt_content"] = kwargs["system_prompt_content"]
        fixed = {"tools": tool_specs, "tool_choice": kwargs.get("tool_choice")}

        holds, content = guards.of(name, kind="model").holds, list[Mapping[str, Any]]()
        wanted = self._asked(sent, fixed, "model" if holds else "streamed_model", content)

        async def run() -> object:
            async def body(_: Call) -> Shown:
                ask = cast("Any", self.__wrapped__).stream
                prompt = {key: value for key, value in sent.items() if key not in {"messages", "system_prompt"}}
                chunks = ask(sent["messages"], tool_specs, sent["system_prompt"], **{**kwargs, **prompt})
                return await _shown_answer(chunks, None if holds else _emit, content)

            return await guards.run_async(wanted, body)

        try:
            async with aclosing(_relayed(run())) as items:
                async for item in items:
                    for chunk in cast("list[object]", item) if type(item) is list else [item]:
                        yield chunk
        except Denied as denied:
            for chunk in _chunks([{"text": refusal(denied)}], "end_turn"):
                yield chunk

    async def structured_output(
        self,
        output_model: type[BaseModel],
        prompt: Sequence[object],
        system_prompt: str | None = None,
        **kwargs: object,
    ) -> AsyncGenerator[object]:
        """Ask the model under guard for an object; called by the agent in the place of the application.

        Raises:
            Denied: The call is refused, or its answer withheld.
        """
        sent: dict[str, object] = {"messages": prompt, "system_prompt": system_prompt}
        asked = self._asked(sent, {"output": output_model.model_json_schema()}, "model", [])

        async def body(_: Call) -> Shown:
            ask = cast("Any", self.__wrapped__).structured_output
            events = [one async for one in ask(output_model, sent["messages"], sent["system_prompt"], **kwargs)]
            output = events[-1]["output"].model_dump(mode="json") if events else None
            return Shown(events, output, rebuild=lambda new: [{"output": output_model.model_validate(new)}])

        for event in cast("list[object]", await self._self_guards.run_async(asked, body)):
            yield event

    def is_of(self, guards: ToolGuards, acting: str) -> bool:
        """Return whether the calls of an agent are judged as they are to be; another enforcer keeps its model.

        Args:
            guards: The guards.
            acting: The name of the agent.
        """
        own = self._self_guards
        return own.enforcer is not guards.enforcer or (own is guards and self._self_acting == acting)

    def _asked(
        self, sent: dict[str, object], fixed: Mapping[str, object], kind: str, content: list[Mapping[str, Any]]
    ) -> ToolCall:
        """Return the description of a request, of which obligations may change what is sent."""

        def revise(changed: Mapping[str, object]) -> None:
            if {key: changed.get(key) for key in fixed} != fixed:
                raise ValueError("the tools of a request cannot be changed")
            sent.update({key: changed[key] for key in sent})

        request = CallRequest({**sent, **fixed}, can_route=False, model=self._facts(), revise=revise)
        prompt = Prompt(lambda: parts_of(sent["messages"]), lambda _: contents_of(content), self._is_provided)
        return ToolCall(self._self_name, request, self._self_acting, kind, prompt=prompt)

    def _config(self) -> Mapping[str, object]:
        config = cast("object", cast("models.Model", self.__wrapped__).get_config())
        return config if is_mapping(config) else {}

    def _is_provided(self) -> bool:
        """Return whether the model is configured with tools that its provider runs."""
        config = self._config()
        params = config.get("params")
        added = params.get("tools") if is_mapping(params) else None
        return bool(added or any(config.get(name) for name in _PROVIDED))

    def _facts(self) -> Model | None:
        name = self._config().get("model_id")
        return Model(name=name) if isinstance(name, str) and 0 < len(name) <= 256 and name.isprintable() else None


@final
class _Emitted:
    """An item on its way out of a coroutine: awaited there, it suspends the coroutine."""

    __slots__ = ("item",)

    def __init__(self, item: object) -> None:
        self.item = item

    def __await__(self) -> Generator[object, None, None]:
        yield self


async def _emit(item: object) -> None:
    await _Emitted(item)


async def _relayed(running: Coroutine[object, None, object]) -> AsyncGenerator[object]:
    """Yield what a coroutine emits and then what it returns; it runs in a context of its own, as a task would."""
    context, ended = copy_context(), False
    try:
        while True:
            ended = True  # Unless it emits; an exception ends it as well.
            step = await _step(running, context)
            ended = type(step) is not _Emitted
            yield step.item if type(step) is _Emitted else step
            if ended:
                return
    finally:
        if not ended:
            with suppress(asyncio.CancelledError):
                await _step(running, context, asyncio.CancelledError())


@coroutine
def _step(
    running: Coroutine[object, None, object], context: Context, error: BaseException | None = None
) -> Generator[object, None, object]:
    """Run a coroutine until it emits or ends, and return what it emitted or returned.

    Args:
        running: The coroutine.
        context: The context in which it runs.
        error: What it gets where it is suspended.
    """
    while True:
        try:
            signal = context.run(running.send, None) if error is None else context.run(running.throw, error)
        except StopIteration as stop:
            return cast("object", stop.value)
        if type(signal) is _Emitted:
            return signal
        try:
            error = None
            yield signal
        except BaseException as caught:  # noqa: BLE001  The coroutine handles it.
            error = caught


def _judged(call: Call, value: object) -> object:
    """Return what the model gave as it was judged; defaults are the tool's own to apply."""
    if not is_mapping(value):
        return call.arguments["input"]
    judged = call.arguments
    return {name: judged[name] for name in value}


async def _stepped(events: AsyncIterator[object], guard: GuardedCall, call: Call) -> AsyncGenerator[object]:
    """Yield the events of a tool, and ask before each step whether the task lives."""
    try:
        steps = aiter(events)
        while True:
            await guard.check_async(call)
            try:
                event = await anext(steps)
            except StopAsyncIteration:
                return
            yield event
    finally:
        await _close(events)


async def _drained(events: AsyncIterator[object], emit: _Emit | None) -> Shown:
    """Return the result of a tool, which is held; events before it are emitted, or dropped where inspectors read."""
    last: object = _NOTHING
    try:
        async for event in events:
            if last is not _NOTHING and emit is not None:
                await emit(last)  # The last value is the result, unless an event says so.
            last = event
            if isinstance(event, Mapping):
                if "tool_interrupt_event" in event:
                    raise HaltedError(cast("_Event", event))
                if event.get("type") == "tool_result":
                    break
                if event.get("type") == "tool_stream":
                    last = _NOTHING
                    if emit is not None:
                        await emit(cast("object", event))
    finally:
        await _close(events)
    return _shown(last)


async def _close(events: AsyncIterator[object]) -> None:
    close = getattr(events, "aclose", None)
    if close is not None:
        await close()


def _shown(event: object) -> Shown:
    """Return the result of a tool as it is inspected: its content, and its own word on a failure."""
    if event is _NOTHING:
        return Shown(event, None, LookupError("the tool returned nothing"))
    if not is_mapping(event):
        return Shown(event, event, rebuild=lambda changed: changed)
    result = cast("Mapping[str, object]", event.get("tool_result", event))
    raised: Exception | None = getattr(event, "exception", None)
    around, said = _parted(result)
    is_bare = set(said) == {"content"}

    def rebuild(new: object) -> object:
        changed = {**around, "content": new} if is_bare else {**around, **cast("_Event", new)}
        if event is result:
            return changed
        # The text of the exception is what had to change.
        return cast("Any", type(event))(changed, exception=None if raised is None else RuntimeError(_WITHHELD))

    failed = result.get("status") == "error"
    failure = (raised or RuntimeError("the tool answered with an error")) if failed else None
    return Shown(event, said["content"] if is_bare else said, failure, rebuild=rebuild)


def _parted(result: _Event) -> tuple[_Event, _Event]:
    """Return the members around the content of a result, and what the tool says: a server may say it apart as well."""
    if "content" not in result:
        return {}, result
    around = {name: result[name] for name in ("toolUseId",) if name in result}
    if result.get("status") in _STATUSES:
        around["status"] = result["status"]
    return around, {name: value for name, value in result.items() if name not in around}


def answered(tool_use: ToolUse, value: object, status: str = "success") -> object:
    """Return the result of a call that the tool did not give."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return {"toolUseId": tool_use["toolUseId"], "status": status, "content": [{"text": text}]}


async def _shown_answer(chunks: AsyncIterator[object], emit: _Emit | None, content: list[Mapping[str, Any]]) -> Shown:
    """Return the answer of a model for the guard, and add the content of its message to ``content``."""
    kept: list[object] = []
    async for chunk in chunks:
        kept.append(chunk)
        if emit is not None:
            await emit(chunk)
    reason, message = await _assembled(kept)
    content += cast("list[Mapping[str, Any]]", message["content"])
    extra = [chunk for chunk in kept if isinstance(chunk, Mapping) and "metadata" in chunk]

    def rebuild(changed: object) -> object:
        content[:] = cast("list[Mapping[str, Any]]", changed)
        return [*_chunks(content, reason), *extra]

    if emit is None:
        return Shown(kept, message["content"], rebuild=rebuild)
    return Shown([], message["content"])


async def _assembled(chunks: list[object]) -> tuple[str, Mapping[str, object]]:
    """Return the stop reason and the message that Strands makes of the chunks of a model."""

    async def again() -> AsyncGenerator[Any]:
        for chunk in chunks:
            yield chunk

    stop: Any = None
    async for event in process_stream(again()):
        stop = cast("Mapping[str, object]", event).get("stop", stop)
    return stop[0], stop[1]


def _chunks(content: list[Mapping[str, Any]], reason: str) -> list[object]:
    """Return chunks of which Strands makes a message with the content.

    Raises:
        ValueError: It has something else than texts and calls.
    """
    made: list[object] = [{"messageStart": {"role": "assistant"}}]
    for block in content:
        start: dict[str, object] = {}
        if set(block) == {"text"}:
            delta: dict[str, object] = {"text": block["text"]}
        elif set(block) == {"toolUse"}:
            use = block["toolUse"]
            start = {"toolUse": {"name": use["name"], "toolUseId": use["toolUseId"]}}
            delta = {"toolUse": {"input": json.dumps(use["input"])}}
        else:
            raise ValueError("an answer with other parts than texts and calls cannot be changed")
        made += [{"contentBlockStart": {"start": start}}, {"contentBlockDelta": {"delta": delta}}]
        made.append({"contentBlockStop": {}})
    return [*made, {"messageStop": {"stopReason": reason}}]
