"""The serving side of MCP: handlers of tools, resources and prompts run inside the task of the caller."""

import dataclasses
import importlib
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from collections.abc import Set as AbstractSet
from contextlib import AsyncExitStack
from contextvars import ContextVar
from functools import partial
from types import MappingProxyType
from typing import Any, Final, Protocol, TypeGuard, TypeVar, cast, final

from agent_identity import Agent, Enforcer, Scope, Service
from agent_identity.adapters import Call, CallRequest, DeclaredFlow, GuardedCall, Opening, Shown, error_type, off_loop
from agent_identity.errors import ConfigurationError, Denied, EvidenceError, TokenError
from agent_identity.identity import Principal, Signer
from agent_identity.inspection import Label
from agent_identity.integrations.http.binding import TRACEPARENT
from agent_identity.integrations.mcp.binding import (
    MARK,
    METHODS,
    OURS,
    Target,
    bound,
    members,
    presentation_of,
    target_of,
)
from agent_identity.integrations.mcp.conversion import Conversion, conversion_of, settled
from agent_identity.integrations.mcp.sdk import (
    is_a,
    keep_out_of_logs,
    plain,
    protocol_error,
    refusal_result,
    remade,
    unwrapped,
    wrapped_like,
)
from agent_identity.integrations.mcp.servers import check_name, checked_flows, checked_touches
from agent_identity.integrations.narrowing import is_list, is_mapping
from agent_identity.options import Touches

__all__ = ["Anonymous", "ToolFailedError", "label_in", "protect_server", "shown"]

ServerT = TypeVar("ServerT")
_Handler = Callable[..., Awaitable[object]]

_DOOR: Final = "__agent_identity_door__"
_LEGACY: Final = {
    "CallToolRequest": "tools/call",
    "ReadResourceRequest": "resources/read",
    "GetPromptRequest": "prompts/get",
    "CompleteRequest": "completion/complete",
}
"""The request classes of 1.x with guarded handlers."""


class ToolFailedError(Exception):
    """The tool itself answered with an error."""


