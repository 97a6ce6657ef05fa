"""The serving side: handlers of tools, resources and prompts run inside the task of whoever calls."""

import dataclasses
import importlib
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from contextlib import AsyncExitStack
from contextvars import ContextVar
from functools import partial
from types import MappingProxyType
from typing import Any, Final, Protocol, TypeVar, cast, final

from agent_identity.authority import Scope
from agent_identity.enforcement import Call, CallRequest, Enforcer, GuardedCall, Opening, Shown
from agent_identity.enforcement.failures import kind_of
from agent_identity.enforcement.off_loop import off_loop
from agent_identity.enforcement.traces import TRACEPARENT
from agent_identity.errors import ConfigurationError, Denied, EvidenceError, TokenError
from agent_identity.identity import Agent, Principal, Service, Signer
from agent_identity.integrations.mcp.binding import METHODS, OURS, Target, bound, members, presentation_of, target_of
from agent_identity.integrations.mcp.conversion import Conversion, conversion_of, settled
from agent_identity.integrations.mcp.sdk import (
    is_a,
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
    Guard a ``FastMCP`` or ``MCPServer`` of the SDK before its tools are registered, so that it is known what each of
    them makes of its arguments.

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
        ConfigurationError: It is no server of a version that is known, another enforcer guards it, the name cannot be
            used, or it is one of the SDK and has tools already.
    """
    seam = _seam_of(server)
    touched = checked_touches(touches)
    door = _Door(enforcer, check_name(name), holder, agent, purpose, dangerously_let_in_anonymous, touched)
    before = cast("_Door | None", getattr(seam.owner, _DOOR, None)) or seam.door
    if before is not None and before != door:
        raise ConfigurationError("expected an MCP server that nobody guards yet, got a guarded one; guard it once")
    found = before or door
    if found.conversion is None:  # Perhaps the low-level one was handed in before.
        found = dataclasses.replace(found, conversion=conversion_of(server))
    seam.guard(found)  # Again, for somebody may have put other handlers or middleware in the place of these.
    setattr(seam.owner, _DOOR, found)
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
    conversion: Conversion | None = dataclasses.field(default=None, compare=False, repr=False)

    async def run(
        self, method: str, sent: "_Sent", params: Mapping[str, object], body: Callable[[], Awaitable[object]]
    ) -> object:
        """Return what the handler returns.

        Args:
            method: The method of the request.
            sent: The request as it was sent, of which the proof speaks.
            params: Its parameters as the handler gets them, which are judged.
            body: Calls the handler.

        Raises:
            Denied: The call is refused, or its result withheld; it is recorded.
            EvidenceError: It could not be recorded.
        """
        target = cast("Target", target_of(self.name, method, params))
        touches = self.touches.get(target.tool or "")
        guard = self.enforcer.guard(target.name, kind="mcp", server=self.name, touches=touches)
        opening = await off_loop(partial(self._opening, target, guard, sent))
        await opening.__aenter__()  # Here, apart from the handler, whose errors are its own.
        async with AsyncExitStack() as stack:
            stack.push_async_exit(opening)
            values, trouble = target.values, target.trouble
            if trouble is None and target.tool is not None:
                values, trouble = await settled(self.conversion, target, sent.meta)

            async def answer(_: Call) -> Shown:
                return shown(await body(), is_tool=method == "tools/call")

            request = CallRequest(values, tuple(target.values), can_route=False, refusal=trouble)
            return await guard.run_async(request, answer)

    def _opening(self, target: Target, guard: GuardedCall, sent: "_Sent") -> Opening:
        try:
            presentation = presentation_of(sent.meta)
        except TokenError as error:
            raise guard.refuse(target.values, Denied(str(error), code=error.code)) from None
        if presentation is None:
            return self._stranger(target, guard)
        trace = sent.meta.get(TRACEPARENT)
        return self.enforcer.receive(
            presentation,
            tool=target.name,
            arguments=sent.params,
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


@final
@dataclasses.dataclass(frozen=True, slots=True)
class _Sent:
    """A request as it was sent: to whom, its parameters but ``_meta``, and that."""

    door: _Door
    params: Mapping[str, object]
    meta: Mapping[str, object]


_SENT: Final[ContextVar[_Sent | None]] = ContextVar("agent_identity_mcp_sent", default=None)


class _Handlers(dict[type, _Handler]):
    """The handlers of a server of 1.x by class of request; guarded as they are looked up, whoever put them there."""

    def __init__(self, door: _Door, handlers: dict[type, _Handler]) -> None:
        super().__init__(handlers.items())  # As they are: what guards them is about looking up.
        self.door = door

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

            sent = _Sent(self.door, bound(asked), extra)
            result = await _answered(method, lambda: self.door.run(method, sent, asked, body))
            return wrapper[0] if wrapper and unwrapped(wrapper[0]) is result else _legacy_result(result)

        return guarded


class _Message(Protocol):
    """What middleware of 2.x is given."""

    method: str
    params: Mapping[str, object] | None
    meta: object
    request_id: object


_Rest = Callable[[_Message], Awaitable[object]]


@final
class _Outermost:
    """Middleware of 2.x that keeps a request as it was sent, and shows the others no authority."""

    def __init__(self, door: _Door) -> None:
        self.door = door

    async def __call__(self, message: _Message, rest: _Rest) -> object:
        if not _is_guarded(message):
            return await rest(message)
        token = _SENT.set(_taken(self.door, message))
        try:
            return await rest(message)
        finally:
            _SENT.reset(token)


@final
class _Innermost:
    """Middleware of 2.x that guards a handler, with the parameters that it gets."""

    def __init__(self, door: _Door) -> None:
        self.door = door

    async def __call__(self, message: _Message, rest: _Rest) -> object:
        if not _is_guarded(message):
            return await rest(message)
        sent = _SENT.get()
        if sent is None or sent.door is not self.door:
            sent = _taken(self.door, message)
        _SENT.set(None)  # Handlers have the task, and no need of tokens.
        params = members(message.params)
        run = partial(self.door.run, message.method, sent, params, partial(rest, message))
        return await _answered(message.method, run)


def _is_guarded(message: _Message) -> bool:
    return message.method in METHODS and message.request_id is not None


def _taken(door: _Door, message: _Message) -> _Sent:
    """Return a request as it was sent, and take our members out of its ``_meta``."""
    raw = members(message.params)
    sent = _Sent(door, bound(raw), plain(raw.get("_meta")))
    for place in (raw.get("_meta"), message.meta):
        _strip(place)
    return sent


def _strip(meta: object) -> None:
    """Take our members out of ``_meta``: handlers have the task, and log or return what they are given."""
    if isinstance(meta, MutableMapping):
        for name in OURS:
            cast("MutableMapping[str, object]", meta).pop(name, None)


def _legacy_result(result: object) -> object:
    from mcp import types  # noqa: PLC0415  Only this version has it.

    return wrapped_like(types.ServerResult(types.EmptyResult()), result)


def _under_manager(server: object) -> object:
    """Return the low-level server of a ``FastMCP`` of 1.x, which the manager of its sessions over HTTP names.

    Raises:
        ConfigurationError: It does not say.
    """
    kind = cast("Any", importlib.import_module("mcp.server.fastmcp")).FastMCP
    try:
        # The server itself makes its manager when it serves, with the settings of then; how it is copied is its own.
        twin = object.__new__(type(server))
        vars(twin).update(vars(server))
        kind.streamable_http_app(twin)
        return cast("object", kind.session_manager.fget(twin).app)
    except Exception as error:
        raise ConfigurationError(
            f"expected a FastMCP that can be served over HTTP, got one that cannot ({kind_of(error)}); hand in one "
            "whose constructor has run"
        ) from error


class _Seam(Protocol):
    """Where the requests of a server can be guarded."""

    owner: object

    @property
    def door(self) -> _Door | None:
        """What guards them already."""
        ...

    def guard(self, door: _Door) -> None:
        """Guard them; again changes nothing."""
        ...


@final
class _HandlersOf:
    """The handlers of a low-level server of 1.x."""

    def __init__(self, lower: object) -> None:
        self.owner = lower
        self.door = None

    def guard(self, door: _Door) -> None:
        handlers = cast("dict[type, _Handler]", getattr(self.owner, "request_handlers"))  # noqa: B009
        if not isinstance(handlers, _Handlers) or handlers.door is not door:
            setattr(self.owner, "request_handlers", _Handlers(door, handlers))  # noqa: B010


@final
class _MiddlewareOf:
    """The middleware of a server of 2.x, which a low-level server shares with that above it."""

    def __init__(self, owner: object, middleware: list[object]) -> None:
        self.owner = owner
        self._middleware = middleware

    @property
    def door(self) -> _Door | None:
        return next((of.door for of in self._middleware if isinstance(of, (_Outermost, _Innermost))), None)

    def guard(self, door: _Door) -> None:
        others = [of for of in self._middleware if not isinstance(of, (_Outermost, _Innermost))]
        self._middleware[:] = [_Outermost(door), *others, _Innermost(door)]


def _seam_of(server: object) -> _Seam:
    """Return where the requests of a server can be guarded.

    Raises:
        ConfigurationError: It is no server.
    """
    lower = server
    if is_a(server, "mcp.server.fastmcp", "FastMCP"):
        lower = _under_manager(server)
    elif is_a(server, "fastmcp.server", "FastMCP"):
        lower = cast("object", getattr(server, "_mcp_server", None))
    middleware = cast("object", getattr(lower, "middleware", None))
    if isinstance(middleware, list):
        return _MiddlewareOf(lower, cast("list[object]", middleware))
    if isinstance(getattr(lower, "request_handlers", None), dict):
        return _HandlersOf(lower)
    raise ConfigurationError(f"expected an MCP server of the SDK 1.x or 2.x or of fastmcp, got {type(server).__name__}")
