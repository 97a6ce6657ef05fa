"""Tools of Google ADK, guarded in place, behind every callback that may change their arguments."""

import functools
import inspect
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextvars import ContextVar
from typing import Any, Final, cast, final

from google.adk.tools.agent_tool import AgentTool
from google.adk.tools.base_tool import BaseTool
from google.adk.tools.base_toolset import BaseToolset
from google.adk.tools.tool_context import ToolContext

from agent_identity.adapters import (
    Call,
    CallRequest,
    Shown,
    ToolCall,
    ToolGuards,
    guard_failed,
    refusal,
    safe_message,
    tool_name,
)
from agent_identity.errors import ConfigurationError, Denied
from agent_identity.integrations.frameworks.tool_schemas import schema_of, with_defaults

__all__ = [
    "NAME",
    "GuardedTools",
    "SuspendedError",
    "ToolReportedError",
    "current_call",
    "mark_tools",
    "response_content",
]

NAME: Final = "agent_identity"
"""The name of the plugin."""

_LOG: Final = logging.getLogger("agent_identity")
_SERVER: Final = "agent_identity_server"
_GUARDED: Final = "agent_identity_guarded"
_CALL: ContextVar["tuple[GuardedTools, ToolContext] | None"] = ContextVar("agent_identity_adk_call", default=None)
_Body = Callable[..., Awaitable[object]]


class SuspendedError(Exception):
    """A tool waits for a confirmation or a credential, and will be called again.

    Args:
        answer: The answer for the app meanwhile.
    """

    def __init__(self, answer: object) -> None:
        super().__init__("the tool waits")
        self.answer = answer


class ToolReportedError(Exception):
    """A tool returned an error instead of raising one; its text is in the result."""


@final
class GuardedTools:
    """Guards the tools of one app.

    Args:
        guards: The guards by name; :class:`SuspendedError` must suspend their calls.
    """

    def __init__(self, guards: ToolGuards) -> None:
        self._guards = guards

    async def guard(self, tool: BaseTool, args: dict[str, object], context: ToolContext) -> dict[str, object] | None:
        """Guard a tool in place, for the call that follows; return a refusal if it cannot be guarded.

        Args:
            tool: The tool.
            args: The arguments so far.
            context: The context of the call.
        """
        _CALL.set((self, context))
        if type(tool) is BaseTool or _is_guarded(tool, context):  # The first stands for a tool that does not exist.
            return None
        guard = self._guards.of(tool.name)
        if guard.mode == "monitor":
            _LOG.warning("monitor mode: %s runs unguarded; its run_async is no method, or a live generator", tool.name)
            return None
        message = f"{tool.name} cannot be guarded; its run_async must be a method, and its function no live generator"
        refused = await guard.refuse_async(args, Denied(message, code="not_guarded"), guard.current_task)
        return {"error": refusal(refused)}

    @staticmethod
    def listed(tools: Iterable[BaseTool]) -> None:
        """Guard tools in place that an agent lists for its model; others are refused when they are called.

        Args:
            tools: The tools.
        """
        for tool in tools:
            _takes_guard(tool)

    async def record_missing(
        self, tool: BaseTool, args: dict[str, object], context: ToolContext, error: Exception
    ) -> dict[str, object] | None:
        """Record a call of a tool that does not exist; return the refusal if it is refused.

        Args:
            tool: What stands for the tool.
            args: The arguments.
            context: The context of the call.
            error: The error of the app.
        """
        if type(tool) is not BaseTool:
            return None
        _CALL.set((self, context))

        async def missing(**_: object) -> object:
            raise error

        try:
            return cast("dict[str, object]", await self.run(tool, args, context, missing))
        except Exception:  # noqa: BLE001 - It is on record, and the app answers it.
            return None

    async def run(self, tool: BaseTool, args: dict[str, object], context: ToolContext, body: _Body) -> object:
        """Run the body of a tool under guard, and return what the app is to get.

        Args:
            tool: The tool.
            args: The arguments that the body would get.
            context: The context of the call.
            body: What the tool does.
        """
        raised: BaseException | None = None

        async def guarded(call: Call) -> object:
            nonlocal raised
            try:
                result = await body(args=dict(call.arguments), tool_context=context)
            except BaseException as error:
                raised = error
                raise
            return _shown(result, context)

        try:
            return await self._guards.run_async(_described(tool, args, context), guarded)
        except SuspendedError as suspended:
            return suspended.answer
        except Denied as denied:
            return {"error": refusal(denied)}
        except Exception as error:
            if error is raised:
                raise
            return {"error": guard_failed(tool.name, error)}


def current_call() -> ToolContext | None:
    """Return the context of the tool call that is judged or runs here."""
    call = _CALL.get()
    return None if call is None else call[1]


def current_tools() -> GuardedTools | None:
    """Return the guard of the app whose tool runs here."""
    call = _CALL.get()
    return None if call is None else call[0]


