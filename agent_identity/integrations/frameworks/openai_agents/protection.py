"""Guards for the agents of the OpenAI Agents SDK: ``protect``, ``unprotect`` and ``instrument``.

A protected agent lists its tools guarded: it gets a subclass of its class, so that it stays the same object and its
clones are protected too. The SDK has no middleware of tools for whole runs.
"""

import dataclasses
import inspect
import logging
import weakref
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextvars import ContextVar
from copy import copy
from typing import Any, Final, TypeAlias, TypeVar, cast, final

from agents import (
    Agent,
    AgentBase,
    FunctionTool,
    Handoff,
    RunContextWrapper,
    SpanError,
    Tool,
    ToolOriginType,
    Usage,
    get_current_span,
)
from agents import handoff as as_handoff
from agents.agent_tool_state import get_agent_tool_state_scope, peek_agent_tool_run_result
from agents.tool import (
    get_function_tool_origin,
    set_function_tool_failure_error_function,
    with_function_tool_failure_error_handler,
)
from agents.tool_context import ToolContext

from agent_identity import Enforcer
from agent_identity.adapters import (
    Acting,
    Call,
    CallRequest,
    Declared,
    ToolCall,
    ToolGuards,
    account,
    refusal,
    tool_name,
)
from agent_identity.errors import AgentIdentityError, ConfigurationError, Denied
from agent_identity.integrations.frameworks.openai_agents.arguments import parse, shown, text_for
from agent_identity.integrations.frameworks.openai_agents.bodies import ACTING, SharedBody, note_turn, seen_in, trace_id
from agent_identity.integrations.frameworks.openai_agents.interruptions import Suspended, suspend_for_approval
from agent_identity.integrations.frameworks.openai_agents.local_tools import (
    guard_local_tool,
    is_local,
    release_local_tool,
)
from agent_identity.integrations.frameworks.openai_agents.owners import PROTECTION, Owner, owner_of
from agent_identity.integrations.frameworks.openai_agents.sessions import thread
from agent_identity.integrations.frameworks.tool_schemas import with_defaults
from agent_identity.integrations.method_patch import MethodPatch

_AnyAgent: TypeAlias = AgentBase[Any]
_Context: TypeAlias = RunContextWrapper[Any]
_ToolContext: TypeAlias = ToolContext[Any]
_Invoke: TypeAlias = Callable[[Any, str], Awaitable[object]]


