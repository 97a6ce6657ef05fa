"""Opening and ending tasks: the root grant, delegation, their records and their span."""

import asyncio
import logging
import sys
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from types import TracebackType
from typing import Final, final

from opentelemetry import trace
from opentelemetry.trace import Span

from agent_identity.authority import (
    Chain,
    Grant,
    Lease,
    Limit,
    Scope,
    TaskRegistry,
    TokenSource,
    derive,
    issue,
    verify_chain,
)
from agent_identity.canonical import RecordValue
from agent_identity.enforcement.admission import Admission, record_refusal, refusing
from agent_identity.enforcement.ambience import Attachment, Process
from agent_identity.enforcement.failures import failure, kind_of, trouble
from agent_identity.enforcement.handed import Handed, Recorded
from agent_identity.enforcement.off_loop import off_loop
from agent_identity.enforcement.point import Point
from agent_identity.enforcement.task import Tally, Task, task_claims
from agent_identity.enforcement.task_tokens import REVOKE_SECONDS, TokenDesk
from agent_identity.enforcement.telemetry import Traced, traced
from agent_identity.enforcement.traces import remote_parent
from agent_identity.errors import (
    AgentIdentityError,
    AttenuationError,
    ConfigurationError,
    Denied,
    EvidenceError,
    NoTask,
)
from agent_identity.evidence import Entry
from agent_identity.evidence.span_copy import GRANT_ATTRIBUTE
from agent_identity.identity import Agent, Human, Ids, Principal, PublicKey, Service, Signer, check_id

__all__ = ["Opening", "Tasks"]

_LOG: Final = logging.getLogger("agent_identity")
_NS: Final = 1_000_000_000
LONGEST_TTL: Final = 86_400
"""Seconds that a task lives at most; open a new one for longer work."""

_LATE: Final = 60
"""Seconds that a task's end is remembered beyond its grants, since the clocks of processes differ."""

DRAIN_SECONDS: Final = 5.0
"""The end of a task waits at most this long for its evidence to reach the span processors."""


