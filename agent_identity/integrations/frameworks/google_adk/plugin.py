"""Plugin for Google ADK: guards the tools of an app, and on request its models.

Callbacks of agents run after those of plugins and may still change the arguments. The callbacks here therefore only
guard the tool that is about to run, in place; its body is what is judged.
"""

import asyncio
import functools
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping
from contextvars import ContextVar
from typing import Any, Final, cast, final
from weakref import WeakSet

from google.adk.agents import LlmAgent
from google.adk.agents.callback_context import CallbackContext
from google.adk.agents.invocation_context import InvocationContext
from google.adk.events import Event
from google.adk.models.base_llm import BaseLlm
from google.adk.models.llm_request import LlmRequest
from google.adk.models.llm_response import LlmResponse
from google.adk.plugins.base_plugin import BasePlugin
from google.adk.plugins.plugin_manager import PluginManager
from google.adk.runners import Runner
from google.adk.tools.base_tool import BaseTool
from google.adk.tools.base_toolset import BaseToolset
from google.adk.tools.tool_context import ToolContext
from google.genai import types
from pydantic import ConfigDict, TypeAdapter

from agent_identity import Enforcer
from agent_identity.adapters import (
    Acting,
    Call,
    CallRequest,
    Declared,
    Part,
    Prompt,
    Shown,
    ToolCall,
    ToolGuards,
    bind_stream,
    guard_failed,
    refusal,
)
from agent_identity.errors import Denied
from agent_identity.integrations.frameworks.google_adk.instructions import Filled, filled_instructions, texts_of_others
from agent_identity.integrations.frameworks.google_adk.tools import (
    NAME,
    GuardedTools,
    SuspendedError,
    current_call,
    current_tools,
    mark_tools,
    response_content,
)
from agent_identity.integrations.method_patch import Installed, MethodPatch
from agent_identity.integrations.unguarded_tools import UnguardedTools
from agent_identity.records import Model

_ANYTHING: Final = TypeAdapter[object](object, config=ConfigDict(ser_json_bytes="base64"))
_GUARD: ContextVar["tuple[GuardedModels, str] | None"] = ContextVar("agent_identity_adk_model", default=None)
_AGENTS: Final = WeakSet[type[LlmAgent]]()
_GUARDED: Final = WeakSet[type[BaseLlm]]()
_SPOKEN: ContextVar[frozenset[str]] = ContextVar("agent_identity_adk_spoken", default=frozenset())
"""The texts of the user in the session of the request."""

_FILLED: ContextVar[tuple[Filled, ...]] = ContextVar("agent_identity_adk_filled", default=())
"""The instructions that the app fills from the session of the request."""

_Send = Callable[[LlmRequest, bool], AsyncGenerator[LlmResponse]]