class GuardedBody(SharedBody):
    """The body of a function tool.

    Args:
        tool: The tool.
    """

    def __init__(self, tool: FunctionTool) -> None:
        super().__init__()
        self._function: Final[object] = getattr(tool, "__wrapped__", None)
        origin = get_function_tool_origin(tool)
        kinds = {ToolOriginType.MCP: "mcp", ToolOriginType.AGENT_AS_TOOL: "agent"}
        self.kind: Final = "function" if origin is None else kinds.get(origin.type, "function")
        self.server: Final = None if origin is None else origin.mcp_server_name
        self.original: Final[_Invoke] = tool.on_invoke_tool
        self.needs_approval: Final = tool.needs_approval
        self._name = tool_name(self.server, tool.name)
        self._schema = tool.params_json_schema
        self._description = tool.description
        self._body: _Invoke = tool.on_invoke_tool
        if _handles_failures(tool):
            # It turns exceptions into texts; a copy that does not shows them to the guard first.
            self._body = set_function_tool_failure_error_function(copy(tool), None).on_invoke_tool

    def asked(
        self, acting: str | None, call_id: str | None, parsed: Mapping[str, object] | None, text: str = ""
    ) -> ToolCall:
        """Return the description of a call.

        Args:
            acting: The name of the agent that makes it.
            call_id: The id of the call.
            parsed: The arguments; ``None`` if they are unreadable.
            text: The arguments, as the model wrote them.
        """
        if parsed is None:
            unread = Denied(f"{self._name}: the arguments are no JSON object; write one", code="bad_arguments")
            request = CallRequest({"input": text}, call_id=call_id, refusal=unread)
        else:
            request = CallRequest(*with_defaults(parsed, self._schema), call_id=call_id)
        return ToolCall(
            self._name,
            request,
            acting,
            self.kind,
            self.server,
            schema=self._schema,
            function=self._function,
            description=self._description,
        )

    def declare(self, owner: Owner) -> None:
        """Register the tool before its first call.

        Args:
            owner: The protection that may judge its calls.

        Raises:
            ConfigurationError: Its options name an argument that it does not have.
        """
        owner.guards.of(
            self._name,
            kind=self.kind,
            server=self.server,
            schema=self._schema,
            function=self._function,
            description=self._description,
        )

    async def __call__(self, ctx: _ToolContext, input: str) -> object:  # noqa: A002 - The SDK's name.
        """Run the tool if it may; a refusal is its answer.

        Args:
            ctx: The context of the call.
            input: The arguments, as the model wrote them.
        """
        parsed = parse(input)
        caller = self.caller(ctx)
        asked = seen_in(ctx, caller, self.asked(caller.name, getattr(ctx, "tool_call_id", None), parsed, str(input)))

        async def body(arguments: Mapping[str, object]) -> object:
            is_kept = parsed is None or caller.owner.guards.enforcer.mode == "monitor"
            result = await self._body(ctx, input if is_kept else text_for(arguments, input, parsed or {}))
            if self.kind == "agent" and _waits(ctx):
                raise Suspended(result)
            return shown(result)

        return await self.answer(caller, asked, body, parsed)

    async def stops(self, ctx: _Context, parameters: Mapping[str, object], call_id: str) -> bool:
        """Return whether the run is to be interrupted before a call: the tool says so, or our policy asks a person.

        Args:
            ctx: The context of the run.
            parameters: The arguments, as the model wrote them.
            call_id: The id of the call.
        """
        own: object = self.needs_approval
        if callable(own):
            own = own(ctx, parameters, call_id)
            own = await cast("Awaitable[object]", own) if inspect.isawaitable(own) else own
        try:
            caller = self.caller(ctx)
            asked = seen_in(ctx, caller, self.asked(caller.name, call_id, parameters))
            waits = await suspend_for_approval(caller.owner.guards, asked, parameters, ctx, caller.places)
        except Exception:  # noqa: BLE001 - Whatever our own defect is, it ends no run, and the guard decides.
            _LOG.exception("whether a call of %r needs an approval is unknown; its guard decides", self._name)
            waits = False
        return bool(own) or waits


def is_agent_tool(tool: FunctionTool) -> bool:
    """Return whether a tool is an agent."""
    origin = get_function_tool_origin(tool)
    return origin is not None and origin.type == ToolOriginType.AGENT_AS_TOOL


def _guarded_body(tool: FunctionTool) -> GuardedBody | None:
    """Return the guarded body of a tool, or of the tool that it is a copy of; ``None`` for others."""
    for body in (tool.on_invoke_tool, getattr(tool, "__wrapped__", None)):
        if isinstance(body, GuardedBody):
            return body
    return None


def guard_tool(tool: FunctionTool, owner: Owner) -> bool:
    """Guard a tool in place, or give a guarded one a further owner; return whether it was not the owner's before.

    Args:
        tool: The tool.
        owner: The protection of an agent that has it.
    """
    body = _guarded_body(tool)
    if body is None:
        body = GuardedBody(tool)
        tool.on_invoke_tool = _invoker(tool, body)
    if owner.guards.may_suspend and tool.needs_approval is body.needs_approval:
        tool.needs_approval = body.stops
    if owner in body.owners:
        return False
    body.owners.append(owner)
    body.declare(owner)
    return True


def release_tool(tool: FunctionTool, owner: Owner) -> None:
    """Undo :func:`guard_tool`; a tool stays guarded for other owners.

    Args:
        tool: The tool.
        owner: The protection.
    """
    body = _guarded_body(tool)
    if body is None or owner not in body.owners:
        return
    body.owners.remove(owner)
    if not body.owners:
        tool.needs_approval = body.needs_approval
        tool.on_invoke_tool = body.original


def _invoker(tool: FunctionTool, body: GuardedBody) -> _Invoke:
    """Return the body as the SDK calls it: of the same kind and with the same signature as the original."""
    original = tool.on_invoke_tool
    if not _handles_failures(tool):
        body.__dict__["__signature__"] = inspect.signature(original)  # Decides which context the SDK passes.
        return body

    async def invoke(ctx: _ToolContext, input: str) -> object:  # noqa: A002 - The SDK's name.
        return await body(ctx, input)

    # By these names the SDK knows what it may prepare, and what a tool wraps.
    invoke.__dict__["__agents_function_tool_wrapped_callable__"] = body
    prepare = getattr(original, "prepare_arguments", None)
    if prepare is not None and not isinstance(tool.needs_approval, bool):
        invoke.__dict__["__agents_prepare_arguments__"] = prepare
    made = with_function_tool_failure_error_handler(invoke, _report)
    return cast("_Invoke", cast("Any", made).__agents_bind_function_tool__(tool))


