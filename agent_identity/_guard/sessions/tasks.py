"""The tasks of a process: their grants, their chains, and the registry of live ones."""

import contextlib
import logging
import weakref
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final, final

from agent_identity._authority.grants.chain import verify_chain
from agent_identity._authority.grants.grants import Chain, Grant, derive, issue
from agent_identity._authority.grants.limits import Limit, check_limits
from agent_identity._authority.grants.scope import Scope
from agent_identity._authority.registries.tasks import Lease, TaskRegistry
from agent_identity._guard.common.failures import safe_message
from agent_identity._guard.common.purpose import folded_purpose
from agent_identity._guard.judging.context import EnforcementContext
from agent_identity._guard.sessions.admission import Admission, record_refusal, refusing
from agent_identity._guard.tasks.exported_grants import ExportedGrants
from agent_identity._guard.tasks.facts import task_facts
from agent_identity._guard.tasks.task import Exports, NoTokens, Speak, Tally, Task, TokenSupply
from agent_identity._guard.tasks.task_context import outer_task
from agent_identity._guard.tasks.task_flow import TaskFlow
from agent_identity._guard.tasks.vault import Vault
from agent_identity._identity.common.ids import Ids, uuid_of
from agent_identity._identity.keys.keys import PublicKey, Signer
from agent_identity._identity.principals.principals import Agent, Principal
from agent_identity.errors import (
    AttenuationError,
    Denied,
    NoTask,
)

_LOG: Final = logging.getLogger("agent_identity")
_NS: Final = 1_000_000_000
LONGEST_TTL: Final = 86_400
"""Maximum lifetime of a task, in seconds; open a new one for longer work."""

_LATE: Final = 60
"""Seconds that a task's end is remembered beyond its grants, since the clocks of processes differ."""


