"""The gate in front of an application: the common part of ASGI and WSGI.

Statements of a request about the acting agent, in headers or baggage, count only inside a verified chain. The
application runs only after chain, audience, proof and body have been checked.
"""

import logging
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final, NamedTuple, final

from agent_identity import Agent, Enforcer
from agent_identity.adapters import Opening, check_id, typed_calls
from agent_identity.delegation import Presentation
from agent_identity.errors import AgentIdentityError, ConfigurationError, Denied, TokenError
from agent_identity.identity import Signer
from agent_identity.integrations.http.binding import (
    MARK,
    TOOL,
    TRACEPARENT,
    absolute_url,
    presentation_of,
    request_arguments,
)
from agent_identity.integrations.http.problems import Answer, problem

__all__ = ["Arriving", "Gate", "RequestAdmission"]

_MAX_BODY: Final = 1 << 20
_LOG: Final = logging.getLogger("agent_identity")
_LARGEST: Final = 1 << 31


class Arriving(NamedTuple):
    """A request before admission.

    Attributes:
        method: The method.
        path: The decoded path.
        query: The query as received.
        headers: Names in lower case, and values.
    """

    method: str
    path: str | bytes
    query: str
    headers: tuple[tuple[str, str], ...]


@typed_calls("__init__")
@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """The requests that a service lets in, and what it does with their authority.

    Args:
        audience: The name of the service; callers address grants and proofs to it.
        base_url: The URL before the path, for example ``https://service.example.com``. Never taken
            from the ``Host`` header, which callers choose.
        holder: The key of the service, to continue with grants made for it.
        agent: The acting agent of the service; grants for other agents are refused.
        required: Refuse requests without authority; otherwise they run without a task.
        max_body: Maximum size of a body, in bytes; it is held in memory.
        purpose: The purpose of the tasks.
        exempt: Paths that are served without a task and without a record, such as ``/healthz``: exactly these, as
            the server decoded them. Guarded tools refuse there.

    Raises:
        TypeError: An argument has another type.
        ConfigurationError: An argument is out of range, or a path in ``exempt`` does not begin with ``/``.
    """

    audience: str
    base_url: str
    holder: Signer | None = None
    agent: Agent | None = None
    required: bool = True
    max_body: int = _MAX_BODY
    purpose: str | None = None
    exempt: Collection[str] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "exempt", tuple(self.exempt))
        if not all(type(path) is str and path.startswith("/") for path in self.exempt):
            raise ConfigurationError("a path in exempt does not begin with '/'; give whole paths, such as '/healthz'")
        try:
            check_id(self.audience, "audience")
            absolute_url(self.base_url)
        except ValueError as error:
            raise ConfigurationError(f"bad audience or base_url: {error}") from None
        if "?" in self.base_url or "#" in self.base_url or not 0 <= self.max_body <= _LARGEST:
            raise ConfigurationError("base_url has a query, or max_body is out of range; use 0 bytes to 2 GiB")


@final
class RequestAdmission:
    """Admits requests with authority for this service.

    Args:
        enforcer: The enforcer of the service: its trust store, policy and ledger.
        gate: The requests that it lets in.

    Raises:
        TypeError: ``gate`` is something else.
    """

    def __init__(self, enforcer: Enforcer, gate: Gate) -> None:
        if type(gate) is not Gate:
            raise TypeError(f"gate is {type(gate).__name__}; give Gate(audience=…, base_url=…)")
        self.enforcer = enforcer
        self.max_body = gate.max_body
        self._gate = gate
        self._base = absolute_url(gate.base_url)
        self._exempt = frozenset(path.encode("utf-8", "surrogatepass") for path in gate.exempt)
        self._guard = enforcer.guard(TOOL, kind="remote")

    def is_exempt(self, request: Arriving) -> bool:
        """Tell whether the path is served without a task, whatever the request shows."""
        path = request.path
        return (path.encode("utf-8", "surrogatepass") if isinstance(path, str) else path) in self._exempt

    def shown(self, request: Arriving) -> Presentation | None:
        """Return the presentation of the request; ``None`` if it has none and needs none.

        Raises:
            Denied: The presentation is required and missing, or malformed.
            EvidenceError: The refusal could not be recorded.
        """
        try:
            presentation = presentation_of(request.headers)
        except TokenError as error:
            raise self.refusal(request, str(error), error.code) from None
        if presentation is None and self._gate.required:
            raise self.refusal(request, "the request has no delegation headers; send chain and proof", "no_delegation")
        return presentation

    def refusal(self, request: Arriving, message: str, code: str) -> Denied:
        """Record the refusal of a request, and return it.

        Raises:
            EvidenceError: The refusal could not be recorded.
        """
        facts = {"method": request.method, "url": self._url(request) or "malformed"}
        return self._guard.refuse(facts, Denied(message, code=code))

    def opening(self, request: Arriving, presentation: Presentation, body: bytes) -> Opening:
        """Return the task of the request; entering it verifies the presentation.

        Raises:
            Denied: The URL is malformed.
            EvidenceError: The refusal could not be recorded.
        """
        url = self._url(request)
        if url is None:
            raise self.refusal(request, "the path or query is malformed; encode it", "malformed_header")
        traces = [value for name, value in request.headers if name == TRACEPARENT]
        return self.enforcer.receive(
            presentation,
            tool=TOOL,
            arguments=request_arguments(request.method, url, body),
            audience=self._gate.audience,
            holder=self._gate.holder,
            agent=self._gate.agent,
            purpose=self._gate.purpose,
            traceparent=traces[0] if len(traces) == 1 else None,
        )

    def mark(self) -> tuple[tuple[str, str], ...]:
        """Return the header of a complete response with what its task has read; none if that cannot be signed."""
        task = self.enforcer.current_task
        try:
            mark = None if task is None else task.sign_mark()
        except AgentIdentityError as error:  # The caller then takes the answer as untrusted.
            _LOG.error("a response has no mark: %s", error.code)
            return ()
        return () if mark is None else ((MARK, mark),)

    def _url(self, request: Arriving) -> str | None:
        try:
            return absolute_url(self._base, request.path, request.query)
        except ValueError:
            return None

    @staticmethod
    def answer(error: AgentIdentityError) -> Answer:
        """Return the answer to a refused request: problem details with the code and the id of the record."""
        return problem(error, challenge="Agent-Delegation", admitting=True)
