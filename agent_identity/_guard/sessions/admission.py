"""Admission of agents by the registry of agents; checked when a task opens, never for a call."""

import logging
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Final, Literal, cast, final

from agent_identity._authority.grants.grants import MAX_TTL, Chain
from agent_identity._authority.grants.scope import Scope
from agent_identity._authority.registries.agents import AgentRegistry, Registration
from agent_identity._guard.common.failures import failure, safe_message
from agent_identity._guard.common.followed_trust import FollowedTrust
from agent_identity._guard.common.recorded_decisions import decision_fact
from agent_identity._guard.judging.context import EnforcementContext
from agent_identity._guard.tasks.facts import NO_TASK, agent_fact, principal_fact
from agent_identity._guard.tasks.task import Task
from agent_identity._guard.telemetry.spans import traced
from agent_identity._identity.principals.principals import Agent, Principal
from agent_identity._identity.trust.store import TrustStore
from agent_identity._policy.decision.decision import Decision, Effect
from agent_identity._record import parts
from agent_identity._record import schema as records
from agent_identity._record.parts import Action, AgentRegistration, Time
from agent_identity.errors import (
    AgentIdentityError,
    AttenuationError,
    ConfigurationError,
    Denied,
    EvidenceError,
    OutOfScope,
    StateError,
    TokenError,
)

_LOG: Final = logging.getLogger("agent_identity")
_NS: Final = 1_000_000_000
OPENING: Final = "invoke_agent"
"""The name of an opening in records and spans."""