def _handles_failures(tool: FunctionTool) -> bool:
    return hasattr(tool.on_invoke_tool, "__agents_bind_function_tool__")


def _report(tool: FunctionTool, error: Exception, _text: str) -> None:
    """Mark the SDK's span of a failed tool, as its own handler does; without values."""
    span = get_current_span()
    if span is not None:
        kind = type(error).__name__
        span.set_error(
            SpanError(message="Error running tool (non-fatal)", data={"tool_name": tool.name, "error": kind})
        )


def _waits(ctx: _ToolContext) -> bool:
    """Return whether an agent that ran as a tool waits for an approval of one of its own calls."""
    call = ctx.tool_call
    if call is None:
        return False
    pending = peek_agent_tool_run_result(call, scope_id=get_agent_tool_state_scope(ctx))
    return bool(getattr(pending, "interruptions", None))


_AnyHandoff: TypeAlias = Handoff[Any, Any]

_LISTING: ContextVar["weakref.ref[_AnyAgent] | None"] = ContextVar("agent_identity_openai_listing", default=None)
"""The agent whose tools and handoffs were listed last in this run; it makes the next handoff."""

_REFUSED: ContextVar[str | None] = ContextVar("agent_identity_openai_refused", default=None)
"""The answer for the handoff that was just refused."""


def note_listing(agent: _AnyAgent) -> None:
    """Know which agent makes the next handoff of this run.

    Args:
        agent: The agent.
    """
    _LISTING.set(weakref.ref(agent))


@final
class GuardedHandoff:
    """A handoff that passes the guard if it takes arguments, and whose target is then protected.

    Without arguments it is no call, and its function gets none that a model makes up.

    Args:
        handoff: The handoff.
        owner: The protection of the agent that has it.
        reach: Protects the target, which may be known only when the handoff runs.

    Attributes:
        original: What the handoff does.
        owner: See above.
    """

    def __init__(self, handoff: _AnyHandoff, owner: Owner, reach: Callable[[_AnyAgent], None]) -> None:
        self.original: Final[Callable[..., Awaitable[_AnyAgent]]] = handoff.on_invoke_handoff
        self.owner: Final = owner
        self._reach = reach
        self._name = handoff.tool_name
        self._message = handoff.get_transfer_message
        schema = cast("Mapping[str, object]", handoff.input_json_schema or {})
        self._schema = schema
        self._takes = bool(schema.get("properties") or schema.get("additionalProperties"))

    async def __call__(self, ctx: _Context, input_json: str | None = None) -> _AnyAgent:
        """Hand the run on, or back to the agent that asked if the call is refused; called by the SDK."""
        _REFUSED.set(None)
        if not self._takes:
            return self._reached(await self.original(ctx, input_json if input_json is None else "{}"))
        raised: list[BaseException] = []
        try:
            return self._reached(await self._judged(ctx, input_json, raised))
        except AgentIdentityError as error:
            if error in raised:
                raise
            denied = error if isinstance(error, Denied) else Denied("the call did not run", code=error.code)
        except Exception as error:
            if error in raised:
                raise
            _LOG.exception("the guard of %r failed, the call is refused", self._name)
            denied = Denied("the guard failed, and the call did not run", code="guard_failed")
        return self._refused(denied)

    def message(self, agent: _AnyAgent) -> str:
        """Return the text with which the SDK answers the handoff.

        Args:
            agent: The target.
        """
        return _REFUSED.get() or self._message(agent)

    async def _judged(self, ctx: _Context, text: str | None, raised: list[BaseException]) -> _AnyAgent:
        parsed, agent = parse(text), _listing()
        guards = (owner_of(agent) or self.owner).guards
        if parsed is None:
            unread = Denied(f"{self._name}: the arguments are no JSON object; write one", code="bad_arguments")
            request = CallRequest({"input": text}, can_route=False, refusal=unread)
        else:
            request = CallRequest(*with_defaults(parsed, self._schema), can_route=False)
        target: list[_AnyAgent] = []

        async def body(call: Call) -> str:
            is_kept = parsed is None or guards.enforcer.mode == "monitor"
            try:
                target.append(
                    await self.original(ctx, text if is_kept else text_for(call.arguments, text or "{}", parsed or {}))
                )
            except BaseException as error:
                raised.append(error)
                raise
            return self._message(target[0])

        acting = None if agent is None else agent.name
        await guards.run_async(ToolCall(self._name, request, acting, "handoff", schema=self._schema), body)
        return target[0]

    def _reached(self, target: _AnyAgent) -> _AnyAgent:
        self._reach(target)
        # The SDK answers the call with this text.
        account(self.owner.guards.enforcer.current_task, [self._message(target)])
        return target

    def _refused(self, denied: Denied) -> _AnyAgent:
        """Return the agent that asked, which reads the refusal.

        Raises:
            Denied: Nobody knows which agent asked; the run ends.
        """
        agent = _listing()
        if agent is None:
            raise denied
        _REFUSED.set(refusal(denied))
        account(self.owner.guards.enforcer.current_task, [refusal(denied)])
        return agent