def mark_tools(toolset: BaseToolset, server: str) -> None:
    """Have a toolset mark its tools with the name of their MCP server; copies of the tools keep the mark.

    Args:
        toolset: The toolset.
        server: The name of the server.

    Raises:
        TypeError: It is no toolset, or the name no text.
        ConfigurationError: The toolset has another name already.
    """
    if not isinstance(cast("object", toolset), BaseToolset) or not isinstance(cast("object", server), str):
        raise TypeError(f"an entry of servers= is {type(toolset).__name__}; pass toolsets, {{name: McpToolset(...)}}")
    kind = type(toolset)
    known: str | None = getattr(kind, _SERVER, None)
    if known == server:
        return
    if known is not None:
        raise ConfigurationError(f"the toolset of {server!r} is that of {known!r} already; make another one")

    async def get_tools(self: BaseToolset, *args: Any, **kwargs: Any) -> list[BaseTool]:  # noqa: ANN401
        tools = await kind.get_tools(self, *args, **kwargs)
        for tool in tools:
            setattr(tool, _SERVER, server)
        return tools

    members: dict[str, object] = {"__module__": kind.__module__, "get_tools": get_tools, _SERVER: server}
    toolset.__class__ = type(kind.__name__, (kind,), members)


def _is_guarded(tool: BaseTool, context: ToolContext) -> bool:
    """Guard a tool in place, and return whether all of its calls pass the guard then."""
    is_generator = inspect.isasyncgenfunction(getattr(tool, "func", None))
    if is_generator and context.get_invocation_context().live_request_queue is not None:
        return False  # The app calls the function itself.
    return _takes_guard(tool)


def _takes_guard(tool: BaseTool) -> bool:
    """Guard a tool in place, and return whether its ``run_async`` passes the guard then."""
    kind = type(tool)
    if "run_async" in vars(tool):  # It would run in the place of the method.
        return False
    if _GUARDED not in vars(kind):
        try:
            tool.__class__ = _guarded_kind(cast("Any", kind))
        except Exception as error:  # noqa: BLE001 - The caller refuses it on record, or lets it pass in monitor mode.
            _LOG.warning("the class of %s cannot be guarded: %s", tool.name, safe_message(error))
            return False
    return True


@functools.lru_cache(maxsize=1_024)
def _guarded_kind(kind: type[BaseTool]) -> type[BaseTool]:
    """Return the subclass of a class of tools whose calls in guarded apps pass the guard."""

    async def run_async(self: BaseTool, *, args: dict[str, object], tool_context: ToolContext) -> object:
        tools = current_tools() or _tools_of(tool_context)
        if tools is None:
            return await kind.run_async(self, args=args, tool_context=tool_context)
        return await tools.run(self, args, tool_context, functools.partial(kind.run_async, self))

    names = {name: getattr(kind, name) for name in ("__module__", "__qualname__", "__doc__")}
    return type(kind.__name__, (kind,), {**names, "run_async": run_async, _GUARDED: True})


def _tools_of(context: ToolContext) -> GuardedTools | None:
    tools = getattr(context.get_invocation_context().plugin_manager.get_plugin(NAME), "tools", None)
    return tools if isinstance(tools, GuardedTools) else None


def _described(tool: BaseTool, args: Mapping[str, object], context: ToolContext) -> ToolCall:
    """Describe one call of a tool, with the defaults that its body would apply."""
    is_mcp = hasattr(tool, "raw_mcp_tool")
    server: str | None = getattr(tool, _SERVER, None) if is_mcp else None
    schema = _schema(tool)
    arguments, supplied = with_defaults(args, schema)
    return ToolCall(
        tool_name(server, tool.name),
        CallRequest(arguments, supplied, call_id=context.function_call_id),
        acting=context.agent_name,
        kind="mcp" if is_mcp else "agent" if isinstance(tool, AgentTool) else "function",
        server=server,
        schema=schema,
        contents=_result_contents,
        function=getattr(tool, "func", None),
        description=tool.description,
    )


def _result_contents(result: object) -> Iterable[object]:
    """Return the contents of a result that the model will read."""
    return (response_content(cast("Mapping[str, object]", result)) if isinstance(result, dict) else result,)


def response_content(response: Mapping[str, object] | None) -> object:
    """Return the content of a function response, without the wrapper that the app or a refusal adds.

    Args:
        response: The response.
    """
    (only,) = response if response is not None and len(response) == 1 else (None,)
    return response[only] if response is not None and only in ("error", "result") else response


def _schema(tool: BaseTool) -> Mapping[str, object] | None:
    function, described = getattr(tool, "func", None), getattr(tool, "raw_mcp_tool", None)
    if function is not None:
        return schema_of(function)
    return None if described is None else getattr(described, "inputSchema", getattr(described, "input_schema", None))


def _shown(result: object, context: ToolContext) -> object:
    """Return the result of a tool for the guard.

    Raises:
        SuspendedError: The tool waits.
    """
    if not isinstance(result, dict):
        return result
    actions, call_id = context.actions, context.function_call_id
    if call_id in actions.requested_tool_confirmations or call_id in actions.requested_auth_configs:
        raise SuspendedError(result)
    if set(cast("dict[str, object]", result)) == {"error"}:
        return Shown(result, result, failure=ToolReportedError("the tool reported an error"), rebuild=_same)
    return cast("object", result)


def _same(content: object) -> object:
    return content