@final
class GuardedModels:
    """Guards the models of an app.

    Args:
        guards: The guards of the app.
        name: The name of model calls in scopes and rules.
    """

    def __init__(self, guards: ToolGuards, name: str) -> None:
        self._guards = guards
        self._name = name

    async def guard(
        self, agent: object, spoken: frozenset[str] = frozenset(), filled: tuple[Filled, ...] = ()
    ) -> LlmResponse | None:
        """Guard an agent in place, so that it returns a guarded model; return a refusal if that is impossible.

        The callbacks of the agent run later, and may give it another model for the same request.

        Args:
            agent: The agent.
            spoken: The texts of the user. The app puts what other agents did into user messages as well.
            filled: The instructions that the app fills from the session.
        """
        _SPOKEN.set(spoken)
        _FILLED.set(filled)
        name = str(getattr(agent, "name", ""))
        _GUARD.set((self, name))
        if not isinstance(agent, LlmAgent):
            guard = self._guards.of(self._name, kind="model")
            denied = Denied(f"the model of {name} cannot be guarded; use an LlmAgent", code="not_guarded")
            return refused(refusal(await guard.refuse_async({}, denied, guard.current_task)))
        if type(agent) not in _AGENTS:
            object.__setattr__(agent, "__class__", _guarded_agent(cast("Any", type(agent))))
        return None

    async def answers(
        self, acting: str, request: LlmRequest, send: _Send, *, stream: bool
    ) -> AsyncGenerator[LlmResponse]:
        """Send a request to the model under guard, and yield what the app is to get.

        Args:
            acting: The framework's name of the agent.
            request: The request.
            send: Calls the model.
            stream: The app asks for a stream.
        """
        at_once = stream and not self._guards.of(self._name, kind="model").holds
        queue = asyncio.Queue[LlmResponse | None]()
        sent = _Request(request, send, stream=stream)

        async def body(call: Call) -> Shown:
            async for answer in sent.answers():
                if at_once:
                    queue.put_nowait(answer)
            return sent.shown(call)

        kind = "streamed_model" if at_once else "model"
        if not at_once:
            for answer in await self._guarded(sent, acting, kind, body):
                yield answer
            return
        # A task of its own, because the consumer's context must stay as it is between two answers.
        run = asyncio.create_task(self._guarded(sent, acting, kind, body))
        run.add_done_callback(lambda _: queue.put_nowait(None))
        try:
            while (part := await queue.get()) is not None:
                yield part
            for answer in await run:
                if all(answer is not one for one in sent.got):  # A refusal.
                    yield answer
        finally:
            run.cancel()
            await asyncio.wait([run])

    async def _guarded(
        self, sent: "_Request", acting: str, kind: str, body: Callable[[Call], Awaitable[Shown]]
    ) -> list[LlmResponse]:
        """Send a request under guard, and return its answers, or a refusal in their place."""
        try:
            asked = ToolCall(self._name, sent.asked(), acting, kind=kind, prompt=sent.prompt())
            return cast("list[LlmResponse]", await self._guards.run_async(asked, body))
        except Denied as denied:
            return [refused(refusal(denied))]
        except Exception as error:
            if error is sent.raised:
                raise
            return [refused(guard_failed("a model", error))]


@final
class _Request:
    """One request to a model.

    Args:
        request: The request of the app.
        send: Calls the model.
        stream: The app asks for a stream.

    Attributes:
        got: The answers so far.
        raised: The error of the model, if it raised one.
    """

    def __init__(self, request: LlmRequest, send: _Send, *, stream: bool) -> None:
        self._request = request
        self._send = send
        self._stream = stream
        self._spoken, self._filled = _SPOKEN.get(), _FILLED.get()
        self._json: dict[str, object] = {}
        self.got: list[LlmResponse] = []
        self.raised: BaseException | None = None

    def asked(self) -> CallRequest:
        """Return the prompt for inspectors and the policy: messages, instructions, tools and settings."""
        self._json = {
            "messages": _json(self._request.contents),
            **cast("dict[str, object]", _json(self._request.config)),
        }
        return CallRequest(self._json, can_route=False, model=_named(self._request.model), revise=self._revise)

    def prompt(self) -> Prompt:
        """Return the prompt and the contents of its answer, for information flow."""
        return Prompt(self._parts, _answer_contents, self._is_provided)

    def _is_provided(self) -> bool:
        described = [_json(tool) for tool in self._request.config.tools or ()]
        return any(not isinstance(one, dict) or set(one) != {"function_declarations"} for one in described)

    def _parts(self) -> Generator[Part]:
        instruction = self._request.config.system_instruction
        for text in texts_of_others(instruction if isinstance(instruction, str) else _json(instruction), self._filled):
            yield Part("other", text)
        for content in self._request.contents:
            for part in content.parts or ():
                by = content.role == "user" and part.text in self._spoken
                yield from (Part("person" if by else "other", one) for one in _contents(part))

    async def answers(self) -> AsyncGenerator[LlmResponse]:
        """Call the model, and yield its answers."""
        try:
            async for answer in self._send(self._request, self._stream):
                self.got.append(answer)
                yield answer
        except BaseException as error:
            self.raised = error
            raise

    def shown(self, call: Call) -> Shown:
        """Return the answers for the guard.

        The last answer of a stream has the whole text. Its parts are left out where they were held back: what
        inspectors look for may be cut in two there.
        """
        answers = [answer for answer in self.got if not answer.partial] or self.got
        call.model = next((_named(answer.model_version) for answer in reversed(answers) if answer.model_version), None)
        return Shown(
            answers, [_json(answer.content) for answer in answers], rebuild=functools.partial(_rebuilt, answers)
        )

    def _revise(self, changed: Mapping[str, object]) -> None:
        if {**changed, "messages": 0} != {**self._json, "messages": 0}:
            raise ValueError("the instructions, tools or settings of a request cannot be changed")
        contents = [types.Content.model_validate(one) for one in cast("list[object]", changed["messages"])]
        self._request = self._request.model_copy(update={"contents": contents})


