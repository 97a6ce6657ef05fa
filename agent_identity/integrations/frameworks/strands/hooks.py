"""Hooks of Strands Agents that guard the tools of an agent, and its model."""

import functools
import logging
import weakref
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextvars import Context, ContextVar, copy_context
from typing import TYPE_CHECKING, Any, Final, cast, final

from opentelemetry import context as otel
from strands import Agent
from strands.hooks import (
    AfterModelCallEvent,
    AfterToolCallEvent,
    AgentInitializedEvent,
    BaseHookEvent,
    BeforeModelCallEvent,
    BeforeToolCallEvent,
    HookProvider,
    HookRegistry,
    MultiAgentInitializedEvent,
)
from strands.interrupt import Interrupt, InterruptException
from strands.middleware import (
    ExecuteToolContext,
    ExecuteToolStage,
    InvokeModelContext,
    InvokeModelStage,
    ToolResultEvent,
)
from strands.models import Model
from strands.multiagent import Swarm
from strands.multiagent.base import MultiAgentBase
from strands.multiagent.graph import Graph
from strands.tools.mcp import MCPAgentTool, MCPClient
from strands.tools.structured_output.structured_output_tool import StructuredOutputTool
from strands.types.tools import AgentTool, ToolUse

from agent_identity import Enforcer, Task
from agent_identity.adapters import (
    Acting,
    Call,
    CallRequest,
    Declared,
    ToolCall,
    ToolGuards,
    bind_stream,
    guard_failed,
    refusal,
)
from agent_identity.errors import ConfigurationError, Denied
from agent_identity.integrations.frameworks.strands.calls import (
    INTERRUPTING,
    AdmittedTool,
    GuardedModel,
    GuardedTool,
    HaltedError,
    Interrupting,
    Place,
    answered,
    arguments_of,
    resume,
)
from agent_identity.integrations.frameworks.strands.listed_tools import CALLING, guard_listed
from agent_identity.integrations.frameworks.strands.prompts import note_spoken
from agent_identity.integrations.frameworks.strands.session import session, thread
from agent_identity.integrations.method_patch import MethodPatch

if TYPE_CHECKING:
    from strands.types.agent import LocalAgent

__all__ = ["AgentIdentityHooks", "instrument"]

_LOG: Final = logging.getLogger("agent_identity")
_LAST: Final = float("inf")
_MANAGES: Final = "strands_manage_background_task"
"""The tool of agents that may run others in the background."""

_BOUND: Final = "agent_identity_bound"
"""The attribute of a class whose streams its own methods bind to a task."""

_INVOKED: Final[ContextVar[object]] = ContextVar("agent_identity_strands_invoked", default=None)
"""The agent, swarm or graph whose next stream Strands consumes itself, so that it is not bound to a task."""

_Invoked = tuple[object, list[Interrupt]]
_REGISTERED: Final = weakref.WeakKeyDictionary[HookRegistry, "AgentIdentityHooks"]()
"""The hooks of ours in each registry of an agent, swarm or graph."""

_OURS: Final = weakref.WeakKeyDictionary[object, bool]()
"""Agents with hooks of ours, and whether middleware guards what runs, after all that hooks and others changed."""