@final
@dataclass(frozen=True, slots=True)
class Tasks:
    """Issues the grants of tasks and keeps the registry of those that live.

    Attributes:
        enforcement: The enforcement point.
        registry: The registry of live tasks.
        issuer: Signs root grants.
        issuer_name: The issuer's URI.
        anchor: Returns the trusted issuer key for a key id.
        ids: Source of ids.
        new_key: Makes the key that holds a grant.
        admission: Admits agents to grants; None without a registry of agents.
        tokens: Makes what supplies tasks with tokens for other services; None without a source of tokens.
        supply: The supply of this process, if there is a source.
        exports: Makes what exports parts of these tasks.
        speak: Takes in statements of the host about the inputs of a task.
    """

    enforcement: EnforcementContext
    registry: TaskRegistry
    issuer: Signer
    issuer_name: str
    anchor: Callable[[str], PublicKey]
    ids: Ids
    new_key: Callable[[], Signer]
    admission: Admission | None = None
    tokens: Callable[[], TokenSupply] | None = None
    exports: Callable[["Tasks"], Exports] = field(kw_only=True)
    speak: Speak = field(kw_only=True)
    supply: TokenSupply | None = field(init=False, default=None)
    live: "weakref.WeakSet[Task]" = field(init=False, default_factory=weakref.WeakSet[Task])

    def __post_init__(self) -> None:
        if self.tokens is not None:  # Also after a fork: the existing tokens are the parent's.
            object.__setattr__(self, "supply", self.tokens())

    def open_root(
        self,
        purpose: str,
        principal: Principal,
        agent: Agent,
        scope: Scope,
        *,
        ttl: timedelta,
        max_depth: int,
        limits: Sequence[Limit] = (),
    ) -> Task:
        """Open a task under a fresh root grant."""
        wall = self.enforcement.clock.wall_ns()
        shown = self.enforcement.shown(principal)
        with refusing(self.enforcement, agent, principal=shown, parent=None, start_ns=wall):
            seconds = seconds_of(ttl)
            if self.admission is not None:
                most = self.admission.admit(agent, scope, principal=shown, parent=None, wall_ns=wall)
                seconds = min(seconds, most)
            holder = self.new_key()
            grant = issue(
                self.issuer,
                issuer=self.issuer_name,
                task_id=self.ids.new(wall),
                principal=shown,
                agent=agent,
                holder=holder.public_key,
                scope=scope,
                now=wall // _NS,
                ttl=seconds,
                max_depth=max_depth,
                id=uuid_of(self.ids.new(wall)),
                limits=limits,
            )
            # No one can have requested a key with this id yet.
            self.enforcement.digests.create(grant.task_id)
            chain = self._verified((grant.token,), grant, wall, None)
            lease = self.registry.open(grant.task_id, _deadline(chain), clock=self.enforcement.clock, id=grant.id)
            flows = self.enforcement.flows
            flow = None if flows is None else flows.opened(chain.leaf, task_facts(chain.grants))
            return self.start(purpose, chain, holder, lease, ExportedGrants(grant.task_id), flow=flow)

    def open_child(
        self,
        parent: Task,
        purpose: str,
        agent: Agent,
        scope: Scope,
        *,
        ttl: timedelta | None,
        max_depth: int | None = None,
        isolated: bool = False,
    ) -> Task:
        """Open a delegated part of a live task.

        Args:
            parent: The task.
            purpose: The purpose of the part.
            agent: Its agent.
            scope: Its scope.
            ttl: Its longest life.
            max_depth: The maximum number of further delegations.
            isolated: The part has a mark of its own.
        """
        wall = self.enforcement.clock.wall_ns()
        with refusing(self.enforcement, agent, principal=parent.grant.principal, parent=parent, start_ns=wall):
            self.enforcement.check(parent)
            remaining = max(1, parent.expires_at - wall // _NS)
            if self.admission is not None:
                most = self.admission.admit(agent, scope, principal=parent.grant.principal, parent=parent, wall_ns=wall)
                remaining = min(remaining, most)
            holder = self.new_key()
            # The caller records refusals of a task inside a guarded body, where it is distinguished from a delegation.
            with self.attenuating(parent, agent, wall) if max_depth is None else contextlib.nullcontext():
                grant = derive(
                    parent.chain,
                    holder_of(parent),
                    agent=agent,
                    holder=holder.public_key,
                    scope=scope,
                    now=wall // _NS,
                    ttl=remaining if ttl is None else min(seconds_of(ttl), remaining),
                    id=uuid_of(self.ids.new(wall)),
                    max_depth=None
                    if max_depth is None
                    else min(parent.grant.max_depth, parent.grant.depth + 1 + max_depth),
                )
            chain = self._verified((*parent.chain.tokens, grant.token), grant, wall, parent)
            deadline, clock = _deadline(chain), self.enforcement.clock
            lease = self.registry.open(grant.task_id, deadline, parent.lease, clock=clock, id=grant.id)
            flow = self._flow_of_part(parent, chain, isolated=isolated)
            return self.start(
                purpose, chain, holder, lease, ExportedGrants(None, parent.handed), flow=flow, parent=parent
            )

    def _flow_of_part(self, parent: Task, chain: Chain, *, isolated: bool) -> TaskFlow | None:
        flows, above = self.enforcement.flows, parent.flow
        if flows is None or above is None:
            return None
        return flows.delegated(above, chain.leaf, task_facts(chain.grants), isolated=isolated)

    @contextmanager
    def attenuating(self, parent: Task, agent: Agent, wall: int) -> Generator[None]:
        """Record it under the parent if the block fails to delegate from it."""
        try:
            yield
        except AttenuationError as error:
            principal = parent.grant.principal
            record_refusal(
                self.enforcement, error, agent, principal=principal, parent=parent, start_ns=wall, always=True
            )
            raise

    def _verified(self, tokens: tuple[str, ...], leaf: Grant, wall: int, parent: Task | None) -> Chain:
        # Verified once here, as any other process would; afterwards a call verifies no signature.
        chain = verify_chain(
            tokens,
            anchors=self.anchor,
            issuer=self.issuer_name if parent is None else parent.chain.root.issuer,
            now=wall // _NS,
            task_id=leaf.task_id,
            audience=leaf.audience,  # Its parent's, which was ours when the task was opened here.
            max_lifetime=LONGEST_TTL,
            verified=None if parent is None else parent.chain,
        )
        try:
            self.enforcement.revocations.check(chain)
        except Denied as denied:
            record_refusal(self.enforcement, denied, leaf.agent, principal=leaf.principal, parent=parent, start_ns=wall)
            if self.enforcement.mode == "enforce":
                raise
        return chain

    def start(
        self,
        purpose: str,
        chain: Chain,
        holder: Signer | None,
        lease: Lease,
        handed: ExportedGrants,
        *,
        flow: TaskFlow | None,
        parent: Task | None = None,
    ) -> Task:
        """Return the task of a verified chain; without a holder key this process cannot delegate."""
        leaf = chain.leaf
        _note_nested(leaf.task_id)
        task = Task(
            id=leaf.task_id,
            purpose=purpose,
            principal=self.enforcement.real(leaf.principal),
            agent=leaf.agent,
            chain=chain,
            expires_at=leaf.expires_at,
            lease=lease,
            holder=holder,
            tally=Tally(),
            handed=handed,
            facts=task_facts(chain.grants),
            close=self._end,
            exports=self.exports(self),
            tokens=NoTokens() if self.supply is None else self.supply.open(),
            speak=self.speak,
            limits=chain.root.limits,
            flow=flow,
            vault=Vault() if parent is None else parent.vault,
        )
        self.live.add(task)
        return task

    def end_all(self) -> None:
        """End every open task, and notify the processes that got a part of one."""
        for task in list(self.live):
            task.end()
        self.registry.end_all()

    def drop_tokens(self) -> None:
        """Drop and revoke the tokens of all tasks, within a bounded time."""
        if self.supply is not None:
            self.supply.close()

    def _end(self, task: Task) -> None:
        """End the authority here, and notify the processes that got a part of it."""
        task.lease.end()
        self.enforcement.tools.review(self.enforcement.policy)
        task.tokens.drop()
        if task.lease.parent is None:  # Parts of a task share what it keeps.
            self.enforcement.tools.remind()
            task.vault.erase()
        if task.flow is not None:
            task.flow.guarded(task.flow.end)
        if task.handed.opened_here:
            self.enforcement.approvals.end(task.id)
        handed = task.handed.take()
        for name, expires_at in handed.items():
            try:
                now = self.enforcement.clock.wall_ns() // _NS
                self.enforcement.state.insert(f"ended:{name}", now=now, expires_at=expires_at + _LATE)
            except Exception as error:  # noqa: BLE001 - Delegated authority then ends by its own short lifetime.
                _LOG.error("other processes could not be notified of the end of a task: %s", safe_message(error))


def _note_nested(task_id: str) -> None:
    """Log the outer task of a task that opens inside a guarded body."""
    outer = outer_task(task_id)
    if outer is not None:
        _LOG.info("task %s opens inside a guarded body of task %s", task_id, outer)


def _deadline(chain: Chain) -> int:
    return chain.leaf.expires_at * _NS


def holder_of(task: Task) -> Signer:
    """Return the key that holds the task's grant.

    Raises:
        AttenuationError: With code ``not_the_holder`` if this process does not have it.
    """
    if task.holder is None:
        raise AttenuationError(
            "this process has no holder key of the task, which came without one; name this "
            "service's agent and key to the caller, and give the key to the receiving side",
            code="not_the_holder",
        )
    return task.holder


def check_task(purpose: str, *, scope: Scope, ttl: timedelta, limits: Sequence[Limit] = ()) -> None:
    """Check what :meth:`Enforcer.task` takes, for adapters that open tasks later with what they were given.

    Args:
        purpose: The purpose.
        scope: The scope.
        ttl: The lifetime.
        limits: The limits.

    Raises:
        TypeError: Something has another type.
        ValueError: The purpose is empty or too long, the ttl is out of range, or a limit cannot hold.
    """
    folded_purpose(purpose)
    seconds_of(ttl)
    check_limits(limits, scope.tools)


def seconds_of(ttl: timedelta) -> int:
    """Return the whole seconds of a lifetime.

    Raises:
        ValueError: The lifetime is out of range.
    """
    seconds = int(ttl.total_seconds())
    if not 1 <= seconds <= LONGEST_TTL:
        raise ValueError("ttl is out of range; use 1 second to 1 day, and open a new task for longer work")
    return seconds


def current_or_refuse(enforcement: EnforcementContext) -> Task:
    """Return the current task.

    Raises:
        NoTask: There is no task to delegate from.
    """
    task = enforcement.task_context.current()
    if task is None:
        raise NoTask(f"cannot delegate: {enforcement.task_context.missing()}")
    return task