def refused(text: str) -> LlmResponse:
    """Return an answer in the place of that of the model.

    Args:
        text: What it says.
    """
    return LlmResponse(content=types.Content(role="model", parts=[types.Part(text=text)]))


@functools.lru_cache(maxsize=256)
def _guarded_agent(kind: type[LlmAgent]) -> type[LlmAgent]:
    """Return a subclass of an agent class that returns only guarded models."""

    def canonical_model(self: LlmAgent) -> BaseLlm:
        return _guarded(cast("Any", super(made, self)).canonical_model)

    async def canonical_model_async(self: LlmAgent, ctx: object) -> BaseLlm:
        return _guarded(await cast("Any", super(made, self)).canonical_model_async(ctx))

    names = {name: getattr(kind, name) for name in ("__module__", "__qualname__", "__doc__")}
    members: dict[str, object] = {**names, "canonical_model": property(canonical_model)}
    if hasattr(kind, "canonical_model_async"):  # Newer versions get the model of a request from it.
        members["canonical_model_async"] = canonical_model_async
    made = cast("Callable[..., type[LlmAgent]]", type(kind))(kind.__name__, (kind,), members)
    _AGENTS.add(made)
    return made


def _guarded(model: BaseLlm) -> BaseLlm:
    """Guard a model in place and return it; if that fails, return one that refuses, because no failure ends a run."""
    if type(model) not in _GUARDED and _GUARD.get() is not None:
        try:
            object.__setattr__(model, "__class__", _guarded_kind(cast("Any", type(model))))
        except Exception as error:  # noqa: BLE001 - A model may be of any class.
            return _Refusing(model=model.model, text=guard_failed("a model", error))
    return model


class _Refusing(BaseLlm):
    """A model that refuses; replaces one that cannot be guarded."""

    text: str

    async def generate_content_async(
        self,
        llm_request: LlmRequest,  # noqa: ARG002
        stream: bool = False,  # noqa: ARG002, FBT001, FBT002  As in the base class.
    ) -> AsyncGenerator[LlmResponse]:
        """Refuse; called by the app."""
        yield refused(self.text)


@functools.lru_cache(maxsize=256)
def _guarded_kind(kind: type[BaseLlm]) -> type[BaseLlm]:
    """Return the subclass of a class of models whose calls by guarded apps pass the guard."""

    async def generate_content_async(
        self: BaseLlm,
        llm_request: LlmRequest,
        stream: bool = False,  # noqa: FBT001, FBT002  As in the base class.
    ) -> AsyncGenerator[LlmResponse]:
        guarded = _GUARD.get()
        send = functools.partial(kind.generate_content_async, self)
        answers = (
            send(llm_request, stream)
            if guarded is None
            else guarded[0].answers(guarded[1], llm_request, send, stream=stream)
        )
        try:
            async for answer in answers:
                yield answer
        finally:
            await answers.aclose()

    names = {name: getattr(kind, name) for name in ("__module__", "__qualname__", "__doc__")}
    made = cast("Callable[..., type[BaseLlm]]", type(kind))  # Models have a metaclass.
    guarded_kind = made(kind.__name__, (kind,), {**names, "generate_content_async": generate_content_async})
    _GUARDED.add(guarded_kind)
    return guarded_kind


