"""The capability, and the guard of all agents of a process."""

import copy
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeAlias, cast

from pydantic_ai import AgentRunResult, RunContext
from pydantic_ai.capabilities import AbstractCapability, CapabilityOrdering, CombinedCapability
from pydantic_ai.messages import ModelResponse
from pydantic_ai.models import Model, ModelRequestContext
from pydantic_ai.output import OutputContext
from pydantic_ai.toolsets import AbstractToolset
from typing_extensions import override

from agent_identity import Enforcer
from agent_identity.adapters import Acting, Call, CallRequest, Declared, ToolCall, ToolGuards, safe_message
from agent_identity.errors import ConfigurationError, Denied
from agent_identity.integrations.frameworks.pydantic_ai.calls import (
    SUSPENDS,
    Asked,
    agent_name,
    conversation,
    outermost,
    running,
    thread,
)
from agent_identity.integrations.frameworks.pydantic_ai.guarded_models import GuardedModel, spoken_in
from agent_identity.integrations.frameworks.pydantic_ai.guarded_toolsets import Guarding
from agent_identity.integrations.method_patch import MethodPatch
from agent_identity.integrations.unguarded_tools import UnguardedTools

__all__ = ["AgentIdentity", "instrument"]

_LOG: Final = logging.getLogger("agent_identity")
_Process = Callable[[object], Awaitable[object]]
_Toolset: TypeAlias = AbstractToolset[object]


class AgentIdentity(AbstractCapability[object]):
    """Capability: guards all tools of an agent, those of MCP servers and of other capabilities included.

    Each call is one decision, one intent, one outcome and one span. A refused call fails with the refusal as its
    text, and the run continues. A call of a tool that does not exist is refused on record. Calls run under the task in
    which the run began, wherever its stream is consumed.

    Args:
        enforcer: The enforcer. A task must be open around each run.
        agents: The governed agent by the name that Pydantic AI gives an agent (``Agent(name=…)``): its calls run under
            authority that the task delegates to it for that call.
        model: The name of model calls in scopes and rules, which inspectors and policy then judge: messages,
            instructions and tools before the model gets them, and its answer before anybody reads it. ``None`` leaves
            model calls alone.
        tool_options: Declarations of tools by name, each a :class:`~agent_identity.options.ToolOptions`.
        principal_messages: Count the user prompts that the application passes to runs, also in their history, as the
            principal's own words. With information flow and ``model``, other parts of a prompt that no guard of the
            task delivered have unknown integrity.

    Raises:
        TypeError: Enforcer, agents or options are of another type.
        ValueError: ``model`` does not have 1 to 256 visible characters.
        ConfigurationError: ``model`` needs a newer Pydantic AI, or ``principal_messages`` is given without it. A run
            raises it where an agent has a second capability of this class with another enforcer or other options.
    """

    def __init__(
        self,
        enforcer: Enforcer,
        *,
        agents: Acting | None = None,
        model: str | None = None,
        tool_options: Declared | None = None,
        principal_messages: bool = False,
    ) -> None:
        self._guards = ToolGuards(
            enforcer,
            agents=agents,
            suspends=SUSPENDS,
            workflow=conversation,
            thread=thread,
            tool_options=tool_options,
            model=model,
            principal_messages=principal_messages,
        )
        self._model = model
        self._asked: Asked | None = None
        self._unguarded = UnguardedTools("outside the toolsets of this process")
        if model is not None and not hasattr(AbstractCapability, "get_wrapper_model"):
            raise ConfigurationError("model= needs a Pydantic AI with get_wrapper_model; upgrade pydantic-ai-slim")

    @classmethod
    def get_serialization_name(cls) -> str | None:
        """Return ``None``: an enforcer cannot be written into a specification."""
        return None

    @property
    def provider_tools(self) -> tuple[str, ...]:
        """What nobody can guard, as far as it was seen: tools that run at the model's provider or outside the run.

        Functions in ``output_type`` are listed as well, once one has run: they pass no toolset.
        """
        return self._unguarded.names

    def get_ordering(self) -> CapabilityOrdering:
        """Return the innermost place, next to the model."""
        return CapabilityOrdering(position="innermost")

    def get_wrapper_toolset(self, toolset: AbstractToolset[object]) -> AbstractToolset[object]:
        """Return the toolset of a run with a guard around each innermost toolset."""
        return toolset.visit_and_replace(Guarding(self._guards))

    def get_wrapper_model(self, model: Model) -> Model | None:
        """Return the model of a request under guard, if ``model`` is set and these guards are not there already."""
        if self._model is None or (isinstance(model, GuardedModel) and model.is_of(self._guards)):
            return None
        return GuardedModel(model, self._guards, self._model)

    async def for_run(self, ctx: RunContext[object]) -> AbstractCapability[object]:
        """Return the capability of a run, which knows what the application passes: hooks may add messages later."""
        if not self._guards.are_principals or outermost.get() is not None:
            return self
        own = copy.copy(self)
        own._asked = Asked(ctx.run_id, spoken_in(ctx.prompt, ctx.messages))  # noqa: SLF001  Of the same class.
        return own

    async def wrap_run(
        self, ctx: RunContext[object], *, handler: Callable[[], Awaitable[AgentRunResult[object]]]
    ) -> AgentRunResult[object]:
        """Note the outermost run."""
        if outermost.get() is not None:
            return await handler()
        token = outermost.set(self._asked or Asked(ctx.run_id, frozenset()))
        try:
            return await handler()
        finally:
            outermost.reset(token)

    async def before_model_request(
        self, ctx: RunContext[object], request_context: ModelRequestContext
    ) -> ModelRequestContext:
        """Note whose request the next one is."""
        running.set(ctx)
        return request_context

    async def after_model_request(
        self, ctx: RunContext[object], *, request_context: ModelRequestContext, response: ModelResponse
    ) -> ModelResponse:
        """Note tools that cannot be guarded, and record calls of tools that do not exist."""
        parameters = request_context.model_request_parameters
        external = (tool.name for tool in parameters.function_tools if tool.kind == "external")
        for name in (*(tool.unique_id for tool in parameters.native_tools), *external):
            self._unguarded.add(name)
        known = None if ctx.tool_manager is None else ctx.tool_manager.tools
        for call in response.tool_calls:
            if known is not None and call.tool_name not in known:
                arguments = call.args_as_dict(raise_if_invalid=False)
                await _record_unknown(self._guards, ctx, call.tool_name, arguments, call.tool_call_id)
        return response

    @override
    async def wrap_output_process(
        self, ctx: RunContext[object], *, output_context: OutputContext, output: object, handler: _Process
    ) -> object:
        """Note output functions, which cannot be guarded."""
        if output_context.has_function:
            self._unguarded.add(output_context.function_name or "output function")
        return await handler(output)


