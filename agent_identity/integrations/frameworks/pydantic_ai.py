"""Pydantic AI: a capability that guards the tools of an agent and, on request, what its model reads and writes.

The guard is around each innermost toolset, so that it judges the arguments that run, whatever hooks and outer toolsets
made of them.
"""

import inspect
import logging
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Any, Final, cast

from opentelemetry import context as otel
from opentelemetry.context import Context

from agent_identity._enforcement import Enforcer
from agent_identity._enforcement.calls import Call, CallRequest, Shown
from agent_identity._enforcement.common import refusal, safe_message
from agent_identity._enforcement.tasks import Task, attached, marked_as_here
from agent_identity.errors import AgentIdentityError, ConfigurationError, Denied
from agent_identity.integrations.frameworks.tool_guards import Acting, ToolCall, ToolGuards

try:
    from pydantic_ai import RunContext
    from pydantic_ai.capabilities import AbstractCapability, CapabilityOrdering, CombinedCapability
    from pydantic_ai.exceptions import ApprovalRequired, CallDeferred, ToolFailed
    from pydantic_ai.messages import ModelResponse, ToolReturn
    from pydantic_ai.models import Model, ModelRequestContext
    from pydantic_ai.toolsets import AbstractToolset, DynamicToolset, ToolsetTool, WrapperToolset
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] != "pydantic_ai":
        raise
    raise ImportError("pydantic-ai is not installed; pip install 'pydantic-ai-slim>=2.33'") from error

__all__ = ["SUSPENDS", "AgentIdentity", "instrument", "running"]

SUSPENDS: Final = (ApprovalRequired, CallDeferred)
"""The exceptions by which a tool is deferred."""

running: Final = ContextVar[RunContext[Any] | None]("agent_identity_pydantic_ai_run", default=None)
"""The run context of the guarded call around."""

_LOG: Final = logging.getLogger("agent_identity")


class AgentIdentity(AbstractCapability[Any]):
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

    Raises:
        TypeError: Enforcer or agents are of another type.
        ConfigurationError: ``model`` needs a newer Pydantic AI.
    """

    def __init__(self, enforcer: Enforcer, *, agents: Acting | None = None, model: str | None = None) -> None:
        self._guards = ToolGuards(enforcer, agents=agents, suspends=SUSPENDS, workflow=_conversation)
        self._model = model
        self._unguarded = set[str]()
        if model is not None:
            if not hasattr(AbstractCapability, "get_wrapper_model"):
                raise ConfigurationError("model= needs a Pydantic AI with get_wrapper_model; upgrade pydantic-ai-slim")
            self._guards.of(model, kind="model")

    @classmethod
    def get_serialization_name(cls) -> str | None:
        """Return ``None``: an enforcer cannot be written into a specification."""
        return None

    @property
    def unguarded_tools(self) -> tuple[str, ...]:
        """Tools offered so far that run at the model's provider or outside the run, where nobody can guard them."""
        return tuple(sorted(self._unguarded))

    def get_ordering(self) -> CapabilityOrdering:
        """Return the innermost place, next to the model."""
        return CapabilityOrdering(position="innermost")

    def get_wrapper_toolset(self, toolset: AbstractToolset[Any]) -> AbstractToolset[Any]:
        """Return the toolset of a run with a guard around each innermost toolset."""
        return toolset.visit_and_replace(_Guarding(self._guards, otel.get_current()))

    def get_wrapper_model(self, model: Model) -> Model | None:
        """Return the model of a request under guard, if ``model`` is set."""
        if self._model is None:
            return None
        from agent_identity.integrations.frameworks.pydantic_ai_models import GuardedModel  # noqa: PLC0415

        return GuardedModel(model, self._guards, self._model)

    async def after_model_request(
        self, ctx: RunContext[Any], *, request_context: ModelRequestContext, response: ModelResponse
    ) -> ModelResponse:
        """Note tools that cannot be guarded, and record calls of tools that do not exist."""
        parameters = request_context.model_request_parameters
        external = (tool.name for tool in parameters.function_tools if tool.kind == "external")
        for name in (*(tool.unique_id for tool in parameters.native_tools), *external):
            if name not in self._unguarded:
                self._unguarded.add(name)
                _LOG.warning(
                    "%r runs outside this process, where nobody can guard it; remove it from the agent, or accept its "
                    "calls as unguarded",
                    name,
                )
        known = None if ctx.tool_manager is None else ctx.tool_manager.tools
        for call in response.tool_calls:
            if known is not None and call.tool_name not in known:
                arguments = call.args_as_dict(raise_if_invalid=False)
                await _record_unknown(self._guards, ctx, call.tool_name, arguments, call.tool_call_id)
        return response