def _listing() -> _AnyAgent | None:
    known = _LISTING.get()
    return None if known is None else known()


__all__ = ["Protection", "instrument", "protect", "provider_tools", "unprotect"]

_LOG: Final = logging.getLogger("agent_identity")
_MAX_NAMED: Final = 256
AgentT = TypeVar("AgentT", bound=_AnyAgent)


class Protection:
    """The guards of one agent and the agents behind it.

    Args:
        enforcer: The enforcer.
        agents: As for :func:`protect`.
        tool_options: Likewise.
        everywhere: Agents pass here by themselves, so that none is marked.

    Attributes:
        guards: The guards by name.
        failure: The error of the first tool that its options do not fit.
    """

    def __init__(
        self,
        enforcer: Enforcer,
        agents: Acting | None = None,
        tool_options: Declared | None = None,
        *,
        everywhere: bool = False,
    ) -> None:
        self._everywhere = everywhere
        self.guards: Final = ToolGuards(
            enforcer,
            agents=agents,
            suspends=(Suspended,),
            workflow=trace_id,
            names_run=True,
            thread=thread,
            tool_options=tool_options,
        )
        self._members: Final = dict[int, weakref.ref[_AnyAgent]]()
        self._named: Final = set[tuple[str, str]]()
        self.failure: ConfigurationError | None = None

    @property
    def place(self) -> Enforcer | None:
        """Where the rulings for its agents are; ``None`` for agents that are not marked."""
        return None if self._everywhere else self.guards.enforcer

    def reach(self, agent: _AnyAgent) -> None:
        """Protect an agent, and those that its handoffs and tools reach, unless another protection has them.

        Args:
            agent: The agent.
        """
        waiting, seen = [agent], set[int]()
        while waiting:
            one = waiting.pop()
            if id(one) in seen or protection_of(one) not in (None, self):
                continue
            seen.add(id(one))
            if protection_of(one) is None:
                object.__setattr__(one, "__class__", _protected(type(one), self))
            waiting += self._take(one, list(one.tools))[1]

    def list_tools(self, agent: _AnyAgent, tools: list[Tool], usage: Usage) -> list[Tool]:
        """Return the tools of an agent for one turn, guarded.

        Args:
            agent: The agent.
            tools: Its tools, those of MCP servers included.
            usage: Counts the requests to models in the run.
        """
        ACTING.set((self, agent.name))
        note_turn(self.guards.enforcer.current_task, usage)
        note_listing(agent)
        account(self.guards.enforcer.current_task, _transfers(agent))
        kept, behind = self._take(agent, tools)
        for other in behind:
            self.reach(other)
        return kept

    def undo(self) -> None:
        """Make all agents and tools again what they were."""
        for agent in filter(None, [member() for member in self._members.values()]):
            if protection_of(agent) is self and type(agent).__dict__.get(PROTECTION) is self:
                object.__setattr__(agent, "__class__", type(agent).__bases__[0])
            for tool in agent.tools:
                release_tool(tool, self) if isinstance(tool, FunctionTool) else release_local_tool(tool, self)
            for handoff in _handoffs(agent):
                _release(handoff, self)
        self._members.clear()

    def _take(self, agent: _AnyAgent, tools: list[Tool]) -> tuple[list[Tool], list[_AnyAgent]]:
        """Guard tools and handoffs of an agent; return the tools that it may list, and the agents that they reach."""
        key = id(agent)
        self._members[key] = weakref.ref(agent, lambda _: self._members.pop(key, None))
        behind: list[_AnyAgent] = []
        kept = [tool for tool in tools if self._guarded(agent, tool, behind)]
        for handoff in _handoffs(agent):
            if self._claims(handoff):
                behind += _agents_in(handoff)
        if self._everywhere:
            return kept, []
        behind += [one for one in getattr(agent, "handoffs", ()) if isinstance(one, AgentBase)]
        return kept, behind

    def _claims(self, handoff: "Handoff[Any, Any]") -> bool:
        """Guard a handoff, and return whether it was unguarded before; that of the process gives way."""
        known = handoff.on_invoke_handoff
        if isinstance(known, GuardedHandoff):
            if self._everywhere or known.owner.place is not None:
                return False
            _release(handoff, known.owner)
        guarded = GuardedHandoff(handoff, self, (lambda _: None) if self._everywhere else self.reach)
        object.__setattr__(handoff, "on_invoke_handoff", guarded)
        object.__setattr__(handoff, "get_transfer_message", guarded.message)
        return True

    def _guarded(self, agent: _AnyAgent, tool: Tool, behind: list[_AnyAgent]) -> bool:
        """Guard a tool, add the agents behind it, and return whether the agent may list it."""
        try:
            if isinstance(tool, FunctionTool):
                if (self._claimed(tool) or is_agent_tool(tool)) and not self._everywhere:
                    behind += _agents_behind(tool)
            elif not guard_local_tool(tool, self):
                self._name_unguarded(agent, tool)
        except Exception:  # noqa: BLE001 - Whatever fails: no run ends by it, and no tool runs that should be guarded.
            _LOG.exception("the tool %r of the agent %r could not be guarded", tool.name, agent.name)
            return self.guards.enforcer.mode == "monitor"
        return True

    def _claimed(self, tool: FunctionTool) -> bool:
        """Do what :func:`guard_tool` does, and note that the options do not fit the tool."""
        try:
            return guard_tool(tool, self)
        except ConfigurationError as error:
            self.failure = self.failure or error
            raise

    def _name_unguarded(self, agent: _AnyAgent, tool: Tool) -> None:
        if (agent.name, tool.name) not in self._named and len(self._named) < _MAX_NAMED:
            self._named.add((agent.name, tool.name))
            _LOG.warning(
                "the tool %r of the agent %r runs where it cannot be guarded; its calls are not on record",
                tool.name,
                agent.name,
            )


