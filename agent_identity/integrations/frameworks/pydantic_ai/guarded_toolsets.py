"""Toolsets under guard.

The guard is around each innermost toolset, so that it judges the arguments that run, whatever hooks and outer toolsets
made of them.
"""

import inspect
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any, cast

from opentelemetry import context as otel
from pydantic_ai import RunContext
from pydantic_ai.exceptions import ToolFailed
from pydantic_ai.messages import ToolReturn
from pydantic_ai.toolsets import AbstractToolset, DynamicToolset, FunctionToolset, ToolsetTool, WrapperToolset

from agent_identity import Task
from agent_identity.adapters import Call, CallRequest, Shown, ToolCall, ToolGuards, refusal, resumed, tool_name
from agent_identity.errors import Denied
from agent_identity.integrations.frameworks.pydantic_ai.calls import agent_name, guarded, is_of_run, is_spliced, running
from agent_identity.integrations.narrowing import is_list

__all__ = ["Guarding"]


class Guarding:
    """Visitor of toolsets: puts a guard around each innermost toolset that has none.

    Args:
        guards: The guards.
        gives_way: They leave toolsets to other guards, which count as an error otherwise.

    Attributes:
        guards: See above.
    """

    def __init__(self, guards: ToolGuards, *, gives_way: bool = False) -> None:
        self.guards = guards
        self._gives_way = gives_way
        self._context = otel.get_current()
        self._task = guards.enforcer.current_task

    def __call__(self, toolset: AbstractToolset[object]) -> AbstractToolset[object]:
        """Return a toolset with a guard around it."""
        if type(toolset) is not DynamicToolset:
            return _GuardedToolset(toolset, self)
        make = cast("object", toolset.toolset_func)
        if isinstance(make, _GuardedFactory):
            self.meet(make.guarding)
            return toolset
        factory = _GuardedFactory(toolset.toolset_func, self)
        return DynamicToolset(factory, per_run_step=toolset.per_run_step, id=toolset.id)

    def meet(self, first: "Guarding") -> None:
        """Leave a toolset to the guard that it has.

        Args:
            first: Puts that guard there.

        Raises:
            ConfigurationError: It is that of a capability with another enforcer or other options; in monitor mode this
                is logged.
        """
        if not self._gives_way and not first.guards.is_like(self.guards):
            first.guards.refuse_second(self.guards, "the agent")

    def at_home(self) -> AbstractContextManager[object]:
        """Return a context manager that restores the task of the run where another one is open.

        A task that was delegated since by that of the run stays.
        """
        here, home = self.guards.enforcer.current_task, self._task
        if home is None or here is home or (here is not None and _is_within(here, home)):
            return nullcontext()
        return resumed(self._context)


class _GuardedFactory:
    """Makes the toolsets of a dynamic toolset, with guards.

    Attributes:
        guarding: Puts them there.
    """

    def __init__(self, make: Callable[[RunContext[object]], Any], guarding: Guarding) -> None:
        self._make = make
        self.guarding = guarding
        self._last: tuple[AbstractToolset[object], AbstractToolset[object]] | None = None

    async def __call__(self, ctx: RunContext[object]) -> AbstractToolset[object] | None:
        toolset = self._make(ctx)
        if inspect.isawaitable(toolset):
            toolset = await toolset
        if toolset is None:
            return None
        if self._last is None or self._last[0] is not toolset:  # The same one is not entered again.
            self._last = toolset, toolset.visit_and_replace(self.guarding)
        return self._last[1]


@dataclass
class _GuardedToolset(WrapperToolset[object]):
    """A toolset whose calls are guarded."""

    guarding: Guarding = field(repr=False, compare=False)

    @property
    def label(self) -> str:
        """The name in error messages."""
        return self.wrapped.label

    def visit_and_replace(
        self, visitor: Callable[[AbstractToolset[object]], AbstractToolset[object]]
    ) -> AbstractToolset[object]:
        """Let a visitor replace the toolset within; another guard has no place there."""
        if not isinstance(visitor, Guarding):
            return super().visit_and_replace(visitor)
        visitor.meet(self.guarding)
        return self

    async def call_tool(
        self, name: str, tool_args: dict[str, Any], ctx: RunContext[object], tool: ToolsetTool[object]
    ) -> object:
        """Run a tool under guard.

        Raises:
            ToolFailed: The call is refused, or its result withheld.
        """

        async def body(call: Call) -> object:
            return _shown(await super(_GuardedToolset, self).call_tool(name, dict(call.arguments), ctx, tool))

        token = running.set(ctx)
        try:
            with self.guarding.at_home():
                return await guarded(self.guarding.guards, self._asked(name, tool_args, ctx, tool), body)
        except Denied as denied:
            raise ToolFailed(refusal(denied)) from None
        finally:
            running.reset(token)

    def _asked(
        self, name: str, arguments: Mapping[str, Any], ctx: RunContext[object], tool: ToolsetTool[object]
    ) -> ToolCall:
        kind, server = _source(self.wrapped)
        schema = cast("Mapping[str, Any]", tool.tool_def.parameters_json_schema)
        properties = schema.get("properties") or {}
        supplied = tuple(each for each, value in arguments.items() if not _is_default(value, properties.get(each)))
        request = CallRequest(arguments, supplied=supplied, call_id=ctx.tool_call_id)
        own = self.wrapped.tools.get(name) if isinstance(self.wrapped, FunctionToolset) else None
        function = None if own is None else own.function
        return ToolCall(
            tool_name(server, name),
            request,
            agent_name(ctx),
            kind,
            server,
            schema=schema,
            contents=_result_contents,
            function=function,
            is_seen=is_of_run(ctx) and not is_spliced(ctx),
            description=tool.tool_def.description,
        )


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


def _source(toolset: AbstractToolset[object]) -> tuple[str, str | None]:
    """Return the kind of the tools of a toolset, and the name that the application gave to their server."""
    kind: object = getattr(sys.modules.get("pydantic_ai.mcp"), "MCPToolset", None)
    if not isinstance(kind, type) or not isinstance(toolset, kind):
        return "function", None
    return "mcp", cast("Any", toolset).id


def _result_contents(result: object) -> Iterable[object]:
    """Return the contents of a result that the model will read."""
    if not isinstance(result, ToolReturn):
        return (result,)
    content = cast("object", result.content)
    return (result.return_value, *(content if is_list(content) else (content,)))


def _shown(result: object) -> object:
    """Return a result with what the model reads of it, where the tool says this apart."""
    if not isinstance(result, ToolReturn):
        return result
    content: dict[str, object] = {"return_value": result.return_value, "content": result.content}
    if isinstance(result.metadata, str | dict | list):  # No model reads it, and whoever keeps the messages does.
        content["metadata"] = cast("object", result.metadata)

    def rebuilt(changed: object) -> object:
        return replace(result, **cast("dict[str, Any]", changed))

    return Shown(result, content, rebuild=rebuilt)