@final
@dataclasses.dataclass(frozen=True, slots=True)
class Anonymous:
    """The identity of calls without authority, if a server admits them.

    Args:
        agent: The acting agent; its owner answers for every such call.
        scope: The scope of such calls.
        principal: Their principal in records.
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
    flow: Mapping[str, DeclaredFlow] = MappingProxyType({}),
) -> ServerT:
    """Guard the handlers of tools, resources, prompts and completions of an MCP server, in place.

    A call is admitted with a chain of grants made for this server and a proof for exactly this call; it runs inside the
    task of the caller, under the trust store, policy and ledger of this enforcer. A refused tool call is answered with
    an error result with code and reference; anything else with a protocol error with both.
    Handlers registered later are guarded as well. Listings and pings are answered to anybody.
    Guard a ``FastMCP`` or ``MCPServer`` of the SDK before its tools are registered, so that their argument
    conversion is known.

    Args:
        server: A ``Server`` or ``FastMCP`` of the SDK 1.x, a ``Server`` or ``MCPServer`` of 2.x, or a ``FastMCP`` of
            the package fastmcp; pass a high-level one itself, so that its conversions are known. Guarding again by the
            same enforcer under the same name has no effect, unless somebody replaced the guarded handlers.
        enforcer: The enforcer of the server.
        name: The name of the server, to which callers address grants and proofs, and the prefix of its
            tools in scopes and policies.
        holder: The key of the server, to continue with grants made for it.
        agent: The acting agent of the server; grants for other agents are refused.
        purpose: The purpose of the tasks.
        dangerously_let_in_anonymous: The identity of calls without any authority, in a task that this enforcer
            opens; by default they are refused.
        touches: The resources of its tools, by the name of the tool; see :meth:`agent_identity.Enforcer.tool`.
        flow: What its tools return, and which arguments decide where their calls lead, likewise: as a
            :class:`~agent_identity.adapters.DeclaredFlow` each.

    Returns:
        The argument: the same server.

    Raises:
        ConfigurationError: The server has an unknown version, another enforcer guards it, the name is
            malformed, or it is one of the SDK and has tools already.
    """
    seam = _intercepted_methods_of(server)
    touched, flows = checked_touches(touches), checked_flows(flow)
    if any(declared.restores for declared in flows.values()):
        raise ConfigurationError("a handler gets its arguments as they were sent; declare restores at the client")
    door = _Door(enforcer, check_name(name), holder, agent, purpose, dangerously_let_in_anonymous, touched, flows)
    before = cast("_Door | None", getattr(seam.owner, _DOOR, None)) or seam.door
    if before is not None and before != door:
        raise ConfigurationError("the MCP server is guarded already; guard it once")
    used = before or door
    if used.conversion is None:  # The low-level server may have been passed before.
        used = dataclasses.replace(used, conversion=conversion_of(server))
    seam.guard(used)  # Again, because somebody may have replaced the handlers or middleware.
    setattr(seam.owner, _DOOR, used)
    keep_out_of_logs()
    return server


@dataclasses.dataclass(frozen=True, slots=True)
class _Door:
    """The guard of every guarded request of one server."""

    enforcer: Enforcer
    name: str
    holder: Signer | None
    agent: Agent | None
    purpose: str | None
    anonymous: Anonymous | None
    touches: Mapping[str, Touches | None]
    flow: Mapping[str, DeclaredFlow]
    conversion: Conversion | None = dataclasses.field(default=None, compare=False, repr=False)

    async def run(
        self, method: str, sent: "_Sent", params: Mapping[str, object], body: Callable[[], Awaitable[object]]
    ) -> object:
        """Run a handler under guard, and return its result.

        Args:
            method: The method of the request.
            sent: The request as sent, which the proof covers.
            params: Its parameters for the handler, which are judged.
            body: Calls the handler.

        Raises:
            Denied: The call is refused, or its result withheld; the ledger has it.
            EvidenceError: The call could not be recorded.
        """
        target = cast("Target", target_of(self.name, method, params))
        touches = self.touches.get(target.tool or "")
        flow = self.flow.get(target.tool or "")
        guard = self.enforcer.guard(target.name, kind="mcp", server=self.name, touches=touches, flow=flow)
        opening = await off_loop(partial(self._opening, target, guard, sent))
        await opening.__aenter__()  # Here, apart from the handler, whose errors are its own.
        async with AsyncExitStack() as stack:
            stack.push_async_exit(opening)
            values, safe_message = target.values, target.safe_message
            if safe_message is None and target.tool is not None:
                values, safe_message = await settled(self.conversion, target, sent.meta)

            async def answer(_: Call) -> Shown:
                return shown(await body(), is_tool=method == "tools/call")

            request = CallRequest(values, tuple(target.values), can_route=False, refusal=safe_message)
            return await self._marked(await guard.run_async(request, answer))

    async def _marked(self, result: object) -> object:
        """Add what the task has read, signed, to a result; without it the caller takes the result as untrusted."""
        task = self.enforcer.current_task
        if task is None or task.flow is None:
            return result
        mark = await off_loop(task.sign_mark)
        if mark is None:
            return result
        content = plain(result)
        return remade(result, {**content, "_meta": {**members(content.get("_meta")), MARK: mark}})

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
            text = f"{target.name}: the call has no authority in _meta; call through protect_session(...)"
            raise guard.refuse(target.values, Denied(text, code="no_delegation"))
        return self.enforcer.task(
            self.purpose or "call of nobody known",
            principal=self.anonymous.principal,
            agent=self.anonymous.agent,
            scope=self.anonymous.scope,
        )


def shown(result: object, *, is_tool: bool) -> Shown:
    """Return a result of the SDK with its inspected content, and the tool's failure if it reports one."""
    content = plain(result)
    failed = ToolFailedError() if is_tool and content.get("isError") is True else None
    return Shown(result, content, failed, partial(remade, result), label_in(content))


