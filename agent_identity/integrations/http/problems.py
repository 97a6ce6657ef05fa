"""Refusals as problem details of HTTP (RFC 9457), the same for every framework."""

import json
import logging
from http import HTTPStatus
from typing import Final, NamedTuple

from agent_identity.errors import (
    AgentIdentityError,
    AttenuationError,
    Denied,
    EvidenceError,
    NoTask,
    StateError,
    TokenError,
)

__all__ = ["Answer", "problem", "refusal_event"]

_LOG: Final = logging.getLogger("agent_identity")
_FORBIDDEN: Final = frozenset(
    {
        "argument_not_attenuated",
        "audience_not_attenuated",
        "depth_not_attenuated",
        "not_the_holder",
        "outlives_parent",
        "principal_changed",
        "task_ended",
        "tool_not_attenuated",
        "wrong_agent",
        "wrong_audience",
    }
)
"""Refusals of authority that is genuine, yet not for this service or not in the scope of its parent."""

_STATUSES: Final = {
    "body_too_large": HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    "guard_failed": HTTPStatus.SERVICE_UNAVAILABLE,
    "state_full": HTTPStatus.SERVICE_UNAVAILABLE,
    "state_unavailable": HTTPStatus.SERVICE_UNAVAILABLE,
}


class Answer(NamedTuple):
    """The answer to a refused request."""

    status: HTTPStatus
    headers: tuple[tuple[str, str], ...]
    body: bytes


def problem(error: AgentIdentityError, *, challenge: str = "Bearer", admitting: bool = False) -> Answer:
    """Return the answer to a request that was refused: its status, and problem details with code and reference.

    The body never has the message, which may name tools and arguments. ``reference`` is the id of the record of the
    refusal, for whoever operates the service; ``null`` where nothing was recorded.

    Args:
        error: The refusal, or the error that made it impossible to act.
        challenge: The authentication scheme for ``WWW-Authenticate``, sent with 401 (RFC 9110 §15.5.2).
        admitting: The request itself was refused, not what it did: without genuine authority the answer is then 401.
    """
    status = _status_of(error, admitting=admitting)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        _LOG.error("a request was not served: %s", error)
    reference = error.reference if isinstance(error, Denied) else None
    details = {
        "type": "about:blank",
        "title": status.phrase,
        "status": status.value,
        "code": error.code,
        "reference": reference,
    }
    body = json.dumps(details).encode()
    headers = [
        ("content-type", "application/problem+json"),
        ("content-length", str(len(body))),
        ("cache-control", "no-store"),
    ]
    if status is HTTPStatus.UNAUTHORIZED:
        headers.append(("www-authenticate", challenge))
    return Answer(status, tuple(headers), body)


def refusal_event(error: AgentIdentityError) -> str:
    """Return a refusal as the last event of a stream whose status has been sent already.

    It is an event ``error`` of ``text/event-stream`` (WHATWG HTML, section 9.2) with the problem details of
    :func:`problem` as its data: code and reference, never the message.

    Args:
        error: The refusal, or the error that made it impossible to go on.
    """
    return f"event: error\ndata: {problem(error).body.decode()}\n\n"


def _status_of(error: AgentIdentityError, *, admitting: bool) -> HTTPStatus:
    if isinstance(error, EvidenceError | StateError):
        return HTTPStatus.SERVICE_UNAVAILABLE
    if isinstance(error, Denied):
        if error.code in _STATUSES:
            return _STATUSES[error.code]
        if isinstance(error, NoTask) and error.code != "task_ended":
            return HTTPStatus.UNAUTHORIZED
        return HTTPStatus.UNAUTHORIZED if admitting and error.code not in _FORBIDDEN else HTTPStatus.FORBIDDEN
    if isinstance(error, TokenError):
        return HTTPStatus.UNAUTHORIZED
    return HTTPStatus.FORBIDDEN if isinstance(error, AttenuationError) else HTTPStatus.INTERNAL_SERVER_ERROR
