"""Approvals at run time: requests, signed rulings, and the single use of each ruling."""

import asyncio
import contextlib
import inspect
import logging
import threading
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final, cast, final

from agent_identity import canonical
from agent_identity._authority.grants.chain import SKEW
from agent_identity._authority.registries.rulings import MAX_WAIT, Ruling, trusted_ruling
from agent_identity._authority.stores.protocol import StateStore
from agent_identity._common.typed_calls import typed_calls
from agent_identity._guard.approvals import refusals as refused
from agent_identity._guard.approvals.inbox import ApprovalInbox, name_of, party_of, requested
from agent_identity._guard.approvals.names import Names, args_of
from agent_identity._guard.approvals.records import Held, approval_state, sources_asked
from agent_identity._guard.calls.approval_request import (
    Answer,
    Approval,
    ApprovalRequest,
    is_unaltered,
    request_bytes,
    with_digest,
)
from agent_identity._guard.calls.call import Call
from agent_identity._guard.common.failures import safe_message
from agent_identity._guard.common.followed_trust import FollowedTrust
from agent_identity._guard.common.threads import Steps, has_loop
from agent_identity._guard.tasks.facts import principal_fact
from agent_identity._guard.tasks.suspensions import leave, mark_of, taken_over
from agent_identity._guard.tasks.task import Task
from agent_identity._guard.tasks.task_context import TaskContext, attached
from agent_identity._identity.common.clock import Clock
from agent_identity._identity.common.ids import Ids
from agent_identity._identity.keys.keys import Signer
from agent_identity._identity.principals.principals import Human
from agent_identity._ledger.ledger import Ledger
from agent_identity._record import schema as records
from agent_identity._record.digests import DigestKeys
from agent_identity._record.parts import ApprovalStatus, Time
from agent_identity._record.pseudonyms import Pseudonyms
from agent_identity.errors import AgentIdentityError, ConfigurationError, Denied, StateError, TokenError

_LOG: Final = logging.getLogger("agent_identity")
_NS: Final = 1_000_000_000
_POLL_SECONDS: Final = 0.1
_MAX_ASKED: Final = 1_024


@final
@dataclass(frozen=True, slots=True)
class _Asking:
    """One call's request at one approval channel."""

    call: Call
    task: Task
    channel: Approval
    request: ApprovalRequest
    name: str