def _rebuilt(answers: list[LlmResponse], changed: object) -> list[LlmResponse]:
    """Return answers with texts as obligations changed them.

    Raises:
        ValueError: Something else was changed.
    """
    new = [one and types.Content.model_validate(one) for one in cast("list[Any]", changed)]
    for answer, content in zip(answers, new, strict=True):
        if _calls(answer.content) != _calls(content):
            raise ValueError("the arguments of a call cannot be changed")
    twice = dict.fromkeys(("logprobs_result", "grounding_metadata"))  # They have the text once more.
    return [answer.model_copy(update={**twice, "content": one}) for answer, one in zip(answers, new, strict=True)]


def _answer_contents(answers: object) -> Generator[object]:
    """Yield the contents of an answer, in their form in later prompts."""
    for answer in cast("list[LlmResponse]", answers):
        for part in (answer.content and answer.content.parts) or ():
            yield from _contents(part)


def _contents(part: types.Part) -> Generator[object]:
    """Yield the contents of a part of a prompt or answer, without call ids."""
    if part.function_call is not None:
        arguments = part.function_call.args or {}
        yield [part.function_call.name, arguments]
        yield from (value for value in arguments.values() if isinstance(value, str))
    elif part.function_response is not None:
        yield response_content(part.function_response.response)
    else:
        yield part.text if part.text is not None else _json(part)


def _calls(content: types.Content | None) -> list[types.FunctionCall]:
    return [part.function_call for part in (content and content.parts) or () if part.function_call]


def _named(name: str | None) -> Model | None:
    return Model(name=name) if name else None


def _json(value: object) -> object:
    return _ANYTHING.dump_python(value, mode="json", exclude_none=True, fallback=repr)


__all__ = ["AgentIdentityPlugin", "instrument"]

_Run = Callable[..., AsyncGenerator[object]]
_DEPTH: Final[ContextVar[int]] = ContextVar("agent_identity_adk_depth", default=0)
"""How many guarded runs are around this place. What runs within another one gets its message from there."""