@final
class AgentIdentityHooks(HookProvider):
    """Guards every tool call of one agent, without changing its tools: pass it in ``hooks``.

    Each call is one decision, one intent, one outcome, on the span of Strands. A refused call is answered with an error
    result, and the run continues. Streams of the agent run under the task in which ``stream_async`` was called; pass
    the hooks to a ``Swarm`` or ``Graph`` as well for theirs.

    Args:
        enforcer: The enforcer. A task must be open around each run.
        agents: The governed agent for each ``name`` of an agent; see
            :class:`~agent_identity.adapters.ToolGuards`.
        model: The name of model calls in scopes and rules: prompts and answers are then inspected, and answers held
            back where there are inspectors. ``None`` leaves model calls alone.
        tool_options: Declarations of tools by name, each a :class:`~agent_identity.options.ToolOptions`.
        principal_messages: Count the user messages that the application passes to the agent, swarm or graph as the
            principal's own words. With information flow and ``model``, other parts of a prompt that no guard of the
            task delivered have unknown integrity.
        servers: Names of MCP servers; by default the ``client_name`` of each client.

    Raises:
        TypeError: Enforcer, agents or options are of another type.
        ValueError: ``model`` does not have 1 to 256 visible characters.
        ConfigurationError: ``principal_messages`` is given without ``model``. The agent raises it where it gets second
            hooks of this class with another enforcer or other options.
    """

    def __init__(
        self,
        enforcer: Enforcer,
        *,
        agents: Acting | None = None,
        model: str | None = None,
        tool_options: Declared | None = None,
        principal_messages: bool = False,
        servers: Mapping[str, MCPClient] | None = None,
    ) -> None:
        self._guards = ToolGuards(
            enforcer,
            agents=agents,
            suspends=(InterruptException, HaltedError),
            workflow=session,
            thread=thread,
            tool_options=tool_options,
            model=model,
            principal_messages=principal_messages,
        )
        self._model = model
        self._servers = {id(client): name for name, client in (servers or {}).items()}
        self._clients = tuple((servers or {}).values())  # Ids of living objects are not used again.
        if principal_messages:
            note_spoken(Agent, Graph, Swarm)

    def register_hooks(self, registry: HookRegistry, **_: object) -> None:
        """Register the callbacks; called by the agent.

        Raises:
            ConfigurationError: The agent has hooks of this class with another enforcer or other options; in monitor
                mode this is logged, and the first ones count.
        """
        first = _REGISTERED.get(registry)
        if first is not None:
            guards, servers = first._guards, first._servers  # noqa: SLF001  Of the same class.
            if not guards.is_like(self._guards) or servers != self._servers:
                guards.refuse_second(self._guards, "the agent")
            return
        _REGISTERED[registry] = self
        enforcer = self._guards.enforcer
        registry.add_callback(AgentInitializedEvent, self._initialized)
        registry.add_callback(MultiAgentInitializedEvent, lambda event: _extend(event.source, enforcer))
        registry.add_callback(BeforeToolCallEvent, self.begin_call, order=-_LAST)
        registry.add_callback(BeforeToolCallEvent, self.before_tool, order=_LAST)
        registry.add_callback(AfterToolCallEvent, end_call, order=_LAST)
        registry.add_callback(AfterModelCallEvent, self.after_model)
        if self._model is not None:
            registry.add_callback(BeforeModelCallEvent, self._before_model, order=_LAST)

    def after_model(self, event: AfterModelCallEvent) -> None:
        """Know which calls the model has asked for in this task; called by the agent."""
        stopped = event.stop_response
        content = [] if stopped is None else cast("list[Mapping[str, Any]]", stopped.message["content"])
        self._guards.saw([block["toolUse"].get("toolUseId") for block in content if "toolUse" in block])

    def begin_call(self, event: "BeforeToolCallEvent[LocalAgent]") -> None:
        """Guard the tools of an agent in place, before another hook can run them; called by the agent."""
        agent = event.agent

        def guarding(tool: AgentTool) -> AgentTool:
            return self._guarded_tool(tool, agent, _never_interrupts, None)

        CALLING.set(guarding)
        registry = agent.tool_registry
        guard_listed((*registry.registry.values(), *registry.dynamic_tools.values(), event.selected_tool))

    async def before_tool(self, event: "BeforeToolCallEvent[LocalAgent]") -> None:
        """Put a guarded tool in the place of the selected one; called by the agent."""
        tool, agent = event.selected_tool, event.agent
        if event.cancel_tool:
            return

        def interrupt(name: str, reason: object) -> object:
            return event.interrupt(name, reason=reason)

        try:
            if _OURS.get(agent):
                await self._admit(event)
                return
            named = _named(agent, event.tool_use["name"])
            if tool is None:  # Strands would look up the name that hooks have given to the call.
                tool = named
            if tool is not None:
                place = Place(self._guards.enforcer)
                event.selected_tool = self._guarded_tool(tool, agent, interrupt, place)
            elif named is None:
                event.cancel_tool = await self._missing(event.tool_use, agent.name, interrupt) or False
        except InterruptException:
            raise
        except Exception as error:  # noqa: BLE001  The tool must not run then, and the run goes on.
            event.cancel_tool = guard_failed(event.tool_use["name"], error)

    async def _admit(self, event: "BeforeToolCallEvent[LocalAgent]") -> None:
        """Keep the place of a call for middleware, which runs calls in the background where others have ended."""
        tool = event.selected_tool
        if tool is None or not _has_background(event.agent) or type(cast("object", tool)) is AdmittedTool:
            return
        if tool.tool_name != event.tool_use["name"]:  # Strands may look it up again.
            event.cancel_tool = await self._unplaced(event.tool_use) or False
            return
        event.selected_tool = cast("AgentTool", AdmittedTool(tool, Place(self._guards.enforcer)))

    async def _unplaced(self, tool_use: ToolUse) -> str | None:
        """Refuse a call of which no one knows where it was admitted; ``None`` in monitor mode."""
        name, guard = tool_use["name"], self._guards.of(tool_use["name"])
        if guard.mode == "monitor":
            _LOG.warning("monitor mode: %s may be recorded as a call of another task; see background_tasks=", name)
            return None
        denied = Denied(f"{name}: a tool that was renamed or replaced may run for another task", code="not_guarded")
        arguments, _ = arguments_of(tool_use["input"], None)
        return refusal(await guard.refuse_async(arguments, denied, guard.current_task))

    async def _missing(self, tool_use: ToolUse, acting: str, interrupt: Interrupting) -> str | None:
        """Judge and record the call of a tool that the agent does not have; ``None`` leaves the answer to Strands."""

        async def body(_: Call) -> object:
            raise LookupError("the agent has no such tool")

        arguments, _ = arguments_of(tool_use["input"], None)
        request = CallRequest(arguments, call_id=tool_use["toolUseId"], can_route=False)
        INTERRUPTING.set(interrupt)
        try:
            await self._guards.run_async(ToolCall(tool_use["name"], request, acting), body)
        except LookupError:
            pass
        except Denied as denied:
            return refusal(denied)
        return None

    def _initialized(self, event: "AgentInitializedEvent[Agent]") -> None:
        agent = event.agent
        if not isinstance(cast("object", agent), Agent):  # A bidirectional one, which has no middleware.
            if self._model is not None:
                raise ConfigurationError("the model of a bidirectional agent cannot be guarded; omit model=")
            _OURS[agent] = False
            return
        _OURS[agent] = True
        innermost = self._middleware()
        for stage, handler in innermost:
            agent.add_middleware(stage, handler)
        _extend(agent, self._guards.enforcer, innermost)
        self._guard_models(agent)

    def _middleware(self) -> list[tuple[Any, Callable[..., object]]]:
        """Return the handlers that guard tools and models, by their stages; they must be the innermost."""
        models: list[tuple[Any, Callable[..., object]]] = (
            [] if self._model is None else [(InvokeModelStage, self._around_model)]
        )
        return [(ExecuteToolStage, self._around_tool), *models]

    def _guard_models(self, agent: Agent) -> None:
        """Guard the models of an agent also where Strands asks them itself: for summaries and structured answers."""
        if self._model is None:
            return
        helper: object = getattr(agent, "aux_model", None)
        if isinstance(helper, Model) and helper is not agent.model:
            agent.aux_model = self._guarded_model(helper, agent.name)
        if isinstance(agent.model, Model):
            agent.model = self._guarded_model(agent.model, agent.name)

    async def _around_tool(
        self, context: ExecuteToolContext, proceed: Callable[[ExecuteToolContext], AsyncGenerator[object]]
    ) -> AsyncGenerator[object]:
        tool, acting, use = context.tool, context.agent.name, context.tool_use

        def interrupt(name: str, reason: object) -> object:
            return context.interrupt(name, reason=reason).response

        refused, place, kind = None, None, type(cast("object", tool))
        if tool is None:
            refused = await self._missing(use, acting, interrupt)
        elif kind is AdmittedTool:
            tool, place = cast("AdmittedTool", tool).taken
        elif kind is not GuardedTool and _has_background(context.agent):
            refused = await self._unplaced(use)
        if tool is not None:
            context.tool = self._guarded_tool(tool, context.agent, interrupt, place)
        if refused:
            yield ToolResultEvent(answered(use, refused, "error"))
            return
        async for event in proceed(context):  # Strands closes it when it closes this one.
            yield event

    def _guarded_tool(
        self, tool: AgentTool, agent: "LocalAgent", interrupt: Interrupting, place: Place | None
    ) -> AgentTool:
        if type(cast("object", tool)) in {GuardedTool, StructuredOutputTool}:
            return tool
        server = None
        if isinstance(tool, MCPAgentTool):
            client = tool.mcp_client
            server = self._servers.get(id(client)) or cast("str | None", getattr(client, "client_name", None)) or ""
        session: str | None = getattr(agent, "session_id", None)
        guarded = GuardedTool(
            tool, self._guards, agent.name, interrupt=interrupt, server=server, place=place, session=session
        )
        return cast("AgentTool", guarded)

    def _before_model(self, event: BeforeModelCallEvent) -> None:
        if not _OURS.get(event.agent):
            event.agent.model = self._guarded_model(event.agent.model, event.agent.name)

    async def _around_model(
        self, context: InvokeModelContext, proceed: Callable[[InvokeModelContext], AsyncGenerator[object]]
    ) -> AsyncGenerator[object]:
        guarded = context.replace(model=self._guarded_model(context.model, context.agent.name))
        async for event in proceed(guarded):  # As above.
            yield event

    def _guarded_model(self, model: Model, acting: str) -> Model:
        if type(cast("object", model)) is GuardedModel:
            if cast("GuardedModel", model).is_of(self._guards, acting):
                return model
            model = cast("Model", cast("GuardedModel", model).__wrapped__)  # Of the agent that it is from.
        return cast("Model", GuardedModel(model, self._guards, cast("str", self._model), acting))


