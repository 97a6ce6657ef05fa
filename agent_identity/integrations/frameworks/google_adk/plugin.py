"""Plugin for Google ADK: guards the tools of an app, and on request its models.

Callbacks of agents run after those of plugins and may still change the arguments. The callbacks here therefore only
guard the tool that is about to run, in place; its body is what is judged.
"""

import functools
from collections.abc import AsyncGenerator, Callable, Mapping
from contextvars import ContextVar
from typing import Final, cast, final
from weakref import WeakSet

from google.adk.agents.callback_context import CallbackContext
from google.adk.agents.invocation_context import InvocationContext
from google.adk.events import Event
from google.adk.models.llm_request import LlmRequest
from google.adk.models.llm_response import LlmResponse
from google.adk.plugins.base_plugin import BasePlugin
from google.adk.plugins.plugin_manager import PluginManager
from google.adk.runners import Runner
from google.adk.tools.base_tool import BaseTool
from google.adk.tools.base_toolset import BaseToolset
from google.adk.tools.tool_context import ToolContext

from agent_identity import Enforcer
from agent_identity.adapters import Acting, Declared, ToolGuards, bind_stream, guard_failed
from agent_identity.integrations.frameworks.google_adk.instructions import filled_instructions
from agent_identity.integrations.frameworks.google_adk.models import GuardedModels, refused
from agent_identity.integrations.frameworks.google_adk.tools import (
    NAME,
    GuardedTools,
    SuspendedError,
    current_call,
    current_tools,
    mark_tools,
)
from agent_identity.integrations.method_patch import Installed, MethodPatch
from agent_identity.integrations.unguarded_tools import UnguardedTools

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
