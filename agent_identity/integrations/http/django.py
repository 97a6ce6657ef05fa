"""Django: refusals as problem details, and the task of a request by its bearer token."""

import inspect
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Protocol, TypeAlias, final

from asgiref.sync import markcoroutinefunction
from django.http import HttpResponse  # type: ignore[import-untyped]  # pyright: ignore[reportMissingTypeStubs]

from agent_identity import Task
from agent_identity.errors import AgentIdentityError
from agent_identity.integrations.http.bearer import BearerTasks
from agent_identity.integrations.http.problems import problem

__all__ = ["RefusalMiddleware", "async_request_task", "request_task"]


class HttpRequest(Protocol):
    """The members of ``django.http.HttpRequest`` that are read here; Django comes without types."""

    method: str | None
    path: str

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers."""
        ...


Served: TypeAlias = object | Awaitable[object]


@final
class RefusalMiddleware:
    """Answers every error of this package that a view raises with problem details (RFC 9457).

    Name it in ``MIDDLEWARE``: ``"agent_identity.integrations.http.django.RefusalMiddleware"``. 401 without authority,
    403 for other refusals, 503 where nothing could be recorded; with the code and the id of the record, and without
    the message.

    Args:
        get_response: The rest of the application; Django gives it.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Served]) -> None:
        self._get_response = get_response
        if inspect.iscoroutinefunction(get_response):
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> Served:
        """Serve a request."""
        return self._get_response(request)

    def process_exception(self, _: HttpRequest, error: Exception) -> object | None:
        """Answer a refusal; leave other exceptions to Django."""
        if not isinstance(error, AgentIdentityError):
            return None
        status, headers, body = problem(error)
        answer: object = HttpResponse(body, status=status.value, headers=dict(headers))
        return answer


def request_task(tasks: BearerTasks, request: HttpRequest, *, words: str | None = None) -> AbstractContextManager[Task]:
    """Return a context manager that runs a block in the task of a request.

    Args:
        tasks: Verifies tokens and opens tasks.
        request: The request.
        words: The words in which the caller asks; the parameter ``request`` of :meth:`BearerTasks.opened`.

    Raises:
        NoTask: On entry: the request has no bearer token, or it is not genuine. The refusal is recorded.
        EvidenceError: On entry: it could not be recorded.
    """
    shown = request.headers.get("Authorization")
    return tasks.opened(shown, method=str(request.method), path=request.path, request=words)


def async_request_task(
    tasks: BearerTasks, request: HttpRequest, *, words: str | None = None
) -> AbstractAsyncContextManager[Task]:
    """Return the asynchronous context manager for an asynchronous view; see :func:`request_task`."""
    shown = request.headers.get("Authorization")
    return tasks.opened_async(shown, method=str(request.method), path=request.path, request=words)