def protect(
    agent: AgentT, enforcer: Enforcer, *, agents: Acting | None = None, tool_options: Declared | None = None
) -> AgentT:
    """Guard all tools of an agent, and those of the agents that its handoffs and its agents as tools reach.

    Each call is one decision, one intent and one outcome. A refused call is answered with the text of the refusal, and
    the run goes on. Arguments are judged as the body gets them, with the defaults of the schema. Tools are guarded in
    place: one that other agents share is guarded there as well. Tools of MCP servers, and tools and handoffs that are
    added later, are guarded when the agent lists them. What runs at the provider cannot be guarded; see
    :func:`provider_tools`.

    Args:
        agent: The agent. Protecting it again by the same enforcer has no effect.
        enforcer: The enforcer. A task must be open around each run.
        agents: The governed agent for each name of an agent of the SDK. Its calls run under authority that the task
            delegates to it for that call; ``(agent, scope)`` narrows it. Other names act as the agent of the task.
        tool_options: Declarations of tools by name, each a :class:`~agent_identity.options.ToolOptions`.

    Returns:
        The argument: the same agent.

    Raises:
        ConfigurationError: The agent is protected by another enforcer, or with other ``agents`` or options; or
            options name an argument that a tool does not have. The agents are then as they were.
        TypeError: It is no agent of the SDK, or enforcer, agents or options are of another type.
    """
    if not isinstance(cast("object", agent), AgentBase):
        raise TypeError(f"agent is {type(agent).__name__}; pass an Agent of the OpenAI Agents SDK")
    known = protection_of(agent)
    if known is None:
        protection = Protection(enforcer, agents, tool_options)
        protection.reach(agent)
        if protection.failure is not None and enforcer.mode == "enforce":
            protection.undo()
            raise protection.failure
    elif known.guards.enforcer is not enforcer or (agents, tool_options) != (None, None):
        raise ConfigurationError(f"the agent {agent.name!r} is protected already; call unprotect(agent) first")
    return agent


