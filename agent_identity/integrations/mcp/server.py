"""The serving side: handlers of tools, resources and prompts run inside the task of whoever calls."""

import dataclasses
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from contextlib import AsyncExitStack
from functools import partial
from types import MappingProxyType
from typing import Final, Protocol, TypeVar, cast, final

from agent_identity.authority import Scope
from agent_identity.enforcement import Call, CallRequest, Enforcer, GuardedCall, Opening, Shown
from agent_identity.enforcement.off_loop import off_loop
from agent_identity.enforcement.traces import TRACEPARENT
from agent_identity.errors import ConfigurationError, Denied, EvidenceError, TokenError
from agent_identity.identity import Agent, Principal, Service, Signer
from agent_identity.integrations.mcp.binding import OURS, Target, bound, members, presentation_of, target_of
from agent_identity.integrations.mcp.conversion import settled
from agent_identity.integrations.mcp.sdk import (
    keep_out_of_logs,
    plain,
    protocol_error,
    refusal_result,
    unwrapped,
    wrapped_like,
)
from agent_identity.integrations.mcp.servers import check_name, checked_touches
from agent_identity.policy import Touch
from agent_identity.policy.touch import Touches

__all__ = ["Anonymous", "ToolFailedError", "protect_server", "shown"]

ServerT = TypeVar("ServerT")
_Handler = Callable[..., Awaitable[object]]

_DOOR: Final = "__agent_identity_door__"
_LEGACY: Final = {
    "CallToolRequest": "tools/call",
    "ReadResourceRequest": "resources/read",
    "GetPromptRequest": "prompts/get",
    "CompleteRequest": "completion/complete",
}
"""The classes of requests in 1.x whose handlers are guarded."""


class ToolFailedError(Exception):
    """What a tool answered is an error, by the word of the tool."""


@final
@dataclasses.dataclass(frozen=True, slots=True)
class Anonymous:
    """As whom a call without authority runs, if a server lets such calls in.

    Args:
        agent: Who acts; its owner answers for every such call.
        scope: The most that such calls may do.
        principal: On whose behalf the records say that they are.
    """

    agent: Agent
    scope: Scope
    principal: Principal = Service("anonymous")  # noqa: RUF009  It is frozen.


def protect_server(
    server: ServerT,
    enforcer: Enforcer,
    *,
    name: str,
    holder: Signer | None = None,
    agent: Agent | None = None,
    purpose: str | None = None,
    dangerously_let_in_anonymous: Anonymous | None = None,
    touches: Mapping[str, Touches] = MappingProxyType({}),
) -> ServerT:
    """Guard the handlers of tools, resources, prompts and completions of an MCP server, in place.

    A call is let in with a chain of grants made for this server and a proof for exactly this call; it runs inside the
    task of the caller, under the trust store, policy and ledger of this enforcer. A refused tool call is answered by
    an error result with code and reference; anything else by an error of the protocol with both.
    Handlers that are registered later are guarded as well. Listings and pings are answered to anybody.

    Args:
        server: A ``Server`` or ``FastMCP`` of the SDK 1.x, a ``Server`` or ``MCPServer`` of 2.x, or a ``FastMCP`` of
            the package fastmcp; a high-level one itself, so that its conversions are known. Guarding again by the same
            enforcer under the same name changes nothing, unless somebody replaced the guarded handlers.
        enforcer: The enforcer of the server.
        name: The name of the server, to which callers address grants and proofs, and which begins the names of its
            tools in scopes and policies.
        holder: The key of the server, with which it can go on with grants that are made for it.
        agent: Who acts in the server; grants for other agents are refused.
        purpose: What the tasks are for.
        dangerously_let_in_anonymous: Calls that bring no authority at all run as this, in a task that this enforcer
            opens; by default they are refused.
        touches: The resources that its tools touch, by the name of the tool; see :meth:`agent_identity.Enforcer.tool`.

    Returns:
        What was given: the same server.

    Raises:
        ConfigurationError: It is no server of a version that is known, another enforcer guards it, or the name cannot
            be used.
    """
    lower = _lower_level(server)
    before = cast("_Door | None", getattr(lower, _DOOR, None))
    touched = checked_touches(touches)
    door = _Door(enforcer, check_name(name), holder, agent, purpose, dangerously_let_in_anonymous, touched, server)
    if before is not None and before != door:
        raise ConfigurationError("expected an MCP server that nobody guards yet, got a guarded one; guard it once")
    handlers = cast("object", getattr(lower, "request_handlers", None))
    if isinstance(handlers, dict):
        if not isinstance(handlers, _Handlers):  # Somebody may have put other ones in their place.
            guarded = _Handlers(before or door, cast("dict[type, _Handler]", handlers))
            lower.request_handlers = guarded  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]  As in 1.x.
    elif not hasattr(cast("_Modern", lower).get_request_handler, _DOOR):
        _guard_found(cast("_Modern", lower), before or door)
    setattr(lower, _DOOR, before or door)
    keep_out_of_logs()
    return server


