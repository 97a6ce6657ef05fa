"""Flask: refusals as problem details, and the task of the current request by its bearer token."""

from contextlib import AbstractContextManager

from flask import Flask, Response, request

from agent_identity import Task
from agent_identity.errors import AgentIdentityError
from agent_identity.integrations.http.bearer import BearerTasks
from agent_identity.integrations.http.problems import problem

__all__ = ["handle_refusals", "request_task"]


def handle_refusals(app: Flask) -> None:
    """Answer every error of this package that a view raises with problem details (RFC 9457).

    401 without authority, 403 for other refusals, 503 where nothing could be recorded; with the code and the id of
    the record, and without the message.

    Args:
        app: The application.
    """
    app.register_error_handler(AgentIdentityError, _answer)


def _answer(error: AgentIdentityError) -> Response:
    status, headers, body = problem(error)
    return Response(body, status.value, list(headers))


def request_task(tasks: BearerTasks, *, words: str | None = None) -> AbstractContextManager[Task]:
    """Return a context manager that runs a block in the task of the current request.

    Args:
        tasks: Verifies tokens and opens tasks.
        words: The words in which the caller asks; the parameter ``request`` of :meth:`BearerTasks.opened`.

    Raises:
        NoTask: On entry: the request has no bearer token, or it is not genuine. The refusal is recorded.
        EvidenceError: On entry: it could not be recorded.
    """
    shown = request.headers.get("Authorization")
    return tasks.opened(shown, method=request.method, path=request.path, request=words)