def end_call(_: object) -> None:
    """Leave tools alone again after a call of an agent; called by the agent."""
    CALLING.set(None)


def _never_interrupts(name: str, reason: object) -> object:
    """Refuse a question to a person where no call of the agent waits for the answer.

    Raises:
        Denied: See above.
    """
    del name, reason
    raise Denied("a hook or middleware runs the tool, and nobody can be asked", code="not_guarded")


def instrument(enforcer: Enforcer) -> Callable[[], None]:
    """Guard the tools of every agent in this process, and return what undoes it.

    Agents that have :class:`AgentIdentityHooks` keep theirs.

    Args:
        enforcer: The enforcer.
    """
    hooks = AgentIdentityHooks(enforcer)

    def hooked(original: Callable[..., Awaitable[_Invoked]]) -> Callable[..., Awaitable[_Invoked]]:
        @functools.wraps(original)
        async def invoke_callbacks_async(registry: HookRegistry, event: BaseHookEvent) -> _Invoked:
            if not isinstance(event, BeforeToolCallEvent):
                invoked = await original(registry, event)
                _after(event, hooks if patch.is_active else None)
                return invoked
            if patch.is_active and event.agent not in _OURS:
                hooks.begin_call(event)
            before = (event.selected_tool, event.tool_use["name"])
            invoked = await original(registry, event)
            if patch.is_active and not invoked[1] and event.agent not in _OURS:
                _look_up(event, before)
                await hooks.before_tool(event)
            return invoked

        return invoke_callbacks_async

    patch = MethodPatch(HookRegistry, {"invoke_callbacks_async": hooked})
    patches = (patch, *_bound_runners(enforcer))
    for each in patches:
        each.apply()

    def undo() -> None:
        for each in reversed(patches):
            each.undo()

    return undo