@final
class Admission:
    """Checks an agent against the registry before it gets a grant. Thread-safe.

    Args:
        enforcement: The enforcement point.
        registry: The registry; read again whenever its file has changed.
        required: Refuse unregistered agents; otherwise the registry binds only the registered ones.
        trust: The trusted keys.
    """

    __slots__ = ("_enforcement", "_marked", "_recorded", "_registry", "_required", "_trust")

    def __init__(
        self, enforcement: EnforcementContext, registry: AgentRegistry, *, required: bool, trust: FollowedTrust
    ) -> None:
        self._enforcement = enforcement
        self._registry = registry
        self._required = required
        self._trust = trust
        self._marked: AgentRegistry | None = None
        self._recorded: dict[str, object] = {}

    def admit(self, agent: Agent, scope: Scope, *, principal: Principal, parent: Task | None, wall_ns: int) -> int:
        """Return the longest lifetime, in seconds, of a grant for the agent.

        Args:
            agent: The agent that would get the grant.
            scope: The scope of the grant.
            principal: The principal of the grant.
            parent: The task that the grant would be a part of; None for a root grant.
            wall_ns: Now, in nanoseconds since the Unix epoch.

        Raises:
            Denied: The registry does not permit the grant; the refusal is in the ledger. ``registry_unusable`` if the
                registry cannot be read or does not verify.
            OutOfScope: The scope exceeds the registered maximum.
            EvidenceError: The refusal, or the registration, could not be recorded.
        """
        now = wall_ns // _NS if parent is None else max(wall_ns // _NS, parent.grant.issued_at)
        try:
            registration = self._registration(agent, None if parent is None else parent.chain, now)
            if registration is None:
                return MAX_TTL
            registration.check_scope(scope)
        except Denied as denied:
            record_refusal(self._enforcement, denied, agent, principal=principal, parent=parent, start_ns=wall_ns)
            if self._enforcement.mode == "monitor":
                return MAX_TTL
            raise
        self._record_use(registration, wall_ns)
        return registration.expires_at - now

    def check(self, chain: Chain) -> None:
        """Check the agents of a chain from another process, as far as this registry knows them.

        Raises:
            Denied: The registry does not permit an agent.
            OutOfScope: The scope exceeds the registered maximum.
            EvidenceError: The registration could not be recorded.
        """
        leaf = chain.leaf
        wall = self._enforcement.clock.wall_ns()
        registration = self._registration(leaf.agent, chain, wall // _NS)
        if registration is not None:
            registration.check_scope(leaf.scope)
            self._record_use(registration, wall)

    def _registration(self, agent: Agent, chain: Chain | None, now: int) -> Registration | None:
        try:
            registry = self._registry = self._trust.trying(self._renewed)
            self._mark(registry)
        except (TokenError, ConfigurationError, StateError) as error:
            raise Denied(f"the registry of agents is unusable: {error}", code="registry_unusable") from None
        if chain is not None:
            # Every delegating agent must be valid too. Agents of a chain from elsewhere may be unknown.
            for grant in chain.grants:
                if registry.get(grant.agent.id) is not None:
                    registry.find(grant.agent, now=now)
        if not self._required and registry.get(agent.id) is None:
            return None
        return registry.find(agent, now=now)

    def _renewed(self, trust: TrustStore) -> AgentRegistry:
        known = self._registry
        return (known if known.trust == trust else replace(known, trust=trust)).renewed()

    def _mark(self, registry: AgentRegistry) -> None:
        """Note the newest registry version in the shared state, and refuse an older one.

        A fresh process thereby detects an older copy of the whole file as well (threats AC-18). The state keys
        a registry by its first registration, so processes that share the state may have different registries.

        Raises:
            TokenError: With code ``registry_rolled_back``.
            StateError: The state does not answer.
        """
        if registry is self._marked or not registry.history:
            return
        name = f"registry:{registry.history[0].hash}"
        size, last = registry.mark
        if not self._enforcement.state.put(name, size, last.encode()):
            size_seen, hashed = cast("tuple[int, bytes]", self._enforcement.state.get(name))
            registry.check_continues((size_seen, hashed.decode()))
        self._marked = registry

    def _record_use(self, registration: Registration, wall_ns: int) -> None:
        """Record a registration at its first use."""
        mine = object()
        if self._recorded.setdefault(registration.hash, mine) is not mine:
            return
        facts = AgentRegistration(hash=registration.hash, purpose=registration.purpose, status=registration.status)
        agent, time = agent_fact(registration.agent), Time.at(wall_ns)
        try:
            self._enforcement.ledger.append(partial(records.Registration, time=time, agent=agent, registration=facts))
        except BaseException:
            del self._recorded[registration.hash]
            raise


@contextmanager
def refusing(
    enforcement: EnforcementContext, agent: Agent, *, principal: Principal, parent: Task | None, start_ns: int
) -> Generator[None]:
    """Refuse and record an opening that fails by an internal, store or signer error, as the guard does.

    Raises:
        Denied: With code ``guard_failed``.
        EvidenceError: The refusal could not be recorded.
    """
    try:
        yield
    except (ConfigurationError, EvidenceError, StateError) as error:
        enforcement.openings.fail(str(error), enforcement.clock)
        raise
    except (AgentIdentityError, TypeError, ValueError):
        raise  # It has a code, or is the caller's own mistake.
    except Exception as error:  # noqa: BLE001 - Authority fails closed.
        told = safe_message(error)
        enforcement.openings.fail(told, enforcement.clock)
        _LOG.error("a task could not be opened, it is refused: %s", told)
        denied = Denied(failure("the opening of the task", error), code="guard_failed")
    else:
        enforcement.openings.succeed()
        return
    record_refusal(enforcement, denied, agent, principal=principal, parent=parent, start_ns=start_ns)
    raise denied


def record_refusal(
    enforcement: EnforcementContext,
    denied: Denied | AttenuationError,
    agent: Agent,
    *,
    principal: Principal,
    parent: Task | None,
    start_ns: int,
    always: bool = False,
) -> None:
    """Record a refused opening; in monitor mode, one that would have been refused.

    Args:
        enforcement: The enforcement point.
        denied: The refusal; gets the id of the record.
        agent: The agent that would have got the grant.
        principal: The principal.
        parent: The task that the opening would have been a part of; the refusal is recorded under it.
        start_ns: Start time, in nanoseconds since the Unix epoch.
        always: Refuse in monitor mode as well, since there is nothing to open.

    Raises:
        EvidenceError: The refusal could not be recorded.
    """
    # The requested agent has no grant: it is in the action, not among the parties of the record.
    refused = principal_fact(principal) if parent is None else None
    action = opening_action(agent, refused, stage="open" if parent is None else "delegate")
    record_denied(
        enforcement,
        denied,
        action,
        parent=parent,
        start_ns=start_ns,
        monitored=enforcement.mode == "monitor" and not always,
    )


def opening_action(agent: Agent, principal: parts.Principal | None, *, stage: Literal["open", "delegate"]) -> Action:
    """Return the action member of a record about an opening.

    Args:
        agent: The agent that would get the grant.
        principal: The principal, if it is no party of the record.
        stage: Whether a task opens or delegates a part.
    """
    return Action(tool=OPENING, kind="task", agent=agent_fact(agent), principal=principal, stage=stage)


def record_denied(
    enforcement: EnforcementContext,
    denied: Denied | AttenuationError,
    action: Action,
    *,
    parent: Task | None,
    start_ns: int,
    monitored: bool,
) -> None:
    """Record the refusal of an act other than a tool call; in monitor mode, one that would have been refused.

    Args:
        enforcement: The enforcement point.
        denied: The refusal; gets its decision and the reference to the record.
        action: The refused act.
        parent: The task of the act; None outside any task.
        start_ns: Start time, in nanoseconds since the Unix epoch.
        monitored: Only record; do not refuse.

    Raises:
        EvidenceError: The refusal could not be recorded.
    """
    fact, facts = _decided(enforcement, denied, monitored=monitored), None if parent is None else parent.facts
    span = enforcement.spans.start(*_span_of(action), start_ns)
    end_ns = max(enforcement.clock.wall_ns(), start_ns)
    trace = traced(span).rooted
    try:
        intent = None
        if monitored:
            make = partial(records.Intent, time=Time.at(start_ns), action=action, decision=fact, trace=trace)
            intent = enforcement.ledger.append(partial(make, **(NO_TASK if facts is None else facts.whole))).id
        outcome = partial(
            records.Outcome,
            time=Time.at(start_ns, end_ns),
            action=action,
            decision=fact,
            trace=trace,
            outcome="success" if monitored else "denied",
            intent=intent,
            error=None if monitored else denied.code,
        )
        outcome = partial(outcome, **(NO_TASK if facts is None else facts.short))
        detail = None if monitored else _detail(parent)
        ended = enforcement.ledger.append(
            outcome, detail=detail, after=lambda entry: enforcement.spans.finish(span, entry, end_ns)
        )
        denied.reference = ended.id
    except BaseException:
        enforcement.spans.end_unsigned(span)
        raise
    if parent is not None:
        parent.tally.refused(monitored=monitored)


def _decided(enforcement: EnforcementContext, denied: Denied | AttenuationError, *, monitored: bool) -> parts.Decision:
    """Attach the decision to a refusal, and return the decision member of its record."""
    decision = Decision(effect=Effect.BLOCK, reason=denied.code)
    if isinstance(denied, Denied):
        denied.decision = decision
    argument = denied.argument if isinstance(denied, OutOfScope | AttenuationError) else None
    return decision_fact(decision, "audit" if monitored else "block", enforcement.mode, argument)


def _detail(parent: Task | None) -> partial[records.Detail] | None:
    """Return the factory of a refusal's detail, if its outcome leaves facts out."""
    roles = None if parent is None else parent.facts.principal.roles
    return None if roles is None else partial(records.Detail, roles=roles)


def _span_of(action: Action) -> tuple[str, dict[str, str]]:
    """Return the name and the attributes of the span of a refusal."""
    tool = action.tool
    if action.agent is not None:
        return f"{tool} {action.agent.id}", {"gen_ai.operation.name": tool}
    return f"execute_tool {tool}", {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": tool}
