"""Refuses acts that are forbidden to guarded bodies: open other tasks, decide about calls, lift suspensions.

A tool has the authority of its task and no other. Its code can reach the enforcer, so without these rules it could
impersonate anyone: it would only have to open a task for them, or approve as them (decision 0008).
"""

import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, TypeAlias, TypeGuard, final

from agent_identity._authority.grants.limits import Limit
from agent_identity._authority.grants.scope import Scope
from agent_identity._common.narrowing import is_collection
from agent_identity._guard.common.failures import safe_message
from agent_identity._guard.judging.context import EnforcementContext
from agent_identity._guard.sessions.admission import opening_action, record_denied
from agent_identity._guard.sessions.tasks import Tasks
from agent_identity._guard.tasks.facts import principal_fact
from agent_identity._guard.tasks.task import Task
from agent_identity._guard.tasks.task_context import Body, bodies_around
from agent_identity._identity.principals.principals import Agent, Human, Principal, Service
from agent_identity._record.parts import Action
from agent_identity.errors import AttenuationError, ConfigurationError, Denied

_LOG: Final = logging.getLogger("agent_identity")

Listed: TypeAlias = Collection[Principal] | Callable[[Principal], bool]
"""Principals for whom guarded bodies may open tasks of their own, or a predicate."""

Permits: TypeAlias = Callable[[Principal], bool]


def permits_of(nested: Listed) -> Permits:
    """Return the predicate of principals for whom guarded bodies may open tasks of their own.

    Raises:
        ConfigurationError: A guarded body lists principals, for an enforcer that it opens itself.
        TypeError: The value is neither principals nor a function.
    """
    if callable(nested):
        permits = nested
    elif _are_principals(nested):
        permits = frozenset(nested).__contains__
    else:
        raise TypeError("nested is malformed; use a list of Human(...) and Service(...), or a function of a principal")
    if not nested:
        return _nobody
    if any(body.task_context.enforced for body in bodies_around()):
        raise ConfigurationError(
            "nested= is set inside a guarded body; open the enforcer at the start of the program, outside any tool"
        )
    return permits


def _are_principals(listed: object) -> TypeGuard[Collection[Principal]]:
    return is_collection(listed) and all(isinstance(each, Human | Service) for each in listed)


def _check_no_limits(limits: Collection[Limit]) -> None:
    """Check that a part of a task gets no limits of its own: all parts share one account.

    Raises:
        AttenuationError: It gets some (``limits_changed``).
    """
    if limits:
        raise AttenuationError(
            "limits= is set for a task inside a guarded body, which is a part of the tool's task and shares its "
            "limits; leave them out, or set them where the outer task is opened",
            code="limits_changed",
        )


def _nobody(_principal: Principal) -> bool:
    return False


@final
@dataclass(frozen=True, slots=True)
class Nesting:
    """Refuses forbidden acts of guarded bodies, with a record and a log line.

    Attributes:
        enforcement: The enforcement point.
        permits: Predicate of the principals for whom a body may open a task of its own.
    """

    enforcement: EnforcementContext
    permits: Permits

    def begin(
        self,
        tasks: Tasks,
        purpose: str,
        principal: Principal,
        agent: Agent,
        scope: Scope,
        *,
        ttl: timedelta,
        max_depth: int,
        limits: Sequence[Limit],
    ) -> Task:
        """Open a task of its own, or for a guarded body a part of the body's task.

        Args:
            tasks: The tasks of this process.
            purpose: See :meth:`Enforcer.task`, as for all others.
            principal: See above.
            agent: See above.
            scope: See above.
            ttl: See above.
            max_depth: See above.
            limits: See above.

        Raises:
            Denied: A guarded body opens a task for another principal (``task_in_body``).
            AttenuationError: The task would exceed the body's authority.
            EvidenceError: The opening could not be recorded.
        """
        parent = self._parent(principal, agent)
        if parent is not None:
            try:
                _check_no_limits(limits)
                return tasks.open_child(parent, purpose, agent, scope, ttl=ttl, max_depth=max_depth)
            except (AttenuationError, Denied) as error:
                self._exceeded(error, agent)
        return tasks.open_root(purpose, principal, agent, scope, ttl=ttl, max_depth=max_depth, limits=limits)

    def _parent(self, principal: Principal, agent: Agent) -> Task | None:
        """Return the task that the new task is a part of; None for a task of its own."""
        bodies = bodies_around()
        if not bodies or self._permitted(principal):
            return None
        outer = self._acting(bodies)
        if outer is not None and _party(outer.principal) == _party(principal):
            return outer
        denied = Denied(
            "the guarded body opens a task for another principal or enforcer; delegate, or "
            "list the principal in Enforcer.open(nested=...)",
            code="task_in_body",
        )
        action = opening_action(agent, principal_fact(self.enforcement.shown(principal)), stage="open")
        self._refuse(denied, action, bodies, outer)
        return None

    def _exceeded(self, error: AttenuationError | Denied, agent: Agent) -> None:
        """Record that a body's task could not be opened as a part; in monitor mode it gets a task of its own."""
        bodies = bodies_around()
        if error.reference is not None and not self._monitored(bodies):
            raise error  # On record already, by the registry of agents or a revocation.
        denied = error if isinstance(error, Denied) else Denied(str(error), code=error.code)
        try:
            self._refuse(denied, opening_action(agent, None, stage="open"), bodies, self._acting(bodies))
        except Denied:
            error.reference = denied.reference
            raise error from None

    def forbid(self, act: str, kind: str, code: str) -> None:
        """Check that no guarded body does this.

        Args:
            act: The act, for example ``approve``.
            kind: The kind of the act, for the record.
            code: The code of the refusal.

        Raises:
            Denied: A guarded body does it.
            EvidenceError: The refusal could not be recorded.
        """
        bodies = bodies_around()
        if bodies:
            denied = Denied(f"{act} is not for guarded bodies; do it outside any tool", code=code)
            self._refuse(denied, Action(tool=act, kind=kind), bodies, self._acting(bodies))

    def _permitted(self, principal: Principal) -> bool:
        try:
            return self.permits(principal) is True
        except Exception as error:  # noqa: BLE001 - Authority fails closed: an undecidable principal is not permitted.
            _LOG.error("nested failed, so the body may not open a task: %s", safe_message(error))
            return False

    def _acting(self, bodies: tuple[Body, ...]) -> Task | None:
        """Return this enforcer's task of the body, even if it is hidden."""
        current = self.enforcement.task_context.current()
        if current is not None:
            return current
        return next(
            (b.task for b in reversed(bodies) if b.is_here and b.task_context is self.enforcement.task_context), None
        )

    def _monitored(self, bodies: tuple[Body, ...]) -> bool:
        # Monitor mode of another enforcer must not bypass one that enforces.
        return self.enforcement.mode == "monitor" and not any(body.task_context.enforced for body in bodies)

    def _refuse(self, denied: Denied, action: Action, bodies: tuple[Body, ...], outer: Task | None) -> None:
        monitored = self._monitored(bodies)
        record_denied(
            self.enforcement,
            denied,
            action,
            parent=outer,
            start_ns=self.enforcement.clock.wall_ns(),
            monitored=monitored,
        )
        what = "would be refused" if monitored else "refused"
        _LOG.warning("%s inside a guarded body of task %s: %s (%s)", action.tool, bodies[-1].task.id, what, denied.code)
        if not monitored:
            raise denied


def _party(principal: Principal) -> tuple[str, str, str | None]:
    return principal.kind, principal.id, principal.issuer
