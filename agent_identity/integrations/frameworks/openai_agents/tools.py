"""Function tools of the OpenAI Agents SDK, guarded in place: the same tool, whose body runs under guard."""

import inspect
import logging
from collections.abc import Awaitable, Callable, Mapping
from copy import copy
from typing import Any, Final, TypeAlias, cast

from agents import FunctionTool, RunContextWrapper, SpanError, ToolOriginType, get_current_span
from agents.agent_tool_state import get_agent_tool_state_scope, peek_agent_tool_run_result
from agents.tool import (
    get_function_tool_origin,
    set_function_tool_failure_error_function,
    with_function_tool_failure_error_handler,
)
from agents.tool_context import ToolContext

from agent_identity.adapters import CallRequest, ToolCall, tool_name
from agent_identity.errors import Denied
from agent_identity.integrations.frameworks.openai_agents.arguments import parse, shown, text_for
from agent_identity.integrations.frameworks.openai_agents.bodies import SharedBody, seen_in
from agent_identity.integrations.frameworks.openai_agents.interruptions import Suspended, suspend_for_approval
from agent_identity.integrations.frameworks.openai_agents.owners import Owner
from agent_identity.integrations.frameworks.tool_schemas import with_defaults

__all__ = ["GuardedBody", "guard_tool", "is_agent_tool", "release_tool"]

_LOG: Final = logging.getLogger("agent_identity")
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
