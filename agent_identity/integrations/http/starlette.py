"""Starlette and FastAPI: a lifespan that closes the enforcer, refusals as problem details, the task of a request."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TypeAlias, TypeVar, cast, final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response

from agent_identity._enforcement import Enforcer
from agent_identity._enforcement.common import off_loop
from agent_identity._enforcement.tasks import Task
from agent_identity.errors import AgentIdentityError
from agent_identity.integrations.http.bearer import BearerTasks
from agent_identity.integrations.http.problems import problem

__all__ = ["RequestTask", "handle_refusals", "lifespan"]

App = TypeVar("App", bound=Starlette)
Lifespan: TypeAlias = Callable[[App], AbstractAsyncContextManager[None]]


def lifespan(enforcer: Enforcer, inner: Lifespan[App] | None = None) -> Lifespan[App]:
    """Return a lifespan that closes the enforcer when the server stops, so that its stream of records has an end.

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
            await off_loop(enforcer.close)

    return closing


def handle_refusals(app: Starlette) -> None:
    """Answer every error of this package that a route raises with problem details (RFC 9457).

    401 without authority, 403 for other refusals, 503 where nothing could be recorded; with the code and the id of
    the record, and without the message.

    Args:
        app: The application; FastAPI's is one.
    """
    app.add_exception_handler(AgentIdentityError, _answer)


async def _answer(_: Request, error: Exception) -> Response:
    status, headers, body = problem(cast("AgentIdentityError", error))
    return Response(body, status.value, dict(headers))


@final
class RequestTask:
    """The task of a request, by its bearer token: a dependency of FastAPI, and a context manager for Starlette.

    With FastAPI, ``task: Annotated[Task, Depends(RequestTask(tasks))]`` runs the route inside the task; with
    Starlette, ``async with RequestTask(tasks).of(request) as task``.

    Args:
        tasks: Verifies tokens and opens tasks.
    """

    def __init__(self, tasks: BearerTasks) -> None:
        self._tasks = tasks

    def of(self, request: Request) -> AbstractAsyncContextManager[Task]:
        """Return a context manager that runs a block in the task of the request.

        Raises:
            NoTask: On entry: the request has no bearer token, or it is not genuine. The refusal is recorded.
            EvidenceError: On entry: it could not be recorded.
        """
        shown = ", ".join(request.headers.getlist("authorization")) or None  # Of two, nobody says which one counts.
        return self._tasks.opened_async(shown, method=request.method, path=request.url.path)

    async def __call__(self, request: Request) -> AsyncIterator[Task]:
        """Yield the task; FastAPI calls this for each request, and ends it with the response."""
        async with self.of(request) as task:
            yield task
