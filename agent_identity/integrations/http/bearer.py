"""Tasks of requests whose caller shows a token of an identity provider (RFC 6750)."""

import re
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from functools import partial
from typing import Final, final

from agent_identity import Agent, Enforcer, Scope, Task
from agent_identity.adapters import Opening, failure, off_loop
from agent_identity.errors import Denied, NoTask, TokenError
from agent_identity.identity import Principal
from agent_identity.integrations.http.binding import TOOL
from agent_identity.limits import Limit

__all__ = ["BearerTasks"]

_CREDENTIALS: Final = re.compile(r"(?i:bearer) +([A-Za-z0-9\-._~+/]+=*) *")  # RFC 6750 §2.1.
_LIFE: Final = timedelta(minutes=5)


@final
class BearerTasks:
    """Opens a task for each request, on behalf of the human or service whose bearer token came with it.

    Frameworks have helpers that take one: :mod:`agent_identity.integrations.http.starlette` (FastAPI too),
    :mod:`agent_identity.integrations.http.flask` and :mod:`agent_identity.integrations.http.django`.

    Args:
        enforcer: The enforcer of the application.
        verify: Turns a token into a verified principal, or raises :class:`~agent_identity.errors.TokenError`; for
            example ``partial(Human.from_id_token, jwks=source, issuer=…, audience=…)``. It may block.
        agent: The agent that acts in the tasks.
        scope: What a task may use, or a function of the principal that returns it; a
            :class:`~agent_identity.errors.Denied` that it raises refuses the request.
        purpose: The purpose of the tasks.
        ttl: The authority ends after this time at the latest; it always ends with the request.
        limits: How often, how fast and how much in one task, or a function of the principal that returns them; as for
            :meth:`Enforcer.task`.
    """

    def __init__(
        self,
        enforcer: Enforcer,
        *,
        verify: Callable[[str], Principal],
        agent: Agent,
        scope: Scope | Callable[[Principal], Scope],
        purpose: str,
        ttl: timedelta = _LIFE,
        limits: Sequence[Limit] | Callable[[Principal], Sequence[Limit]] = (),
    ) -> None:
        self._enforcer = enforcer
        self._verify = verify
        self._agent = agent
        self._scope = scope
        self._purpose = purpose
        self._ttl = ttl
        self._limits = limits
        self._guard = enforcer.guard(TOOL, kind="remote")

    @contextmanager
    def opened(
        self, authorization: str | None, *, method: str, path: str, request: str | None = None
    ) -> Generator[Task, None, None]:
        """Run a block in the task of a request.

        Args:
            authorization: The header ``Authorization``; ``None`` if the request has none.
            method: The method, for the record of a refusal.
            path: The path, for the record of a refusal.
            request: The words in which the caller asks, as :meth:`Enforcer.task` takes them. Without them a task begins
                with inputs of unknown integrity. Text of anyone else, such as a forwarded mail, is none of it.

        Raises:
            NoTask: There is no bearer token (``no_token``), or it is not genuine; the code is then that of the
                :class:`~agent_identity.errors.TokenError`. The refusal is recorded, without the token.
            Denied: The function for the scope or the limits refused, or ``verify`` failed otherwise
                (``guard_failed``); recorded too.
            EvidenceError: The refusal, or the start of the task, could not be recorded.
        """
        with self._opening(authorization, method, path, request) as task:
            yield task

    @asynccontextmanager
    async def opened_async(
        self, authorization: str | None, *, method: str, path: str, request: str | None = None
    ) -> AsyncGenerator[Task, None]:
        """Run a block in the task of a request, as :meth:`opened` does; the event loop never waits for a key set."""
        opening = await off_loop(partial(self._opening, authorization, method, path, request))
        async with opening as task:
            yield task

    def _opening(self, authorization: str | None, method: str, path: str, request: str | None) -> Opening:
        found = None if authorization is None else _CREDENTIALS.fullmatch(authorization)
        facts = {"method": method, "path": path}
        if found is None:
            denied = NoTask("the request has no bearer token; send one in the header Authorization", code="no_token")
            raise self._guard.refuse(facts, denied)
        try:
            principal = self._verify(found[1])
        except TokenError as error:
            raise self._guard.refuse(facts, NoTask(str(error), code=error.code)) from None
        except Exception as error:  # noqa: BLE001 - Code of others; what cannot be checked is refused.
            why = f"the token could not be checked: {failure('verify', error)}"
            raise self._guard.refuse(facts, Denied(why, code="guard_failed")) from None
        try:
            scope = self._scope if isinstance(self._scope, Scope) else self._scope(principal)
            limits = self._limits(principal) if callable(self._limits) else self._limits
        except Denied as denied:
            raise self._guard.refuse(facts, denied) from None
        return self._enforcer.task(
            self._purpose,
            principal=principal,
            agent=self._agent,
            scope=scope,
            ttl=self._ttl,
            limits=limits,
            request=request,
        )
