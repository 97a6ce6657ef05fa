"""Starlette and FastAPI: a lifespan that closes the enforcer, refusals as problem details, the task of a request."""

from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from http import HTTPStatus
from inspect import isawaitable
from typing import Final, TypeAlias, TypeVar, cast, final

from starlette.applications import Starlette
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.websockets import WebSocket, WebSocketState

from agent_identity import Enforcer, Task
from agent_identity.adapters import off_loop
from agent_identity.errors import AgentIdentityError
from agent_identity.integrations.http.bearer import BearerTasks
from agent_identity.integrations.http.problems import problem, refusal_event

__all__ = ["RequestTask", "end_with_refusal", "handle_refusals", "lifespan"]

_POLICY_VIOLATION: Final = 1008  # RFC 6455 §7.4.1.
_INTERNAL_ERROR: Final = 1011
_GRACE: Final = 5.0  # Seconds; Uvicorn then dies of the signal that stopped it, and runs no atexit.

Words: TypeAlias = Callable[..., str | None | Awaitable[str | None]]
App = TypeVar("App", bound=Starlette)
Lifespan: TypeAlias = Callable[[App], AbstractAsyncContextManager[None]]


def lifespan(enforcer: Enforcer, inner: Lifespan[App] | None = None) -> Lifespan[App]:
    """Return a lifespan that closes the enforcer when the server stops, so that its stream of records has an end.

    The last spans are exported as well, for at most five seconds.

    Args:
        enforcer: The enforcer of the application; open it where the application is made, since tools are decorated
            with it. Each worker process gets a stream of its own.
        inner: A lifespan of yours, which begins and ends within.
    """

    @asynccontextmanager
    async def closing(app: App) -> AsyncGenerator[None, None]:
        try:
            if inner is None:
                yield
            else:
                async with inner(app):
                    yield
        finally:
            await off_loop(partial(enforcer.close, flush=_GRACE))

    return closing


def handle_refusals(app: Starlette) -> None:
    """Answer every error of this package that a route raises with problem details (RFC 9457).

    401 without authority, 403 for other refusals, 503 where nothing could be recorded; with the code and the id of
    the record, and without the message. A WebSocket that is not accepted yet is answered alike where the server can,
    else closed; an accepted one is closed with the code as its reason.

    Args:
        app: The application; FastAPI's is one.
    """
    # One handler serves both; Starlette types those of requests and those of WebSockets apart.
    app.add_exception_handler(AgentIdentityError, cast("Callable[[Request, Exception], Awaitable[Response]]", _answer))


async def _answer(connection: HTTPConnection, error: Exception) -> Response | None:
    refusal = cast("AgentIdentityError", error)
    status, headers, body = problem(refusal)
    response = Response(body, status.value, dict(headers))
    if not isinstance(connection, WebSocket):
        return response
    await _close(connection, refusal, response)
    return None  # Starlette would send a returned answer after the close; servers report that as a crash.


async def _close(socket: WebSocket, refusal: AgentIdentityError, response: Response) -> None:
    if WebSocketState.DISCONNECTED in (socket.client_state, socket.application_state):
        return
    waits = socket.application_state is WebSocketState.CONNECTING
    if waits and "websocket.http.response" in (socket.scope.get("extensions") or {}):
        await socket.send_denial_response(response)
        return
    failed = response.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR
    await socket.close(_INTERNAL_ERROR if failed else _POLICY_VIOLATION, refusal.code)


async def end_with_refusal(stream: AsyncIterable[str | bytes]) -> AsyncIterator[str | bytes]:
    """Pass on a stream of events, and end it with an event ``error`` if this package refuses in the middle.

    The status of an answer is sent before its first part, so that a refusal after that could only break the
    connection. See :func:`~agent_identity.integrations.http.problems.refusal_event`.

    Args:
        stream: The parts of an answer of the type ``text/event-stream``.
    """
    try:
        async for part in stream:
            yield part
    except AgentIdentityError as error:
        yield refusal_event(error)


@final
class RequestTask:
    """The task of a request, by its bearer token: a dependency of FastAPI, and a context manager for Starlette.

    With FastAPI, ``task: Annotated[Task, Depends(RequestTask(tasks))]`` runs the route inside the task, that of a
    WebSocket as well; with Starlette, ``async with RequestTask(tasks).of(request) as task``.

    Args:
        tasks: Verifies tokens and opens tasks.
        request: A function of the request, plain or asynchronous, that returns the words in which the caller asks, or
            ``None``; see :meth:`BearerTasks.opened`. It is called before the token is verified.
    """

    def __init__(self, tasks: BearerTasks, *, request: Words | None = None) -> None:
        self._tasks = tasks
        self._request = request

    @asynccontextmanager
    async def of(self, connection: HTTPConnection) -> AsyncGenerator[Task, None]:
        """Run a block in the task of a request or WebSocket.

        Raises:
            NoTask: On entry: the request has no bearer token, or it is not genuine. The refusal is recorded.
            EvidenceError: On entry: it could not be recorded.
        """
        shown = ", ".join(connection.headers.getlist("authorization")) or None  # With two, neither counts.
        words = None if self._request is None else self._request(connection)
        if isawaitable(words):
            words = await words
        method, path = str(connection.scope.get("method", "GET")), connection.url.path
        async with self._tasks.opened_async(shown, method=method, path=path, request=words) as task:
            yield task

    async def __call__(self, connection: HTTPConnection) -> AsyncIterator[Task]:
        """Yield the task; FastAPI calls this for each request, and ends it with the response."""
        async with self.of(connection) as task:
            yield task