def instrument(enforcer: Enforcer) -> Callable[[], None]:
    """Guard the tools of all agents of this process, and return the function that undoes it.

    Tools under the capability :class:`AgentIdentity` keep its guard.

    Args:
        enforcer: The enforcer; usually one in monitor mode.
    """
    ours = AgentIdentity(enforcer)
    before = CombinedCapability.get_wrapper_toolset
    active = True

    def get_wrapper_toolset(
        self: CombinedCapability[Any], toolset: AbstractToolset[Any]
    ) -> AbstractToolset[Any] | None:
        wrapped = before(self, toolset)
        return ours.get_wrapper_toolset(toolset if wrapped is None else wrapped) if active else wrapped

    def undo() -> None:
        nonlocal active
        active = False  # Somebody else may have patched the method since.
        if CombinedCapability.get_wrapper_toolset is get_wrapper_toolset:
            CombinedCapability.get_wrapper_toolset = before  # type: ignore[method-assign]

    CombinedCapability.get_wrapper_toolset = get_wrapper_toolset  # type: ignore[method-assign]
    return undo


class _Guarding:
    """Visitor: puts a guard around each innermost toolset that has none.

    Args:
        guards: The guards.
        context: The context in which the run began.
    """

    def __init__(self, guards: ToolGuards, context: Context) -> None:
        self.guards = guards
        self.context = context
        self.task = guards.enforcer.current_task

    def __call__(self, toolset: AbstractToolset[Any]) -> AbstractToolset[Any]:
        if type(toolset) is not DynamicToolset:
            return _GuardedToolset(toolset, self)
        make = cast("object", toolset.toolset_func)
        if isinstance(make, _GuardedFactory):
            return toolset
        factory = _GuardedFactory(toolset.toolset_func, self)
        return DynamicToolset(factory, per_run_step=toolset.per_run_step, id=toolset.id)

    def at_home(self) -> AbstractContextManager[object]:
        """Return a context manager that restores the task of the run where another one is open.

        A task that was delegated since by that of the run stays.
        """
        here, home = self.guards.enforcer.current_task, self.task
        if home is None or here is home or (here is not None and _is_within(here, home)):
            return nullcontext()
        return attached(marked_as_here(self.context))


class _GuardedFactory:
    """Makes the toolsets of a dynamic toolset, with guards."""

    def __init__(self, make: Callable[[RunContext[Any]], Any], guarding: _Guarding) -> None:
        self._make = make
        self._guarding = guarding
        self._last: tuple[AbstractToolset[Any], AbstractToolset[Any]] | None = None

    async def __call__(self, ctx: RunContext[Any]) -> AbstractToolset[Any] | None:
        toolset = self._make(ctx)
        if inspect.isawaitable(toolset):
            toolset = await toolset
        if toolset is None:
            return None
        if self._last is None or self._last[0] is not toolset:  # The same one is not entered again.
            self._last = toolset, toolset.visit_and_replace(self._guarding)
        return self._last[1]


