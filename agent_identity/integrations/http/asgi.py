"""ASGI middleware: requests of other services continue their task here. Independent of any framework."""

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from contextlib import AsyncExitStack
from functools import partial
from typing import Final, TypeAlias, cast, final

from agent_identity import Enforcer
from agent_identity.adapters import Opening, off_loop
from agent_identity.errors import Denied, EvidenceError
from agent_identity.integrations.http.binding import HEADERS
from agent_identity.integrations.http.server import Arriving, Gate, RequestAdmission

__all__ = ["DelegationMiddleware"]

Scope: TypeAlias = MutableMapping[str, object]
Message: TypeAlias = MutableMapping[str, object]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
Application: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

_POLICY_VIOLATION: Final = 1008  # RFC 6455 §7.4.1.


class _GoneError(Exception):
    """The client disconnected before its request was complete."""


@final
class DelegationMiddleware:
    """Runs an ASGI application inside the task of each request, or answers with a refusal.

    The task ends when the application returns, so streamed responses are inside it. WebSockets with
    delegation headers, or where authority is required, are refused: a proof is for one request.

    Args:
        app: The application.
        enforcer: The enforcer of the service.
        gate: The requests that it lets in.
    """

    def __init__(self, app: Application, enforcer: Enforcer, gate: Gate) -> None:
        self._app = app
        self._admission = RequestAdmission(enforcer, gate)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection.

        Raises:
            ValueError: The connection type is unknown to this version.
        """
        kind = scope["type"]
        if kind == "lifespan":
            await self._app(scope, receive, send)
        elif kind == "websocket":
            await self._socket(scope, receive, send)
        elif kind == "http":
            await self._request(scope, receive, send)
        else:
            raise ValueError("the connection type is unknown; this version supports http, websocket and lifespan")

    async def _request(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            opening, body = await self._admit(scope, receive)
        except (Denied, EvidenceError) as error:
            await _answer(self._admission, error, send)
            return
        except _GoneError:
            return
        if opening is None:
            with self._admission.enforcer.no_task():
                await self._app(_without_ours(scope), receive, send)
            return
        async with AsyncExitStack() as stack:
            stack.push_async_exit(opening)  # It is entered already.
            await self._app(_without_ours(scope), _again(body, receive), _marking(self._admission, send))

    async def _admit(self, scope: Scope, receive: Receive) -> tuple[Opening | None, bytes]:
        request = _arriving(scope)
        if self._admission.is_exempt(request):
            return None, b""
        presentation = await off_loop(partial(self._admission.shown, request))
        if presentation is None:
            return None, b""
        body = await self._read(request, receive)
        opening = await off_loop(partial(self._admission.opening, request, presentation, body))
        await opening.__aenter__()  # Here, apart from the application, whose errors are its own.
        return opening, body

    async def _read(self, request: Arriving, receive: Receive) -> bytes:
        parts: list[bytes] = []
        left = self._admission.max_body
        while True:
            message = await receive()
            if message["type"] != "http.request":
                raise _GoneError
            part = cast("bytes", message.get("body", b""))
            left -= len(part)
            if left < 0:
                text = f"the body is larger than {self._admission.max_body} bytes; send less, or raise max_body"
                raise await off_loop(partial(self._admission.refusal, request, text, "body_too_large"))
            parts.append(part)
            if not message.get("more_body", False):
                return b"".join(parts)

    async def _socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = _arriving(scope)
        try:
            if await off_loop(partial(self._admission.shown, request)) is not None:
                text = "no proof covers a WebSocket; send a request"
                raise await off_loop(partial(self._admission.refusal, request, text, "not_a_request"))
        except (Denied, EvidenceError):
            await receive()
            await send({"type": "websocket.close", "code": _POLICY_VIOLATION})
            return
        with self._admission.enforcer.no_task():
            await self._app(scope, receive, send)


def _arriving(scope: Mapping[str, object]) -> Arriving:
    headers = cast("list[tuple[bytes, bytes]]", scope.get("headers") or [])
    return Arriving(
        str(scope.get("method", "GET")),
        str(scope["path"]).encode("utf-8", "surrogatepass"),
        cast("bytes", scope.get("query_string", b"")).decode("latin-1"),
        tuple((name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in headers),
    )


def _without_ours(scope: Scope) -> Scope:
    """Return the scope without our headers: the application has the task, and may log its headers."""
    headers = cast("list[tuple[bytes, bytes]]", scope.get("headers") or [])
    kept = [(name, value) for name, value in headers if name.decode("latin-1").lower() not in HEADERS]
    return {**scope, "headers": kept}


def _again(body: bytes, receive: Receive) -> Receive:
    """Replay the body, then pass on later messages."""
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def next_message() -> Message:
        return waiting.pop() if waiting else await receive()

    return next_message


def _marking(admission: RequestAdmission, send: Send) -> Send:
    """Add the mark of the task to a response that is sent as a whole; a stream may depend on what is read later."""
    held: list[Message] = []

    async def marked(message: Message) -> None:
        if message["type"] == "http.response.start" and not _is_event_stream(message):
            held.append(message)
            return
        if held:
            start = held.pop()
            if message["type"] == "http.response.body" and not message.get("more_body", False):
                mark = [(name.lower().encode(), value.encode()) for name, value in await off_loop(admission.mark)]
                start = {**start, "headers": [*cast("list[tuple[bytes, bytes]]", start.get("headers") or []), *mark]}
            await send(start)
        await send(message)

    return marked


def _is_event_stream(start: Message) -> bool:
    """Return whether a response is a stream of events, whose client may wait for its head before any event."""
    headers = cast("list[tuple[bytes, bytes]]", start.get("headers") or [])
    return any(name.lower() == b"content-type" and value.startswith(b"text/event-stream") for name, value in headers)


async def _answer(admission: RequestAdmission, error: Denied | EvidenceError, send: Send) -> None:
    status, headers, body = admission.answer(error)
    encoded = [(name.encode(), value.encode()) for name, value in headers]
    await send({"type": "http.response.start", "status": status.value, "headers": encoded})
    await send({"type": "http.response.body", "body": body})