def _after(event: BaseHookEvent, hooks: AgentIdentityHooks | None) -> None:
    """Follow the end of a call, and the answer of a model unless the agent has hooks of its own."""
    if isinstance(event, AfterToolCallEvent):
        end_call(event)
    elif isinstance(event, AfterModelCallEvent) and hooks is not None and event.agent not in _OURS:
        hooks.after_model(event)


def _bound_runners(enforcer: Enforcer) -> list[MethodPatch]:
    """Return what has the streams of all agents, swarms and graphs run under the task in which they were made."""

    def streaming(original: Callable[..., AsyncGenerator[object]]) -> Callable[..., AsyncGenerator[object]]:
        @functools.wraps(original)
        def stream_async(runner: Agent, /, *args: object, **kwargs: object) -> AsyncGenerator[object]:
            _resume(*args, **kwargs)
            stream = original(runner, *args, **kwargs)
            if _BOUND in vars(type(runner)):
                return stream
            return _bound_unless_invoked(runner, stream, enforcer)

        return stream_async

    def invoking(original: Callable[..., Awaitable[object]]) -> Callable[..., Awaitable[object]]:
        @functools.wraps(original)
        async def invoke_async(runner: Agent, /, *args: object, **kwargs: object) -> object:
            _INVOKED.set(runner)
            try:
                return await original(runner, *args, **kwargs)
            finally:
                _INVOKED.set(None)

        return invoke_async

    ways: dict[str, Callable[..., object]] = {"stream_async": streaming, "invoke_async": invoking}
    return [MethodPatch(kind, ways) for kind in (Agent, Graph, Swarm)]