@typed_calls("approve", "reject", by="only people approve")
@final
class Approvals:
    """Pending approval requests and the decisions about them. Received from :attr:`Enforcer.approvals`.

    People decide outside tasks: inside a task, the agent could approve.

    Args:
        ledger: Keeps the records.
        digests: Keys of argument digests.
        state: Remembers the used rulings.
        signer: The issuer's key, which signs rulings.
        task_context: Finds the current task.
        trust: The trusted keys, and the issuer's URI.
        clock: Source of time.
        ids: Source of ids.
        forbid: Refuses acts that are forbidden to guarded bodies.
        check_person: Refuses people who are revoked or suspended.
        pseudonyms: Names the people in records and rulings, if principals have pseudonyms.
    """

    def __init__(
        self,
        ledger: Ledger,
        digests: DigestKeys,
        state: StateStore,
        signer: Signer,
        task_context: TaskContext,
        *,
        trust: FollowedTrust,
        clock: Clock,
        ids: Ids,
        forbid: Callable[[str, str, str], None],
        check_person: Callable[[Human], None],
        pseudonyms: Pseudonyms | None = None,
    ) -> None:
        self._forbid = forbid
        self._check_person = check_person
        self._names = Names(pseudonyms)
        self._ledger = ledger
        self._digests = digests
        self._state = state
        self._signer = signer
        self._trust = trust
        self._clock = clock
        self._ids = ids
        self._task_context = task_context
        self._box: ApprovalInbox | None = None
        self._asked: dict[str, ApprovalRequest] = {}
        self._filed: dict[str, str] = {}

    def use(self, box: ApprovalInbox) -> None:
        """Store requests in a directory, and remove leftovers of a crashed process from it."""
        self._box = box
        try:
            box.sweep(self._now())
        except (ConfigurationError, OSError) as error:
            _LOG.error("expired approval requests could not be removed: %s", safe_message(error))

    def pending(self) -> tuple[ApprovalRequest, ...]:
        """Return the undecided requests in the directory, oldest first.

        Raises:
            ConfigurationError: The folder or a file in it is open to others, or there is no directory.
        """
        return self._directory().undecided(self._now())

    def approve(self, request: "ApprovalRequest | Mapping[str, object] | str", /, *, by: Human) -> str:
        """Approve a call: as shown in the request, and once.

        Args:
            request: The id of a request in the directory, or a request that came another way, as it is or as
                :meth:`ApprovalRequest.to_dict` makes it.
            by: The approver; not the requester.

        Returns:
            The signed ruling. For a request in the directory it is stored already.

        Raises:
            Denied: The approver is the principal or an agent of the request (``approval_self``), a task is open here
                (``approval_in_task``), a guarded body decides (``approval_in_body``), or the request is late
                (``approval_expired``).
            ConfigurationError: The request is unknown, decided already, or altered
                (``approval_altered``).
        """
        self._forbid("approve", "approval", "approval_in_body")
        return self._decide(request, lambda waiting: waiting.approve(by=by))

    def reject(
        self, request: "ApprovalRequest | Mapping[str, object] | str", /, *, by: Human, reason: str | None = None
    ) -> str:
        """Reject a call; the agent learns it when it asks again.

        Args:
            request: As for :meth:`approve`.
            by: The approver.
            reason: The reason, for the agent and the record; 1 to 256 visible characters.

        Returns:
            The signed ruling.

        Raises:
            Denied: As for :meth:`approve`.
            ConfigurationError: As for :meth:`approve`.
        """
        self._forbid("reject", "approval", "approval_in_body")
        return self._decide(request, lambda waiting: waiting.reject(by=by, reason=reason))

    def decide(self, call: Call, channel: Approval) -> Held:
        """Ask the approval channel and return the ruling, which is not used yet.

        Raises:
            Denied: No ruling yet (``approval_pending``), or asking failed (``approval_failed``).
        """
        asking = self._begin(call, channel)
        if channel.ask is None:
            return self._wait(asking)
        try:
            with self._asking_outside(asking):
                answer = channel.ask(asking.request)
        except AgentIdentityError as error:
            raise refused.failed(call.tool, error) from None
        if inspect.isawaitable(answer):
            if inspect.iscoroutine(answer):
                answer.close()
            raise refused.coroutine_ask(call.tool)
        return self._heard(asking, answer)

    async def decide_async(self, call: Call, channel: Approval, steps: Steps) -> Held:
        """Ask the approval channel as :meth:`decide` does, without blocking the event loop.

        Args:
            call: The call.
            channel: The approval channel.
            steps: Runs blocking steps off the loop.
        """
        asking = await steps.take(partial(self._begin, call, channel))
        if channel.ask is None:
            return await self._wait_async(asking, steps)
        try:
            with self._task_context.unmarked(), attached(self._task_context.without()):
                if inspect.iscoroutinefunction(channel.ask) or channel.suspends or not has_loop():
                    answer = channel.ask(asking.request)
                else:
                    answer = await asyncio.to_thread(channel.ask, asking.request)
                if inspect.isawaitable(answer):
                    answer = await answer
        except channel.suspends:
            await steps.take(partial(self._announce_suspended, asking))
            raise
        except AgentIdentityError as error:
            raise refused.failed(call.tool, error) from None
        return await steps.take(partial(self._heard, asking, answer))

    def take_up(self, call: Call, channel: Approval, held: Held, *, look_again: Callable[[Call], None]) -> None:
        """Use a ruling for its call: of all processes that try, exactly one succeeds.

        Args:
            call: The call.
            channel: The approval channel.
            held: The ruling, and what was asked.
            look_again: Refuses a call whose task has ended; asked where the ruling ended while the store answered.

        Raises:
            Denied: The ruling is not for this call (see the codes ``approval_…``), or was used (``approval_used``).
            EvidenceError: The use could not be recorded.
        """
        ruling, task = held.ruling, cast("Task", call.task)
        call.approval = ruling.id
        try:
            self._check(call, task, channel, ruling)
            self._check_first(call, ruling)
            used = self._clock.wall_ns()
            if not _is_valid(ruling, used):  # The store took longer than the ruling had left.
                look_again(call)
                raise refused.expired(call.tool)
        except Denied as denied:
            self._forget(held.name)
            if denied.code == "approval_rejected":
                self._record(call, channel, "rejected", held)
            elif denied.code == "approval_expired":
                self._record(call, channel, "expired", held)
            raise
        self._record(call, channel, "approved", held, used)
        call.approved_by(principal_fact(ruling.approver).id)
        self._forget(held.name)

    def leave(self, call: Call) -> None:
        """Keep the approval of a suspended call for its repetition, which is the same call."""
        if call.approval is not None:
            now = self._now()
            leave(self._state, mark_of(call.approval), now=now, expires_at=now + MAX_WAIT)

    def end(self, task: str | None = None) -> None:
        """Remove the requests of an ended task, or of all tasks of this enforcer."""
        for name in [name for name, of in list(self._filed.items()) if task is None or of == task]:
            try:
                self._forget(name)
            except OSError as error:
                _LOG.error("a request for an approval could not be removed: %s", safe_message(error))

    def after_fork_in_child(self) -> None:
        """Leave the requests to the parent, which owns their tasks."""
        self._asked, self._filed = {}, {}

    def _decide(self, request: object, say: Callable[[ApprovalRequest], Answer]) -> str:
        if self._task_context.current() is not None:
            raise Denied(
                "a task is open, and people decide outside tasks; "
                "decide where no task is open, or inside 'with enforcer.no_task()'",
                code="approval_in_task",
            )
        name, waiting = requested(request, self._directory)
        answer = say(waiting)
        self._refuse_altered(waiting)
        waiting.conditions.check(answer.approver, waiting.principal, waiting.tool)
        self._check_person(answer.approver)
        if name is not None and (token := self._directory().ruling(name)) is not None:
            raise self._decided(waiting, token)
        if self._now() >= waiting.expires_at:
            raise Denied(f"{waiting.tool}: the request has expired; make the call again", code="approval_expired")
        token = self._rule(waiting, answer)[1]
        if name is not None:
            self._directory().decide(name, token)
        return token

    def _decided(self, waiting: ApprovalRequest, token: str) -> ConfigurationError:
        """Return the error about a second answer: it says who gave the first."""
        try:
            ruling = self._trust.trying(lambda trust: trusted_ruling(token, trust))
            by = f"{ruling.status} by {self._names.real(ruling.approver, waiting.tool).id!a}"
        except (TokenError, Denied):
            by = "decided"
        return ConfigurationError(f"the request is {by} already; make the call again", code="already_decided")

    def _refuse_altered(self, request: ApprovalRequest) -> None:
        if not is_unaltered(request, self._digests):
            raise ConfigurationError(
                "the request differs from the one that was made; have it made again", code="approval_altered"
            )

    def _rule(self, request: ApprovalRequest, answer: Answer) -> tuple[Ruling, str]:
        """Sign the decision about the request, if the request is unaltered."""
        self._refuse_altered(request)
        ruling = Ruling(
            id=request.id,
            status=answer.status,
            task=request.task,
            tool=request.tool,
            args=request.args,
            principal=self._names.named(request.principal),
            agent=request.agent,
            approver=self._names.named(answer.approver),
            decided_at=self._now(),
            expires_at=request.expires_at,
            reason=answer.reason,
            sources=request.sources,
        )
        return ruling, ruling.sign(self._signer, issuer=self._trust.now.issuer or "")

    def _begin(self, call: Call, channel: Approval) -> _Asking:
        """Return the request of a call: the pending one, or a new one."""
        task, snapshot = cast("Task", call.task), call.snapshot
        if snapshot is not None and not set(snapshot.opaque).isdisjoint(snapshot.supplied):
            raise Denied(
                f"{call.tool}: an opaque argument cannot be shown to a person; pass text or an id instead",
                code="approval_unbindable",
            )
        args, decision, now = call.action.args, call.decision, self._now()
        sources = sources_asked(call)
        shown = call.displayed  # The approver does not see values that the model never sees.
        data = b"{}" if shown is None else shown.canonical()
        name = name_of(task, call.tool, args, call_id=call.call_id if channel.suspends else None)
        suspended = self._asked.get(name) if channel.suspends else None
        known = self._waiting(name, call.tool, task, args) if channel.ask is None else suspended
        if known is not None and not set(sources) <= set(known.sources):
            self._forget(name)  # The task has read more since: that is another question.
            known = None
        if known is None:
            last = now + int(channel.ttl.total_seconds())
            known = ApprovalRequest(
                id=self._ids.new(self._clock.wall_ns()),
                tool=call.tool,
                arguments=cast("Mapping[str, canonical.JSON]", canonical.decode(data)),
                args=args,
                task=task.id,
                purpose=task.purpose,
                principal=task.principal,
                agent=task.agent,
                route=decision.route or "",
                rule=decision.rule,
                why=decision.why,
                requested_at=now,
                expires_at=last if channel.suspends else min(last, task.expires_at),
                sources=sources,
                conditions=channel.approvers.conditions(task),
            )
            known = with_digest(known, self._digests)
            known = self._announce(call, task, channel, known, name)
        call.approval = known.id
        return _Asking(call, task, channel, known, name)

    def _waiting(self, name: str, tool: str, task: Task, args: str | None) -> ApprovalRequest | None:
        """Return the pending request of the call in the directory; an altered one is removed."""
        known = self._directory().find(name)
        if known is None:
            return None
        if (known.task, known.tool, known.args) == (task.id, tool, args) and is_unaltered(known, self._digests):
            return known
        _LOG.error("the request for an approval of %s was altered in the directory; it is removed and made again", tool)
        self._forget(name)
        return None

    def _announce(
        self, call: Call, task: Task, channel: Approval, request: ApprovalRequest, name: str
    ) -> ApprovalRequest:
        """Store and record a request; return the valid one, if an equal one came first."""
        if channel.suspends:
            return request  # Announced at suspension: a rerun with the answer is no new request.
        if channel.ask is None:
            kept = self._directory().put(name, request, now=self._now())
            if kept is not request:
                return kept
            self._filed[name] = task.id
        call.approval = request.id
        self._record(call, channel, "pending", request)
        return request

    @contextlib.contextmanager
    def _asking_outside(self, asking: _Asking) -> Generator[None]:
        """Ask outside the task: the channel must not have its authority. A suspended request is announced."""
        try:
            with self._task_context.unmarked(), attached(self._task_context.without()):
                yield
        except asking.channel.suspends:
            self._announce_suspended(asking)
            raise

    def _announce_suspended(self, asking: _Asking) -> None:
        """Record a suspended request once: the rerun with the answer is no new one."""
        if asking.name not in self._asked:
            if len(self._asked) >= _MAX_ASKED:  # The oldest of this task is dropped, so that no task takes all places.
                suspended = list(self._asked.items())
                own = [name for name, request in suspended if request.task == asking.task.id]
                self._asked.pop((own or [suspended[0][0]])[0], None)
            self._asked[asking.name] = asking.request
            self._record(asking.call, asking.channel, "pending", asking.request)

    def _heard(self, asking: _Asking, answer: object) -> Held:
        """Return the ruling of an answer to this request."""
        if type(answer) is Answer:
            if answer.request != asking.request.id:
                raise refused.mismatch(asking.call.tool)
            if answer.shown is None or request_bytes(answer.shown) != request_bytes(asking.request):
                raise refused.altered(asking.call.tool)
            if self._now() >= asking.request.expires_at:
                self._record(asking.call, asking.channel, "expired", asking.request)
                raise refused.expired(asking.call.tool)
            try:
                return Held(*self._rule(asking.request, answer), asking.name, asking.request.digest)
            except AgentIdentityError as error:  # The signer.
                raise refused.failed(asking.call.tool, error) from None
        if type(answer) is str:
            return self._held(asking, answer)
        raise refused.forged(asking.call.tool)

    def _held(self, asking: _Asking, token: str) -> Held:
        """Return a signed ruling that ends no later than the request; :meth:`take_up` compares it with the call."""
        tool = asking.call.tool
        try:
            ruling = self._trust.trying(lambda trust: trusted_ruling(token, trust))
        except TokenError as error:
            raise Denied(
                f"{tool}: the approval is not signed by the issuer ({error.code}); ask again", code="approval_forged"
            ) from None
        if ruling.expires_at > asking.request.expires_at:
            raise refused.altered(tool)
        # A run in another process asks anew, and gets the ruling about the request that it made before.
        digest = asking.request.digest if ruling.id == asking.request.id else None
        return Held(ruling, token, asking.name, digest)

    def _wait(self, asking: _Asking) -> Held:
        pause, polls = threading.Event(), self._polls(asking)
        while True:
            held = self._look(asking)
            if held is not None:
                return held
            polls -= 1
            if polls < 0:
                raise refused.pending(asking.call.tool, asking.request.id)
            pause.wait(_POLL_SECONDS)

    async def _wait_async(self, asking: _Asking, steps: Steps) -> Held:
        polls = self._polls(asking)
        while True:
            held = await steps.take(partial(self._look, asking))
            if held is not None:
                return held
            polls -= 1
            if polls < 0:
                raise refused.pending(asking.call.tool, asking.request.id)
            await asyncio.sleep(_POLL_SECONDS)

    @staticmethod
    def _polls(asking: _Asking) -> int:
        return int(asking.channel.wait.total_seconds() / _POLL_SECONDS)

    def _look(self, asking: _Asking) -> Held | None:
        asking.task.lease.check(self._clock)
        token = self._directory().ruling(asking.name)
        if token is not None:
            try:
                return self._held(asking, token)
            except Denied:
                self._forget(asking.name)
                raise
        if asking.request.expires_at > self._now():
            return None
        self._forget(asking.name)
        self._record(asking.call, asking.channel, "expired", asking.request)
        raise refused.expired(asking.call.tool)

    def _check(self, call: Call, task: Task, channel: Approval, ruling: Ruling) -> None:
        """Check that a ruling approves this call, and that its approver may."""
        args = call.action.args
        if ruling.task != task.id and channel.suspends and ruling.args is not None:
            args = args_of(call, ruling.task, ruling.args, self._digests)
        same_task = ruling.task == task.id or bool(channel.suspends)
        approved = (party_of(ruling.principal), ruling.agent.id, ruling.agent.owner, ruling.tool, ruling.args)
        principal = party_of(self._names.named(task.principal))
        if not same_task or approved != (principal, task.agent.id, task.agent.owner, call.tool, args):
            raise refused.mismatch(call.tool)
        asked = set(sources_asked(call))
        if ruling.task != task.id and task.flow is not None:  # That this task began as unknown came after the call.
            asked.discard(task.flow.begun or "")
        if not asked <= set(ruling.sources):
            raise refused.outdated(call.tool)
        approver = self._names.real(ruling.approver, call.tool)
        channel.approvers.conditions(task).check(approver, task.principal, call.tool)
        self._check_person(approver)
        if ruling.status != "approved":
            why = f": {ruling.reason}" if ruling.reason else ""
            raise Denied(f"{call.tool}: rejected by {approver.id}{why}", code="approval_rejected")
        if not _is_valid(ruling, self._clock.wall_ns()):
            raise refused.expired(call.tool)

    def _check_first(self, call: Call, ruling: Ruling) -> None:
        now, last = self._now(), ruling.expires_at
        try:
            first = self._state.insert(f"approval:{ruling.id}", now=now, expires_at=last) or taken_over(
                self._state, mark_of(ruling.id), now=now, expires_at=last
            )
        except StateError as error:
            _LOG.error("the use of an approval could not be checked, the call is refused: %s", safe_message(error))
            raise refused.uncheckable(call.tool) from None
        if not first:
            raise Denied(f"{call.tool}: the approval was used before; ask again", code="approval_used")

    def _record(
        self,
        call: Call,
        channel: Approval,
        status: ApprovalStatus,
        about: ApprovalRequest | Held,
        wall: int | None = None,
    ) -> None:
        facts = cast("Task", call.task).facts._asdict()
        time = Time.at(self._clock.wall_ns() if wall is None else wall)
        state = approval_state(status, about, channel)
        self._ledger.append(partial(records.Approval, **facts, time=time, action=call.action, approval=state))

    def _forget(self, name: str) -> None:
        self._asked.pop(name, None)
        self._filed.pop(name, None)
        if self._box is not None:
            self._box.remove(name)

    def _directory(self) -> ApprovalInbox:
        if self._box is None:
            raise ConfigurationError(
                "the enforcer has no directory for pending requests; "
                "open it with Enforcer.open, or give the approval handler an 'ask'"
            )
        return self._box

    def _now(self) -> int:
        return self._clock.wall_ns() // _NS


def _is_valid(ruling: Ruling, wall: int) -> bool:
    """Return whether a ruling may be used at this time."""
    return ruling.decided_at - SKEW <= wall // _NS < ruling.expires_at
