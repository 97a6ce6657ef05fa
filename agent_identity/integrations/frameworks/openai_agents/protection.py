"""Guards for the agents of the OpenAI Agents SDK: ``protect``, ``unprotect`` and ``instrument``.

A protected agent lists its tools guarded: it gets a subclass of its class, so that it stays the same object and its
clones are protected too. The SDK has no middleware of tools for whole runs.
"""

import dataclasses
import logging
import weakref
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Final, TypeAlias, TypeVar, cast

from agents import Agent, AgentBase, FunctionTool, Handoff, RunContextWrapper, Tool, Usage
from agents import handoff as as_handoff

from agent_identity import Enforcer
from agent_identity.adapters import Acting, Declared, ToolGuards, account
from agent_identity.errors import ConfigurationError
from agent_identity.integrations.frameworks.openai_agents.bodies import ACTING, note_turn, trace_id
from agent_identity.integrations.frameworks.openai_agents.guarded_handoffs import GuardedHandoff, note_listing
from agent_identity.integrations.frameworks.openai_agents.interruptions import Suspended
from agent_identity.integrations.frameworks.openai_agents.local_tools import (
    guard_local_tool,
    is_local,
    release_local_tool,
)
from agent_identity.integrations.frameworks.openai_agents.owners import PROTECTION, Owner, owner_of
from agent_identity.integrations.frameworks.openai_agents.sessions import thread
from agent_identity.integrations.frameworks.openai_agents.tools import guard_tool, is_agent_tool, release_tool
from agent_identity.integrations.method_patch import MethodPatch

__all__ = ["Protection", "instrument", "protect", "provider_tools", "unprotect"]

_LOG: Final = logging.getLogger("agent_identity")
_MAX_NAMED: Final = 256
_AnyAgent: TypeAlias = AgentBase[Any]
_Context: TypeAlias = RunContextWrapper[Any]
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