@dataclasses.dataclass(frozen=True, slots=True)
class _Door:
    """What every guarded request of one server passes."""

    enforcer: Enforcer
    name: str
    holder: Signer | None
    agent: Agent | None
    purpose: str | None
    anonymous: Anonymous | None
    touches: Mapping[str, tuple[Touch, ...]]
    server: object = dataclasses.field(compare=False, repr=False)

    async def run(
        self,
        method: str,
        params: Mapping[str, object],
        meta: Mapping[str, object],
        body: Callable[[], Awaitable[object]],
    ) -> object:
        """Return what the handler returns.

        Raises:
            Denied: The call is refused, or its result withheld; it is recorded.
            EvidenceError: It could not be recorded.
        """
        target = cast("Target", target_of(self.name, method, params))
        touches = self.touches.get(target.tool or "")
        guard = self.enforcer.guard(target.name, kind="mcp", server=self.name, touches=touches)
        opening = await off_loop(partial(self._opening, target, guard, params, meta))
        await opening.__aenter__()  # Here, apart from the handler, whose errors are its own.
        async with AsyncExitStack() as stack:
            stack.push_async_exit(opening)
            values, trouble = target.values, target.trouble
            if trouble is None and target.tool is not None:
                values, trouble = await settled(self.server, target.name, values, tool=target.tool, meta=meta)

            async def answer(_: Call) -> Shown:
                return shown(await body(), is_tool=method == "tools/call")

            request = CallRequest(values, tuple(target.values), can_route=False, refusal=trouble)
            return await guard.run_async(request, answer)

    def _opening(
        self, target: Target, guard: GuardedCall, params: Mapping[str, object], meta: Mapping[str, object]
    ) -> Opening:
        try:
            presentation = presentation_of(meta)
        except TokenError as error:
            raise guard.refuse(target.values, Denied(str(error), code=error.code)) from None
        if presentation is None:
            return self._stranger(target, guard)
        trace = meta.get(TRACEPARENT)
        return self.enforcer.receive(
            presentation,
            tool=target.name,
            arguments=bound(params),
            audience=self.name,
            holder=self.holder,
            agent=self.agent,
            purpose=self.purpose,
            traceparent=trace if isinstance(trace, str) else None,
        )

    def _stranger(self, target: Target, guard: GuardedCall) -> Opening:
        if self.anonymous is None:
            text = f"{target.name}: expected authority in _meta, got none; call through protect_session(...)"
            raise guard.refuse(target.values, Denied(text, code="no_delegation"))
        return self.enforcer.task(
            self.purpose or "call of nobody known",
            principal=self.anonymous.principal,
            agent=self.anonymous.agent,
            scope=self.anonymous.scope,
        )