@final
@dataclass(frozen=True, slots=True)
class Tasks:
    """Issues the grants of tasks and keeps the registry of those that live.

    Attributes:
        point: The enforcement point.
        registry: Which tasks live.
        issuer: Signs root grants.
        issuer_name: The issuer's URI.
        anchor: Returns the trusted issuer key of a key id.
        ids: Source of ids.
        new_key: Makes the key that holds a grant.
        admission: Which agents may hold grants; None if no registry says so.
        tokens: Where tokens for other services come from.
        desk: Where tasks get them.
    """

    point: Point
    registry: TaskRegistry
    issuer: Signer
    issuer_name: str
    anchor: Callable[[str], PublicKey]
    ids: Ids
    new_key: Callable[[], Signer]
    admission: Admission | None = None
    tokens: TokenSource | None = None
    desk: TokenDesk = field(init=False)
    live: "weakref.WeakSet[Task]" = field(init=False, default_factory=weakref.WeakSet[Task])

    def __post_init__(self) -> None:
        # Also after a fork: the tokens so far are the parent's.
        object.__setattr__(self, "desk", TokenDesk(self.point, self.tokens, self.ids))

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
        wall = self.point.clock.wall_ns()
        shown = self.point.shown(principal)
        with refusing(self.point, agent, principal=shown, parent=None, start_ns=wall):
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
                id=self.ids.new(wall),
                limits=limits,
            )
            # Nobody can have asked for a key of this id yet.
            self.point.digests.create(grant.task_id)
            chain = self._verified((grant.token,), grant, wall, None)
            lease = self.registry.open(grant.task_id, _deadline(chain), clock=self.point.clock, id=grant.id)
            return self.start(purpose, chain, holder, lease, Handed(grant.task_id))

    def open_child(self, parent: Task, purpose: str, agent: Agent, scope: Scope, *, ttl: timedelta | None) -> Task:
        """Open a delegated part of a live task."""
        wall = self.point.clock.wall_ns()
        with refusing(self.point, agent, principal=parent.grant.principal, parent=parent, start_ns=wall):
            self.point.check(parent)
            remaining = max(1, parent.expires_at - wall // _NS)
            if self.admission is not None:
                principal = parent.grant.principal
                most = self.admission.admit(agent, scope, principal=principal, parent=parent, wall_ns=wall)
                remaining = min(remaining, most)
            holder = self.new_key()
            grant = derive(
                parent.chain,
                holder_of(parent),
                agent=agent,
                holder=holder.public_key,
                scope=scope,
                now=wall // _NS,
                ttl=remaining if ttl is None else min(seconds_of(ttl), remaining),
                id=self.ids.new(wall),
            )
            chain = self._verified((*parent.chain.tokens, grant.token), grant, wall, parent)
            deadline, clock = _deadline(chain), self.point.clock
            lease = self.registry.open(grant.task_id, deadline, parent.lease, clock=clock, id=grant.id)
            return self.start(purpose, chain, holder, lease, Handed(None, parent.handed))

    def _verified(self, tokens: tuple[str, ...], leaf: Grant, wall: int, parent: Task | None) -> Chain:
        # Verified once here, as any other process would; after this a call costs no signature.
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
            self.point.revocations.check(chain)
        except Denied as denied:
            record_refusal(self.point, denied, leaf.agent, principal=leaf.principal, parent=parent, start_ns=wall)
            if self.point.mode == "enforce":
                raise
        return chain

    def start(self, purpose: str, chain: Chain, holder: Signer | None, lease: Lease, handed: Handed) -> Task:
        """Return the task of a verified chain, without a holder if this process cannot delegate."""
        leaf = chain.leaf
        task = Task(
            id=leaf.task_id,
            purpose=purpose,
            principal=self.point.real(leaf.principal),
            agent=leaf.agent,
            chain=chain,
            expires_at=leaf.expires_at,
            lease=lease,
            holder=holder,
            tally=Tally(),
            handed=handed,
            claims=task_claims(chain.grants),
            close=self._end,
            tokens=self.desk.open(),
            limits=chain.root.limits,
        )
        self.live.add(task)
        return task

    def end_all(self) -> None:
        """End every task that is open, and tell the processes that were handed a part of one."""
        for task in list(self.live):
            task.end()
        self.registry.end_all()

    def _end(self, task: Task) -> None:
        """End the authority here, and tell the processes that were handed a part of it."""
        task.lease.end()
        task.tokens.drop()
        if task.handed.opened_here:
            self.point.approvals.end(task.id)
        handed = task.handed.take()
        for name, expires_at in handed.items():
            try:
                now = self.point.clock.wall_ns() // _NS
                self.point.state.insert(f"ended:{name}", now=now, expires_at=expires_at + _LATE)
            except Exception as error:  # noqa: BLE001 - What is handed out then ends by its own short life.
                _LOG.error("the end of a task could not be told to other processes: %s", trouble(error))


def _deadline(chain: Chain) -> int:
    return chain.leaf.expires_at * _NS


def holder_of(task: Task) -> Signer:
    """Return the key that holds the task's grant.

    Raises:
        AttenuationError: With code ``not_the_holder`` if this process does not have it.
    """
    if task.holder is None:
        raise AttenuationError(
            "expected the key of the grant's holder, got a task that was handed over without one; name this "
            "service's agent and key to the caller, and give the key to the receiving side",
            code="not_the_holder",
        )
    return task.holder


def seconds_of(ttl: timedelta) -> int:
    """Return the whole seconds of a lifetime.

    Raises:
        ValueError: It is out of range.
    """
    seconds = int(ttl.total_seconds())
    if not 1 <= seconds <= LONGEST_TTL:
        raise ValueError("expected a ttl from 1 second to 1 day; open a new task for longer work")
    return seconds


def check_parties(principal: object, agent: object, scope: object) -> None:
    """Check the types of what a task is opened with.

    Raises:
        TypeError: One of them is of another type.
    """
    if not isinstance(principal, Human | Service):
        raise TypeError(f"expected principal=Human(...) or Service(...), got {type(principal).__name__}")
    check_delegate(agent, scope)


def check_delegate(agent: object, scope: object) -> None:
    """Check the types of what a task is delegated with.

    Raises:
        TypeError: One of them is of another type.
    """
    if not isinstance(agent, Agent):
        raise TypeError(f"expected agent=Agent(id, owner=...), got {type(agent).__name__}")
    if not isinstance(scope, Scope):
        raise TypeError(f"expected scope=Scope(...), got {type(scope).__name__}")


@final
class Opening:
    """A task being opened; a context manager for ``with`` and ``async with``, used once.

    Received from :meth:`Enforcer.task`, :meth:`Enforcer.delegate` and what resumes tasks of other processes.
    Entering it begins the authority, leaving it ends the authority, also when the block raises.
    """

    __slots__ = (
        "_attachment",
        "_entered",
        "_finished",
        "_home",
        "_make",
        "_point",
        "_purpose",
        "_recorded",
        "_span",
        "_start_ns",
        "_task",
        "_trace",
        "_traced",
    )

    def __init__(
        self,
        point: Point,
        purpose: str | None,
        make: Callable[[], Task],
        *,
        recorded: Recorded | None = None,
        traceparent: str | None = None,
    ) -> None:
        if purpose is not None:
            check_id(purpose, "purpose")
        self._point = point
        self._purpose = purpose
        self._make = make
        self._recorded = recorded
        self._trace = traceparent
        self._task: Task | None = None
        self._entered = False
        self._attachment: Attachment | None = None
        self._finished = False
        self._home = Process.here
        self._span: Span = trace.INVALID_SPAN
        self._traced: Traced | None = None
        self._start_ns = 0

    def __enter__(self) -> Task:
        self._enter_once()
        return self._attach(self._open())

    def _enter_once(self) -> None:
        if self._entered:
            raise RuntimeError("expected a fresh task for each block; call enforcer.task(...) again")
        self._entered = True

    def _open(self) -> Task:
        """Open the task and record that, in whichever thread."""
        if sys.is_finalizing():  # Some interpreters crash where times are computed this late.
            raise EvidenceError(
                "expected a running interpreter, got one that ends; open tasks before", code="ledger_closed"
            )
        try:
            task = self._make()
        except BaseException:
            self._entered = False
            raise
        self._task = task
        try:
            self._begin(task)
        except BaseException as error:
            task.lease.end()
            self._point.spans.abandon(self._span)
            if isinstance(error, Exception) and not isinstance(error, AgentIdentityError):
                why = f"the task is not recorded, and therefore not open: {failure('its opening', error)}"
                raise EvidenceError(why, code="guard_failed") from None
            raise
        return task

    def _attach(self, task: Task) -> Task:
        """Make the task the current one, in the context in which its block runs."""
        try:
            holding = self._point.ambience.holding(task, trace.set_span_in_context(self._span))
            self._attachment = Attachment(holding)
        except BaseException as error:
            self._finish(error)
            raise
        return task

    def _begin(self, task: Task) -> None:
        point = self._point
        self._home = Process.here
        self._start_ns = point.clock.wall_ns()
        parent = remote_parent(self._trace)
        self._span = point.spans.start(
            f"invoke_agent {task.agent.id}",
            {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": task.agent.id},
            self._start_ns,
            parent,
        )
        self._traced = traced(self._span, parent)
        start: dict[str, RecordValue] = {"start": str(self._start_ns)}
        body = self._body(task) | {"time": start}
        for grants in self._unrecorded(task):
            token = grants[-1].token
            point.ledger.append("grant", body | task_claims(grants) | {"grant": {"token": token}})
        purpose = {**_mapping(task.claims["task"]), "purpose": task.purpose}
        if self._traced.rooted:
            body["trace"] = self._traced.rooted
        point.ledger.append("task_start", body | {"task": purpose})

    def _unrecorded(self, task: Task) -> Iterator[tuple[Grant, ...]]:
        """Yield each chain whose last grant the stream must get: a verifier needs all grants of a chain."""
        grants = task.chain.grants
        if self._recorded is None:
            yield grants
            return
        for number, grant in enumerate(grants, 1):
            if self._recorded.lacks(self._point.ledger.stream, grant.hash):
                yield grants[:number]
                self._recorded.add(self._point.ledger.stream, grant.hash)

    def _body(self, task: Task) -> dict[str, RecordValue]:
        body: dict[str, RecordValue] = dict(task.claims)
        if self._traced is not None and self._traced.ids:
            body["trace"] = self._traced.ids
        return body

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._finish(error):
            self._drain()

    async def __aenter__(self) -> Task:
        self._enter_once()
        return self._attach(await off_loop(self._open, undo=self._abandon))

    def _abandon(self, _: Task) -> None:
        """End a task whose opening was cancelled."""
        self._finish(asyncio.CancelledError())

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._task is None:
            return
        self._task.lease.end()  # At once; what else belongs to the end may have to wait.
        if self._attachment is not None:
            self._attachment.release()
        if not await off_loop(partial(self._finish, error)):
            return
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # Another event loop than asyncio's: a short wait beats lost spans.
            self._drain()
        else:
            await loop.run_in_executor(None, self._drain)

    def _drain(self) -> None:
        """Wait until the task's spans are with their processors; spans fail open, the ledger has all."""
        try:
            self._point.ledger.drain(DRAIN_SECONDS)
        except EvidenceError:
            _LOG.warning("the spans of a task are still being signed; they will follow")
        if self._task is not None:
            self._task.tokens.settle(REVOKE_SECONDS)

    def _finish(self, error: BaseException | None) -> bool:
        """End the authority first, then record the end; return whether there is evidence to wait for."""
        task = self._task
        if task is None:
            return False
        task.end()
        if self._attachment is not None:
            self._attachment.release()
        if self._finished or self._home is not Process.here:  # A forked child leaves the record to its parent.
            return False
        self._finished = True
        try:
            self._record_end(task, error)
        except Exception as failure:
            self._point.spans.abandon(self._span)
            if error is None:
                raise
            # The block's own error matters more; the missing record shows in the ledger. Only the class is
            # logged, because a trace would show the text of the block's error as well.
            _LOG.error("the end of a task could not be recorded: %s", type(failure).__name__)
            return False
        return True

    def _record_end(self, task: Task, error: BaseException | None) -> None:
        point, span = self._point, self._span
        end_ns = max(point.clock.wall_ns(), self._start_ns)
        body = self._body(task)
        body["time"] = {"start": str(self._start_ns), "end": str(end_ns)}
        body["counts"] = _counts(task.tally)
        if error is not None:
            body["error"] = kind_of(error)
        # A verifier of spans alone needs the grants that no span of this process has.
        tokens = task.chain.tokens if self._recorded is not None else (task.grant.token,)
        delegation = {GRANT_ATTRIBUTE: "~".join(tokens)}

        def finish(entry: Entry) -> None:
            point.spans.finish(span, entry, end_ns, delegation)

        point.ledger.append("task_end", body, after=finish)


def _counts(tally: Tally) -> dict[str, RecordValue]:
    intents, outcomes = tally.intents, tally.outcomes
    open_calls = max(0, intents - tally.concluded)
    return {"intents": str(intents), "outcomes": str(outcomes), "open": str(open_calls)}


def _mapping(value: RecordValue) -> dict[str, RecordValue]:
    if not isinstance(value, dict):
        raise ConfigurationError("expected the claims of a task to be objects")
    return value


def current_or_refuse(point: Point) -> Task:
    """Return the current task.

    Raises:
        NoTask: There is none to delegate from.
    """
    task = point.ambience.current()
    if task is None:
        raise NoTask(f"expected an open task of this enforcer to delegate from, {point.ambience.missing()}")
    return task