async def _answered(method: str, run: Callable[[], Awaitable[object]]) -> object:
    """Return the result, or the refusal in its protocol form."""
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
    """A request as sent: its server, its parameters but ``_meta``, and ``_meta``."""

    door: _Door
    params: Mapping[str, object]
    meta: Mapping[str, object]


_SENT: Final[ContextVar[_Sent | None]] = ContextVar("agent_identity_mcp_sent", default=None)


class _Handlers(dict[type, _Handler]):
    """The handlers of a server of 1.x by request class; guarded on lookup, whoever registered them."""

    def __init__(self, door: _Door, handlers: dict[type, _Handler]) -> None:
        super().__init__(handlers.items())  # Unchanged: the guard is in the lookup.
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
            params: object = getattr(request, "params", None)
            meta: object = getattr(params, "meta", None)
            facts, extra = plain(params), plain(meta)
            _strip(getattr(meta, "model_extra", None))
            wrapper: list[object] = []

            async def body() -> object:
                wrapper.append(await handler(request))
                return unwrapped(wrapper[0])

            sent = _Sent(self.door, bound(facts), extra)
            result = await _answered(method, lambda: self.door.run(method, sent, facts, body))
            return wrapper[0] if wrapper and unwrapped(wrapper[0]) is result else _legacy_result(result)

        return guarded


class _Message(Protocol):
    """A message of the middleware of 2.x."""

    method: str
    params: Mapping[str, object] | None
    meta: object
    request_id: object


_Rest = Callable[[_Message], Awaitable[object]]


@final
class _Outermost:
    """Middleware of 2.x that keeps the request as sent, and hides the authority from the others."""

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
    """Middleware of 2.x that guards a handler, with its parameters."""

    def __init__(self, door: _Door) -> None:
        self.door = door

    async def __call__(self, message: _Message, rest: _Rest) -> object:
        if not _is_guarded(message):
            return await rest(message)
        sent = _SENT.get()
        if sent is None or sent.door is not self.door:
            sent = _taken(self.door, message)
        _SENT.set(None)  # Handlers have the task, and need no tokens.
        params = members(message.params)
        run = partial(self.door.run, message.method, sent, params, partial(rest, message))
        return await _answered(message.method, run)


def _is_guarded(message: _Message) -> bool:
    return message.method in METHODS and message.request_id is not None


def _taken(door: _Door, message: _Message) -> _Sent:
    """Return a request as sent, and remove our members from its ``_meta``."""
    raw = members(message.params)
    sent = _Sent(door, bound(raw), plain(raw.get("_meta")))
    for place in (raw.get("_meta"), message.meta):
        _strip(place)
    return sent


def _strip(meta: object) -> None:
    """Remove our members from ``_meta``: handlers have the task, and may log or return ``_meta``."""
    if isinstance(meta, MutableMapping):
        for name in OURS:
            cast("MutableMapping[str, object]", meta).pop(name, None)


def _legacy_result(result: object) -> object:
    from mcp import types  # noqa: PLC0415  Only this version has it.

    return wrapped_like(types.ServerResult(types.EmptyResult()), result)


def _under_manager(server: object) -> object:
    """Return the low-level server of a ``FastMCP`` of 1.x, from the manager of its HTTP sessions.

    Raises:
        ConfigurationError: There is no such manager.
    """
    kind = cast("Any", importlib.import_module("mcp.server.fastmcp")).FastMCP
    try:
        # The server makes its manager when it first serves, with the settings of that time; copying is up to it.
        twin = object.__new__(type(server))
        vars(twin).update(vars(server))
        kind.streamable_http_app(twin)
        return cast("object", kind.session_manager.fget(twin).app)
    except Exception as error:
        raise ConfigurationError(
            f"the FastMCP cannot be served over HTTP ({error_type(error)}); pass one whose constructor has run"
        ) from error