def shown(result: object, *, is_tool: bool) -> Shown:
    """Return a result of the SDK, with what of it is looked at, and whether it says that a tool has failed."""
    content = plain(result)
    return Shown(result, content, ToolFailedError() if is_tool and content.get("isError") is True else None)


async def _answered(method: str, run: Callable[[], Awaitable[object]]) -> object:
    """Return the result, or the refusal in the form that the protocol has for it."""
    try:
        return await run()
    except Denied as denied:
        refused = denied
    except EvidenceError as error:
        refused = Denied("the call could not be recorded", code=error.code)
    if method == "tools/call":
        return refusal_result(refused)
    raise protocol_error(refused) from None


class _Handlers(dict[type, _Handler]):
    """The handlers of a server of 1.x by class of request; guarded as they are looked up, whoever put them there."""

    def __init__(self, door: _Door, handlers: Mapping[type, _Handler]) -> None:
        super().__init__(handlers)
        self._door = door

    def __getitem__(self, kind: type) -> _Handler:
        return self._guarded(kind, super().__getitem__(kind))

    def get(self, kind: type, default: object = None) -> object:  # type: ignore[override]
        handler = super().get(kind)
        return default if handler is None else self._guarded(kind, handler)

    def _guarded(self, kind: type, handler: _Handler) -> _Handler:
        method = _LEGACY.get(kind.__name__)
        if method is None:
            return handler

        async def guarded(request: object) -> object:
            params = cast("object", getattr(request, "params", None))
            meta = cast("object", getattr(params, "meta", None))
            asked, extra = plain(params), plain(meta)
            _strip(getattr(meta, "model_extra", None))
            wrapper: list[object] = []

            async def body() -> object:
                wrapper.append(await handler(request))
                return unwrapped(wrapper[0])

            result = await _answered(method, lambda: self._door.run(method, asked, extra, body))
            return wrapper[0] if wrapper and unwrapped(wrapper[0]) is result else _legacy_result(result)

        return guarded


class _Entry(Protocol):
    """A registered handler of 2.x; a frozen dataclass."""

    @property
    def handler(self) -> _Handler: ...


class _Modern(Protocol):
    """A low-level server of 2.x."""

    get_request_handler: Callable[[str], _Entry | None]


def _guard_found(server: _Modern, door: _Door) -> None:
    """Guard handlers as they are looked up, whoever registered them."""
    find = server.get_request_handler

    def found(method: str) -> _Entry | None:
        entry = find(method)
        if entry is None or method not in _LEGACY.values():
            return entry
        handler = entry.handler

        async def guarded(context: object, params: object) -> object:
            raw = members(getattr(context, "params", None))
            extra = plain(raw.get("_meta"))
            for place in (raw.get("_meta"), getattr(context, "meta", None), getattr(params, "meta", None)):
                _strip(place)
            return await _answered(method, lambda: door.run(method, raw, extra, lambda: handler(context, params)))

        return dataclasses.replace(entry, handler=guarded)  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]

    setattr(found, _DOOR, door)
    server.get_request_handler = found


def _strip(meta: object) -> None:
    """Take our members out of ``_meta``: handlers have the task, and log or return what they are given."""
    if isinstance(meta, MutableMapping):
        for name in OURS:
            cast("MutableMapping[str, object]", meta).pop(name, None)


def _legacy_result(result: object) -> object:
    from mcp import types  # noqa: PLC0415  Only this version has it.

    return wrapped_like(types.ServerResult(types.EmptyResult()), result)


def _lower_level(server: object) -> object:
    """Return the low-level server that holds the handlers."""
    for name in ("_mcp_server", "_lowlevel_server"):
        server = cast("object", getattr(server, name, server))
    if not isinstance(getattr(server, "request_handlers", None), dict) and not hasattr(server, "get_request_handler"):
        raise ConfigurationError(
            f"expected an MCP server of the SDK 1.x or 2.x or of fastmcp, got {type(server).__name__}"
        )
    return server