@final
class AgentIdentityPlugin(BasePlugin):
    """Guards every tool call of an app: ``App(plugins=[AgentIdentityPlugin(enforcer)])``.

    Agents below the root agent, children of ``AgentTool`` and runs inside tools are guarded as well. A refused call
    is answered with ``{"error": text}``, and the run continues. A stream of a runner runs under the task in which it
    was made. Built-in tools of models cannot be guarded; :attr:`provider_tools` names those that were offered.

    Args:
        enforcer: The enforcer. A task must be open around each run.
        agents: The governed agent for each name of an agent of the app, with a scope if it is to have less. Other
            names act as the agent of the task.
        model: The name of model calls in scopes and rules. Inspectors and the policy then judge each prompt and each
            answer, and text of streams is held back until it was inspected. The scope must cover the name. ``None``
            leaves model calls alone.
        tool_options: Declarations of tools by name, each a :class:`~agent_identity.options.ToolOptions`.
        principal_messages: Count messages of users as the principal's own words. With information flow and ``model``,
            other parts of a prompt that no guard of the task delivered have unknown integrity.
        servers: The toolset of each MCP server, by the name of the server for records and rules.

    Attributes:
        tools: Guards the tools; for the callbacks.

    Raises:
        TypeError: Enforcer, agents, options or servers are of another type.
        ValueError: ``model`` does not have 1 to 256 visible characters.
        ConfigurationError: ``principal_messages`` is given without ``model``.
    """

    def __init__(
        self,
        enforcer: Enforcer,
        *,
        agents: Acting | None = None,
        model: str | None = None,
        tool_options: Declared | None = None,
        principal_messages: bool = False,
        servers: Mapping[str, BaseToolset] | None = None,
    ) -> None:
        super().__init__(name=NAME)
        guards = ToolGuards(
            enforcer,
            agents=agents,
            suspends=(SuspendedError,),
            workflow=_session,
            thread=_thread,
            tool_options=tool_options,
            model=model,
            principal_messages=principal_messages,
        )
        self._guards = guards
        self.tools = GuardedTools(guards)
        self._models = None if model is None else GuardedModels(guards, model)
        self._unguarded = UnguardedTools("at the model's provider or in a code executor")
        for server, toolset in (servers or {}).items():
            mark_tools(toolset, server)
        _RUNNERS.bind(self)

    @property
    def provider_tools(self) -> tuple[str, ...]:
        """Tools offered so far that run at the model's provider or in a code executor, and cannot be guarded."""
        return self._unguarded.names

    async def on_event_callback(self, *, invocation_context: InvocationContext, event: Event) -> None:  # noqa: ARG002  The name is that of the app.
        """Know which calls the model has asked for in this task; called by the app."""
        if event.author != "user":
            self._guards.saw([call.id for call in event.get_function_calls()])

    async def before_tool_callback(
        self, *, tool: BaseTool, tool_args: dict[str, object], tool_context: ToolContext
    ) -> dict[str, object] | None:
        """Guard the tool that is about to run; called by the app."""
        try:
            return await self.tools.guard(tool, tool_args, tool_context)
        except Exception as error:  # noqa: BLE001 - The run goes on, without the tool.
            return {"error": guard_failed(tool.name, error)}

    async def on_tool_error_callback(
        self, *, tool: BaseTool, tool_args: dict[str, object], tool_context: ToolContext, error: Exception
    ) -> dict[str, object] | None:
        """Record the call of a tool that does not exist; called by the app."""
        return await self.tools.record_missing(tool, tool_args, tool_context, error)

    async def before_model_callback(
        self, *, callback_context: CallbackContext, llm_request: LlmRequest
    ) -> LlmResponse | None:
        """Name what cannot be guarded, and guard the model on request; called by the app."""
        try:
            run = callback_context.get_invocation_context()
            self._name_provided(run.agent, llm_request)
            if self._models is None:
                return None
            return await self._models.guard(run.agent, _spoken(run), filled_instructions(run, llm_request))
        except Exception as error:  # noqa: BLE001 - The run goes on, without the model.
            return refused(guard_failed("a model", error))

    def _name_provided(self, agent: object, request: LlmRequest) -> None:
        """Note the tools that nobody can guard."""
        names = [name for tool in request.config.tools or () for name in _built_in(tool)]
        if (executor := getattr(agent, "code_executor", None)) is not None:
            names.append(type(executor).__name__)
        for name in names:
            self._unguarded.add(name)


@final
class _First(BasePlugin):
    """Guards tools before any other plugin of an app can run them, and sees events before one changes them.

    Args:
        plugin: The plugin of the app, which stays in its place.
    """

    def __init__(self, plugin: AgentIdentityPlugin) -> None:
        super().__init__(name=f"{NAME}: outermost")
        self.plugin: Final = plugin

    async def before_model_callback(self, *, callback_context: CallbackContext, llm_request: LlmRequest) -> None:
        """Guard the tools that an agent lists for its model; called by the app."""
        del callback_context
        self.plugin.tools.listed(llm_request.tools_dict.values())

    async def on_event_callback(self, *, invocation_context: InvocationContext, event: Event) -> None:
        """Note the calls that the model asks for, even if another plugin answers first; called by the app."""
        await self.plugin.on_event_callback(invocation_context=invocation_context, event=event)

    async def before_tool_callback(
        self, *, tool: BaseTool, tool_args: dict[str, object], tool_context: ToolContext
    ) -> dict[str, object] | None:
        """Guard the tool that is about to run; called by the app."""
        return await self.plugin.before_tool_callback(tool=tool, tool_args=tool_args, tool_context=tool_context)