def instrument(enforcer: Enforcer) -> Callable[[], None]:
    """Guard the tools of all agents of this process, and return the function that undoes it.

    Tools under the capability :class:`AgentIdentity` keep its guard.

    Args:
        enforcer: The enforcer; usually one in monitor mode.
    """
    guards = ToolGuards(enforcer, suspends=SUSPENDS, workflow=conversation, thread=thread)

    def guarded(original: Callable[..., _Toolset | None]) -> Callable[..., _Toolset | None]:
        def get_wrapper_toolset(self: CombinedCapability[object], toolset: _Toolset) -> _Toolset | None:
            wrapped = original(self, toolset)
            if not patch.is_active:
                return wrapped
            return (toolset if wrapped is None else wrapped).visit_and_replace(Guarding(guards, gives_way=True))

        return get_wrapper_toolset

    patch = MethodPatch(CombinedCapability, {"get_wrapper_toolset": guarded})
    patch.apply()
    return patch.undo


async def _record_unknown(
    guards: ToolGuards, ctx: RunContext[object], name: str, arguments: dict[str, Any], call_id: str
) -> None:
    """Record the refusal of a call of a tool that does not exist; the framework answers it."""
    denied = Denied(f"{name}: the agent has no tool of this name", code="tool_unknown")

    def body(_: Call) -> object:
        raise denied  # Monitor mode.

    request = CallRequest(arguments, call_id=call_id, refusal=denied)
    try:
        await guards.run_async(ToolCall(name, request, agent_name(ctx)), cast("Any", body))
    except Denied:
        return
    except Exception as error:  # noqa: BLE001 - No tool runs here, and the run has to go on.
        _LOG.error("the call of a tool that does not exist is not on record: %s", safe_message(error))