@dataclass
class _GuardedToolset(WrapperToolset[Any]):
    """A toolset whose calls are guarded."""

    guarding: _Guarding = field(repr=False, compare=False)

    @property
    def label(self) -> str:
        """The name in error messages."""
        return self.wrapped.label

    def visit_and_replace(self, visitor: Callable[[AbstractToolset[Any]], AbstractToolset[Any]]) -> AbstractToolset[Any]:
        """Let a visitor replace the toolset within; another guard has no place there."""
        return self if isinstance(visitor, _Guarding) else super().visit_and_replace(visitor)

    async def call_tool(
        self, name: str, tool_args: dict[str, Any], ctx: RunContext[Any], tool: ToolsetTool[Any]
    ) -> object:
        """Run a tool under guard.

        Raises:
            ToolFailed: The call is refused, or its result withheld.
        """
        raised = list[BaseException]()

        async def body(call: Call) -> object:
            try:
                return _shown(await super(_GuardedToolset, self).call_tool(name, dict(call.arguments), ctx, tool))
            except BaseException as error:
                raised.append(error)
                raise

        token = running.set(ctx)
        try:
            with self.guarding.at_home():
                return await self.guarding.guards.run_async(self._asked(name, tool_args, ctx, tool), body)
        except Denied as denied:
            raise ToolFailed(refusal(denied)) from None
        except Exception as error:
            if any(error is each for each in raised) or isinstance(error, SUSPENDS):
                raise
            _LOG.error("the guard of %s failed, the call is refused: %s", name, safe_message(error))
            code = error.code if isinstance(error, AgentIdentityError) else "guard_failed"
            raise ToolFailed(refusal(Denied("it could not be guarded", code=code))) from None
        finally:
            running.reset(token)

    def _asked(self, name: str, arguments: Mapping[str, Any], ctx: RunContext[Any], tool: ToolsetTool[Any]) -> ToolCall:
        kind, server = _source(self.wrapped)
        properties = cast("Mapping[str, Any]", tool.tool_def.parameters_json_schema.get("properties") or {})
        supplied = tuple(each for each, value in arguments.items() if not _is_default(value, properties.get(each)))
        request = CallRequest(arguments, supplied=supplied, call_id=ctx.tool_call_id)
        return ToolCall(name, request, _name_of(ctx), kind, server)


async def _record_unknown(
    guards: ToolGuards, ctx: RunContext[Any], name: str, arguments: dict[str, Any], call_id: str
) -> None:
    """Record the refusal of a call of a tool that does not exist; the framework answers it."""
    denied = Denied(f"{name}: the agent has no tool of this name", code="tool_unknown")

    def body(call: Call) -> object:
        raise denied  # Monitor mode.

    request = CallRequest(arguments, call_id=call_id, refusal=denied)
    try:
        await guards.run_async(ToolCall(name, request, _name_of(ctx)), cast("Any", body))
    except Denied:
        return
    except Exception as error:  # noqa: BLE001 - No tool runs here, and the run has to go on.
        _LOG.error("the call of a tool that does not exist is not on record: %s", safe_message(error))


def _is_within(task: Task, outer: Task) -> bool:
    """Return whether a task is one that another task delegated."""
    grants = outer.chain.grants
    return [each.id for each in task.chain.grants[: len(grants)]] == [each.id for each in grants]


def _is_default(value: object, schema: object) -> bool:
    """Return whether an argument has the default of its schema, which is the same as not being supplied."""
    if not isinstance(schema, Mapping) or "default" not in schema:
        return False
    default = cast("Mapping[str, object]", schema)["default"]
    return type(value) is type(default) and value == default


def _name_of(ctx: RunContext[Any]) -> str | None:
    return None if ctx.agent is None else ctx.agent.name


def _conversation() -> str | None:
    ctx = running.get()
    return None if ctx is None else ctx.conversation_id or ctx.run_id


def _source(toolset: AbstractToolset[Any]) -> tuple[str, str | None]:
    """Return the kind of the tools of a toolset, and the name that the application gave to their server."""
    kind = cast("object", getattr(sys.modules.get("pydantic_ai.mcp"), "MCPToolset", None))
    return ("mcp", toolset.id) if isinstance(kind, type) and isinstance(toolset, kind) else ("function", None)


def _shown(result: object) -> object:
    """Return a result with what the model reads of it, where the tool says this apart."""
    if not isinstance(result, ToolReturn):
        return result
    content: dict[str, object] = {"return_value": result.return_value, "content": result.content}

    def rebuilt(changed: object) -> object:
        return replace(result, **cast("dict[str, Any]", changed))

    return Shown(result, content, rebuild=rebuilt)