def _has_background(agent: object) -> bool:
    """Return whether an agent may run its tools in the background."""
    return _MANAGES in cast("Any", agent).tool_registry.registry


def _look_up(event: "BeforeToolCallEvent[LocalAgent]", before: tuple[AgentTool | None, str]) -> None:
    """Select the tool that Strands would, where hooks have given the call another name."""
    name = event.tool_use["name"]
    if event.selected_tool is before[0] and name != before[1]:
        event.selected_tool = _named(event.agent, name)


def _named(agent: "LocalAgent", name: str) -> AgentTool | None:
    """Return the tool of an agent that Strands would find by a name."""
    registry = agent.tool_registry
    return registry.dynamic_tools.get(name) or registry.registry.get(name)


def _resume(prompt: object = None, *_: object, **__: object) -> None:
    """Know from the arguments of a run which calls it resumes."""
    resume(prompt)


def _extend(
    runner: Agent | MultiAgentBase, enforcer: Enforcer, innermost: Sequence[tuple[Any, Callable[..., object]]] = ()
) -> None:
    """Give an agent, swarm or graph a subclass of its class, which its copies keep.

    Its streams run under the task in which they were made, and no middleware gets between ours and the tool or model.
    """
    kind = cast("Any", type(runner))

    @functools.wraps(kind.invoke_async)
    async def invoke_async(self: object, *args: object, **kwargs: object) -> object:
        _INVOKED.set(self)
        try:
            return await kind.invoke_async(self, *args, **kwargs)
        finally:
            _INVOKED.set(None)

    @functools.wraps(kind.stream_async)
    def stream_async(self: object, *args: object, **kwargs: object) -> AsyncGenerator[object]:
        _resume(*args, **kwargs)
        return _bound_unless_invoked(self, kind.stream_async(self, *args, **kwargs), enforcer)

    def add_middleware(self: object, stage: object, handler: object) -> None:
        kind.add_middleware(self, stage, handler)
        for ours in innermost:  # A tool or model that was guarded before is not guarded twice.
            kind.add_middleware(self, *ours)

    members: dict[str, object] = {name: getattr(kind, name) for name in ("__module__", "__qualname__", "__doc__")}
    members |= {"stream_async": stream_async, _BOUND: True} | ({"add_middleware": add_middleware} if innermost else {})
    if str(kind.invoke_async.__module__).startswith("strands."):
        members["invoke_async"] = invoke_async
    runner.__class__ = type(kind.__name__, (kind,), members)


def _bound_unless_invoked(runner: object, stream: AsyncGenerator[object], enforcer: Enforcer) -> AsyncGenerator[object]:
    """Bind a stream to the task of now, unless Strands itself consumes it."""
    if _INVOKED.get() is runner:  # Strands consumes only this stream itself.
        _INVOKED.set(None)
        return stream
    return _bound(stream, enforcer, enforcer.current_task, copy_context())


async def _bound(
    stream: AsyncGenerator[object], enforcer: Enforcer, task: Task | None, made_in: Context
) -> AsyncGenerator[object]:
    """Bind a stream to a task: steps that another task asks for run in the context in which it was made."""
    source, kept, seen = stream, made_in.run(bind_stream, stream), None
    try:
        while True:
            here = otel.get_current()
            if here is not seen:  # A span may have changed it too.
                seen, source = here, stream if enforcer.current_task is task else kept
            try:
                item = await anext(source)
            except StopAsyncIteration:
                return
            yield item
    finally:
        await kept.aclose()
        await stream.aclose()