def instrument(enforcer: Enforcer) -> Callable[[], None]:
    """Guard the tools of all runners of this process, and return what undoes it.

    Runners with a plugin of their own are left to it.

    Args:
        enforcer: The enforcer.
    """
    plugin = AgentIdentityPlugin(enforcer)
    _RUNNERS.everywhere = plugin
    return functools.partial(_RUNNERS.leave, plugin)


@final
class _Runners(Installed[AgentIdentityPlugin]):
    """Binds the streams of guarded runners to the task in which they are made."""

    def __init__(self) -> None:
        super().__init__(MethodPatch(Runner, {"run_async": self._bound, "run_live": self._bound}))
        self._managers = WeakSet[PluginManager]()

    def leave(self, guard: AgentIdentityPlugin) -> None:
        """Take a plugin out of all runners as well."""
        super().leave(guard)
        for manager in list(self._managers):
            manager.plugins = [
                one for one in manager.plugins if one is not guard and not (type(one) is _First and one.plugin is guard)
            ]

    def _bound(self, bare: _Run) -> _Run:
        @functools.wraps(bare)
        def run(runner: Runner, *args: object, **kwargs: object) -> AsyncGenerator[object]:
            manager = runner.plugin_manager
            if not self._is_guarded(manager):
                return bare(runner, *args, **kwargs)
            if type(manager.plugins[0]) is not _First:  # Another one could run the tool before it is guarded.
                first = _First(cast("AgentIdentityPlugin", manager.get_plugin(NAME)))
                manager.plugins = [first, *(one for one in manager.plugins if type(one) is not _First)]
                self._managers.add(manager)
            return bind_stream(_counted(bare(runner, *args, **kwargs), _DEPTH.get() + 1))

        return run

    def _is_guarded(self, manager: PluginManager) -> bool:
        """Return whether a runner has a plugin of ours, after it got that of the process or of the tool around it."""
        if manager.get_plugin(NAME) is not None:
            return True
        plugin = self._around() or self.everywhere
        if plugin is None:
            return False
        manager.register_plugin(plugin)
        self._managers.add(manager)
        return True

    @staticmethod
    def _around() -> AgentIdentityPlugin | None:
        """Return the plugin of the app whose tool runs here: what it runs is guarded as well."""
        tools, context = current_tools(), current_call()
        if tools is None or context is None:
            return None
        return cast("AgentIdentityPlugin | None", context.get_invocation_context().plugin_manager.get_plugin(NAME))


_RUNNERS: Final = _Runners()


async def _counted(stream: AsyncGenerator[object], depth: int) -> AsyncGenerator[object]:
    """Run the steps of a run at its depth; between two of them the consumer runs."""
    try:
        while True:
            token = _DEPTH.set(depth)
            try:
                event = await anext(stream)
            except StopAsyncIteration:
                return
            finally:
                _DEPTH.reset(token)
            yield event
    finally:
        await stream.aclose()


def _session() -> str | None:
    context = current_call()
    return None if context is None else context.session.id


def _thread() -> str | None:
    session = _session()
    return None if session is None else f"google-adk:{session}"


def _built_in(tool: object) -> list[str]:
    """Return the names of the built-in tools in one part of a request to a model."""
    members: Mapping[str, object] | None = getattr(type(tool), "model_fields", None)
    if members is None:
        return [str(getattr(tool, "__name__", type(tool).__name__))]
    return [name for name in members if name != "function_declarations" and getattr(tool, name) is not None]


def _spoken(run: InvocationContext) -> frozenset[str]:
    """Return the texts of the user in a session; a workflow adds what its nodes hand on, outside any invocation."""
    if _DEPTH.get() > 1:
        return frozenset()
    events = [event for event in run.session.events if event.author == "user" and event.invocation_id]
    parts = [part for event in events if event.content for part in event.content.parts or ()]
    return frozenset(part.text for part in parts if part.text and part.function_response is None)