def unprotect(agent: AgentT) -> AgentT:
    """Undo :func:`protect`, for the agent and all agents that were protected with it.

    Args:
        agent: The agent, or one that was reached from it; one that is not protected stays as it is.

    Returns:
        The argument: the same agent.
    """
    known = protection_of(agent)
    if known is not None:
        known.undo()
    return agent


def provider_tools(agent: _AnyAgent) -> tuple[str, ...]:
    """Return the names of the tools of an agent that cannot be guarded: those that run at the provider, and computers.

    Args:
        agent: The agent. Agents behind it have their own.
    """
    return tuple(tool.name for tool in agent.tools if not isinstance(tool, FunctionTool) and not is_local(tool))


def instrument(enforcer: Enforcer) -> Callable[[], None]:
    """Guard every agent of this process, and return what undoes it.

    Agents that are protected keep their own guards: one call, one record.

    Args:
        enforcer: The enforcer; usually in monitor mode.
    """
    protection = Protection(enforcer, everywhere=True)

    def guarded(original: Callable[..., Awaitable[list[Tool]]]) -> Callable[..., Awaitable[list[Tool]]]:
        async def get_all_tools(self: _AnyAgent, run_context: _Context) -> list[Tool]:
            tools = await original(self, run_context)
            is_ours = patch.is_active and protection_of(self) is None
            return protection.list_tools(self, tools, run_context.usage) if is_ours else tools

        return get_all_tools

    patch = MethodPatch(AgentBase, {"get_all_tools": guarded})

    def undo() -> None:
        patch.undo()
        protection.undo()

    patch.apply()
    return undo


def protection_of(agent: object) -> Protection | None:
    """Return the protection of an agent."""
    return cast("Protection | None", owner_of(agent))


def _protected(kind: type[_AnyAgent], protection: Protection) -> type[_AnyAgent]:
    """Return a subclass whose agents list their tools guarded; it looks like its base."""

    async def get_all_tools(self: _AnyAgent, run_context: _Context) -> list[Tool]:
        return protection.list_tools(self, await kind.get_all_tools(self, run_context), run_context.usage)

    members = {"get_all_tools": get_all_tools, PROTECTION: protection}
    return type(kind.__name__, (kind,), {**members, "__module__": kind.__module__, "__qualname__": kind.__qualname__})


def _release(handoff: "Handoff[Any, Any]", owner: Owner) -> None:
    """Make a handoff again what it was, if it has a guard of an owner."""
    known = handoff.on_invoke_handoff
    if isinstance(known, GuardedHandoff) and known.owner is owner:
        object.__setattr__(handoff, "on_invoke_handoff", known.original)
        vars(handoff).pop("get_transfer_message", None)


def _handoffs(agent: _AnyAgent) -> list["Handoff[Any, Any]"]:
    return [one for one in getattr(agent, "handoffs", ()) if isinstance(one, Handoff)]


def _transfers(agent: _AnyAgent) -> Iterator[str]:
    """Yield the texts with which the SDK answers the handoffs of an agent."""
    for one in getattr(agent, "handoffs", ()):
        if isinstance(one, Agent):
            yield as_handoff(one).get_transfer_message(one)


def _agents_behind(tool: FunctionTool) -> list[_AnyAgent]:
    """Return the agents that a tool runs.

    Raises:
        ConfigurationError: It runs one that cannot be found, and whose own tools would be unguarded.
    """
    agents = list(_agents_in(tool))
    if is_agent_tool(tool) and not agents:
        raise ConfigurationError("this version of the SDK hides the agent that a tool runs; install a tested version")
    return agents


def _agents_in(one: object) -> Iterator[_AnyAgent]:
    """Yield the agents that a tool or handoff holds, in whatever field; some are known only when it is invoked."""
    for field in dataclasses.fields(cast("Any", one)):
        value = getattr(one, field.name, None)
        value = value() if isinstance(value, weakref.ref) else value
        if isinstance(value, AgentBase):
            yield value