class _InterceptedMethods(Protocol):
    """The place where the requests of a server can be guarded."""

    owner: object

    @property
    def door(self) -> _Door | None:
        """The current guard of the requests."""
        ...

    def guard(self, door: _Door) -> None:
        """Guard the requests; repeating it has no effect."""
        ...


class _LowLevel(Protocol):
    """A low-level server of 1.x."""

    request_handlers: dict[type, _Handler]


def _is_low_level(server: object) -> TypeGuard[_LowLevel]:
    return isinstance(getattr(server, "request_handlers", None), dict)


@final
class _HandlersOf:
    """The handlers of a low-level server of 1.x."""

    def __init__(self, lower: _LowLevel) -> None:
        self.owner: object = lower
        self._lower = lower
        self.door = None

    def guard(self, door: _Door) -> None:
        handlers = self._lower.request_handlers
        if not isinstance(handlers, _Handlers) or handlers.door is not door:
            self._lower.request_handlers = _Handlers(door, handlers)


@final
class _MiddlewareOf:
    """The middleware of a server of 2.x, which a low-level server shares with the high-level one."""

    def __init__(self, owner: object, middleware: list[object]) -> None:
        self.owner = owner
        self._middleware = middleware

    @property
    def door(self) -> _Door | None:
        return next((of.door for of in self._middleware if isinstance(of, (_Outermost, _Innermost))), None)

    def guard(self, door: _Door) -> None:
        others = [of for of in self._middleware if not isinstance(of, (_Outermost, _Innermost))]
        self._middleware[:] = [_Outermost(door), *others, _Innermost(door)]


def _intercepted_methods_of(server: object) -> _InterceptedMethods:
    """Return the place where the requests of a server can be guarded.

    Raises:
        ConfigurationError: The value is no server.
    """
    lower = server
    if is_a(server, "mcp.server.fastmcp", "FastMCP"):
        lower = _under_manager(server)
    elif is_a(server, "fastmcp.server", "FastMCP"):
        lower = getattr(server, "_mcp_server", None)
    middleware: object = getattr(lower, "middleware", None)
    if is_list(middleware):
        return _MiddlewareOf(lower, middleware)
    if _is_low_level(lower):
        return _HandlersOf(lower)
    raise ConfigurationError(f"{type(server).__name__} is no MCP server; pass one of the SDK 1.x or 2.x, or of fastmcp")


_TRUSTED: Final = Label("trusted")
_UNTRUSTED: Final = Label("untrusted")
_MEMBER: Final = "ifc"
_MAX_BLOCKS: Final = 1_024


def label_in(content: Mapping[str, object]) -> Label:
    """Return the label that a result and its content blocks have together.

    Every integrity but ``trusted`` is untrusted, and readers other than ``public`` that nobody can tell are nobody.

    Args:
        content: A result as plain JSON.
    """
    blocks = content.get("content")
    listed = blocks if is_list(blocks) else []
    label = _UNTRUSTED if len(listed) > _MAX_BLOCKS else _TRUSTED
    for part in (content, *listed[:_MAX_BLOCKS]):
        label = label.meet(_label(part))
    return label


def _label(part: object) -> Label:
    meta = part.get("_meta") if is_mapping(part) else None
    said = meta.get(_MEMBER) if is_mapping(meta) else None
    if said is None:
        return _TRUSTED
    if not is_mapping(said):
        return _UNTRUSTED
    members = said
    readers = Label("trusted", _readers(members.get("confidentiality", "public")))
    return readers if members.get("integrity", "trusted") == "trusted" else readers.meet(_UNTRUSTED)


def _readers(said: object) -> AbstractSet[str] | None:
    names = cast("list[str]", said if isinstance(said, list) else [said])
    if names == ["public"]:
        return None
    try:
        return Label("trusted", frozenset(names)).readers
    except (TypeError, ValueError):
        return frozenset()
