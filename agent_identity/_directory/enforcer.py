"""The enforcer: opens tasks, guards tools, keeps the evidence."""  # budget: one line for each part that users may give

import os
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import timedelta
from functools import partial
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, ParamSpec, Self, TypeVar, final, overload

from agent_identity._authority.grants.grants import Grant
from agent_identity._authority.grants.limits import Limit
from agent_identity._authority.grants.scope import Scope
from agent_identity._authority.registries.agents import AgentRegistry
from agent_identity._authority.registries.revocations import RevokedKind
from agent_identity._authority.registries.tasks import TaskRegistry
from agent_identity._authority.stores.memory import MemoryState
from agent_identity._authority.stores.protocol import StateStore
from agent_identity._authority.tokens.source import TokenSource
from agent_identity._common.typed_calls import typed_calls
from agent_identity._directory import _assembly as parts
from agent_identity._directory._endings import GRACE, at_worker_end, each_in_order, flush_spans
from agent_identity._directory._warnings import Warnings
from agent_identity._directory.conditions import STOPS
from agent_identity._directory.inventory.server_inventory import Inventory
from agent_identity._directory.key_folders import Keys
from agent_identity._directory.open import open_directory, pseudonyms_of, signers_of
from agent_identity._directory.options import Durability, Privacy, Sources, Telemetry, Transparency
from agent_identity._flow.choices import choices_of_hints
from agent_identity._flow.declaration import Returns
from agent_identity._guard.approvals.service import Approvals
from agent_identity._guard.calls.approval_request import Approval
from agent_identity._guard.calls.call import CallRequest
from agent_identity._guard.common.followed_trust import FollowedTrust
from agent_identity._guard.common.leaving import Leaving
from agent_identity._guard.common.purpose import folded_purpose
from agent_identity._guard.common.recorded_decisions import Mode
from agent_identity._guard.judging.context import EnforcementContext
from agent_identity._guard.judging.guard import Guard
from agent_identity._guard.judging.record_builder import Workflow
from agent_identity._guard.judging.revocations import Revocations, named
from agent_identity._guard.judging.span_facts import SpanOptions
from agent_identity._guard.judging.tool_flow import DeclaredFlow, Restores
from agent_identity._guard.lifecycle.callables import guarded, hints_of, known_as_guarded
from agent_identity._guard.lifecycle.deferred_results import Lazy, check_lazy
from agent_identity._guard.lifecycle.guarded_block import Action
from agent_identity._guard.lifecycle.guarded_call import GuardedCall
from agent_identity._guard.sessions.nesting import Listed, Nesting, permits_of
from agent_identity._guard.sessions.opening import Opening
from agent_identity._guard.sessions.propagation import Outbound, Peer, Presentation
from agent_identity._guard.sessions.resume import Inbound
from agent_identity._guard.sessions.statements import Statements, checked_text
from agent_identity._guard.sessions.tasks import Tasks, current_or_refuse
from agent_identity._guard.tasks.delegation_bundle import DelegationBundle, Grants
from agent_identity._guard.tasks.exported_grants import RecordedGrants
from agent_identity._guard.tasks.task import Task
from agent_identity._guard.tasks.task_context import TaskContext
from agent_identity._identity.common.clock import Clock, SystemClock
from agent_identity._identity.common.ids import RandomIds
from agent_identity._identity.keys.keys import PublicKey, Signer
from agent_identity._identity.principals.principals import Agent, Principal
from agent_identity._identity.trust.store import TrustStore
from agent_identity._inspection.running import prepare
from agent_identity._ledger.ledger import Ledger
from agent_identity._policy.decision.decision import check_labels
from agent_identity._policy.decision.request import Claims, Inspector, Policy
from agent_identity._policy.decision.resources import (
    Touches,
    check_parameters,
    check_touches,
    parted_touches,
    with_data_of,
)
from agent_identity._record.digests import DigestKeys
from agent_identity.errors import ConfigurationError

if TYPE_CHECKING:
    from agent_identity._directory.export.ledger_exporter import LedgerExporter

P = ParamSpec("P")
R = TypeVar("R")

DEFAULT_TTL: Final = timedelta(minutes=5)
_NS: Final = 1_000_000_000
_ENFORCERS: Final["weakref.WeakSet[Enforcer]"] = weakref.WeakSet()


@typed_calls(*parts.CALLS, **parts.CURES)
@final
class Enforcer:
    """Guards tools, opens tasks and keeps the evidence. Safe to share between threads.

    Most programs use :meth:`open`. The constructor takes the parts one by one, for keys held elsewhere or another
    ledger.

    Args:
        keys: The signers of issuer and recorder, two keys. The issuer signs root grants; the recorder signs the records
            on spans, with the key that signs the checkpoints of the ledger.
        trust: Public keys; must hold those of issuer and recorder, and the URI of the issuer.
        ledger: Keeps the records; closed by :meth:`close`.
        digests: Keys of the digests of arguments and results.
        policy: Judges each call; without one the grant alone decides.
        inspectors: Examine arguments and results; the policy judges their findings.
        routes: Handlers by name for calls that the policy routes. A handler gets the
            :class:`~agent_identity.adapters.Call` and returns in place of the body. An
            :class:`agent_identity.approvals.Approval` asks a person, and the body runs if they approve.
        agents: Registry of agents; without one, no agent needs to be registered. It is read again when its file
            changes.
        unregistered: ``"deny"`` or ``"allow"`` agents that the registry does not list. It binds those that it lists
            in any case.
        mode: ``"enforce"``, or ``"monitor"`` to let everything run and record what would have happened.
        nested: Principals for whom tools may open tasks of their own while they run in a task, compared as a whole,
            or a function that returns ``True`` for them. By default none.
        state: State that processes share: revocations, spent limits, used proofs; by default in the memory of this
            process. The caller closes it.
        privacy: What records show.
        telemetry: Where copies of records go. ``on_record`` misses the first record of a ``ledger`` that is open
            already: give ``observers`` to ``Ledger.open`` for that.
        tokens: Source of tokens for other services, such as :class:`agent_identity.tokens.TokenExchange`; see
            :meth:`Task.token`.
        sources: Where time, ids and new keys come from.

    Raises:
        ConfigurationError: The parts do not fit together, or a tool that runs in a task gives ``nested``.
        TypeError: ``state`` is no store, or ``nested`` is neither principals nor a plain function.
    """

    _closed: bool = False
    _own_state: StateStore | None = None
    _exporter: "LedgerExporter | None" = None

    def __init__(  # budget: one line for each part that users may give, and nothing else
        self,
        *,
        keys: tuple[Signer, Signer],
        trust: TrustStore,
        ledger: Ledger,
        digests: DigestKeys,
        policy: Policy | None = None,
        inspectors: Sequence[Inspector] = (),
        routes: Mapping[str, Callable[..., object] | Approval] | None = None,
        agents: AgentRegistry | None = None,
        unregistered: Literal["deny", "allow"] = "deny",
        mode: Mode = "enforce",
        nested: Listed = (),
        state: StateStore | None = None,
        privacy: Privacy = Privacy(),
        telemetry: Telemetry = Telemetry(),
        tokens: TokenSource | None = None,
        sources: Sources = Sources(),
    ) -> None:
        permits = permits_of(nested)
        parts.check_routes(routes)
        issuer, recorder = signers_of(keys)
        time, shared = sources.clock or SystemClock(), MemoryState() if state is None else state
        ids, task_context = sources.ids or RandomIds(), TaskContext(time, enforced=mode == "enforce")
        name = parts.check_parts(mode, issuer, recorder, trust, now=time.wall_ns() // _NS)
        pseudonyms = pseudonyms_of(ledger.keys, wanted=privacy.pseudonyms)
        self._exporter = parts.exporter_of(ledger, telemetry.otlp, recorder, trust)
        self._trust = followed = FollowedTrust(trust, time)
        revocations = Revocations(
            shared, ledger, signer=issuer, trust=followed, clock=time, forbid=self._forbid, pseudonyms=pseudonyms
        )
        approvals = Approvals(
            ledger,
            digests,
            shared,
            issuer,
            task_context,
            trust=followed,
            clock=time,
            ids=ids,
            forbid=self._forbid,
            check_person=revocations.check,
            pseudonyms=pseudonyms,
        )
        self._enforcement = EnforcementContext(
            ledger=ledger,
            digests=digests,
            spans=parts.spans_of(recorder, telemetry),
            clock=time,
            task_context=task_context,
            policy=policy,
            routes=MappingProxyType(dict(routes or {})),
            inspectors=tuple(inspectors),
            mode=mode,
            inline=telemetry.sealing == "inline",
            state=shared,
            revocations=revocations,
            approvals=approvals,
            disclosable=privacy.disclosable,
            pseudonyms=pseudonyms,
            flows=parts.flows_of(policy, ledger, digests, time, state=shared, mode=mode),
        )
        self._inventory = Inventory(ledger, issuer, followed, time)
        self._nesting = Nesting(self._enforcement, permits)
        self._registry = TaskRegistry()
        admission = parts.admission_of(self._enforcement, agents, unregistered, followed)
        self._tasks = Tasks(
            self._enforcement,
            self._registry,
            issuer,
            name,
            followed.anchor,
            ids,
            sources.new_key,
            admission,
            parts.tokens_of(self._enforcement, tokens, ids),
            exports=Outbound,
            speak=Statements(self._enforcement, self._forbid),
        )
        self._warnings = Warnings(self._enforcement, followed, issuer.public_key, recorder.public_key)
        self._inbound = Inbound(self._tasks, followed, RecordedGrants())
        self._enforcement.spans.examine()
        _ENFORCERS.add(self)
        at_worker_end(_end_all)
        ledger.observe(*telemetry.observers)
        parts.record_policy(ledger, policy, time)
        if self._exporter is not None:
            self._exporter.start()

    @classmethod
    def open(  # budget: one line for each part that users may give, and nothing else
        cls,
        directory: str | os.PathLike[str],
        *,
        policy: Policy | str | os.PathLike[str] | None = None,
        inspectors: Sequence[Inspector] = (),
        routes: Mapping[str, Callable[..., object] | Approval] | None = None,
        agents: Literal["any", "registered"] | None = "any",
        mode: Mode = "enforce",
        nested: Listed = (),
        state: StateStore | None = None,
        keys: Keys = None,
        trust_root: PublicKey | None = None,
        durability: Durability = Durability(),
        privacy: Privacy = Privacy(),
        telemetry: Telemetry = Telemetry(),
        transparency: Transparency = Transparency(),
        tokens: TokenSource | None = None,
        sources: Sources = Sources(),
    ) -> Self:
        """Open an enforcer on a directory; keys, trust file and ledger are created on first use.

        Several processes may open the same directory; each writes a stream of its own.

        Args:
            directory: Directory of keys, ``trust.json`` and the ledger.
            policy: A policy, or the path of a policy file.
            inspectors: See :class:`Enforcer`.
            routes: See :class:`Enforcer`.
            agents: ``"any"``: the registry ``agents.jsonl`` in the directory binds the agents that it lists, and
                others are free; ``"registered"``: only agents that it lists may hold grants; ``None``: it is not read.
            mode: See :class:`Enforcer`.
            nested: See :class:`Enforcer`.
            state: State that processes share; by default files in the directory. The caller closes it.
            keys: Where the keys are, by default in the directory: the path of a folder outside it, made on first use;
                ``"unix:PATH"``, the socket of an ``agent-identity signer``; or the signers of issuer and recorder,
                two keys.
            trust_root: The root that must have signed ``trust.json``, and each successor that this process follows.
                Keep it where the user of this process cannot write. By default an issuer key that counts already
                signs successors, and the file is self-asserted.
            durability: What a record survives.
            privacy: What records show.
            telemetry: Where copies of records go.
            transparency: Who else sees the checkpoints of the log, and who certifies its recorder key.
            tokens: See :class:`Enforcer`.
            sources: See :class:`Enforcer`.

        Raises:
            TypeError: ``state`` is no store, the address of one for instance, or an argument has another type.
            TokenError: The registry of agents does not verify.
            ConfigurationError: Keys, trust file, package or platform are unusable.
            PolicyFormatError: The policy file is malformed; nothing runs under half a policy.
            EvidenceError: The ledger cannot be written.
        """
        # Before the directory is touched, so that a slip leaves no stream behind.
        judge = parts.judge_of(policy)
        prepare(inspectors)
        parts.check_mode(mode)
        parts.check_routes(routes)
        parts.check_agents(agents)
        permits_of(nested)
        publishers = parts.publishers_for(directory, transparency)
        time, ids = sources.clock or SystemClock(), sources.ids or RandomIds()
        found = open_directory(
            directory,
            clock=time,
            ids=ids,
            durability=durability,
            keys=keys,
            root=trust_root,
            publishers=publishers,
            pseudonyms=privacy.pseudonyms,
            observers=telemetry.observers,
            transparency=transparency,
        )
        with found.closed_on_failure():
            opened = cls(
                keys=found.keys,
                trust=found.trust,
                ledger=found.ledger,
                digests=found.digests,
                policy=judge,
                inspectors=inspectors,
                routes=routes,
                agents=parts.registry_of(directory, agents, found.trust),
                unregistered="deny" if agents == "registered" else "allow",
                mode=mode,
                nested=nested,
                state=found.state if state is None else state,
                privacy=privacy,
                telemetry=replace(telemetry, on_record=()),
                tokens=tokens,
                sources=replace(sources, clock=time, ids=ids),
            )
        opened._own_state = found.state
        opened._trust.use(directory, trust_root)
        opened._enforcement.use(directory, found.state, shared=state is not None)
        opened._inventory.use(directory, found.state)
        opened._enforcement.renewals.use(found.certificate, found.certification)
        return opened

    def task(
        self,
        purpose: str,
        *,
        principal: Principal,
        agent: Agent,
        scope: Scope,
        ttl: timedelta = DEFAULT_TTL,
        max_depth: int = 3,
        limits: Sequence[Limit] = (),
        request: str | None = None,
    ) -> Opening:
        """Return a context manager that opens a task; works with ``with`` and ``async with``.

        A task inside a task is a task of its own: it takes nothing from the outer one, and its end
        leaves the outer one as it was. The body of a guarded tool is no place for one: there it opens as a part of
        the tool's task, with the same id, principal and limits, and no more than the tool has itself. For another
        principal it is refused, unless the enforcer was opened with ``nested``.

        Args:
            purpose: What the task is for, 1 to 1,024 characters; it stands in the records. Line breaks and runs of
                white space become one space.
            principal: On whose behalf the agent acts.
            agent: Who acts; its owner is accountable for it.
            scope: Tools and arguments that the task may use.
            ttl: The authority ends after this time at the latest; from 1 second to 1 day.
            max_depth: How many times the authority may be delegated on, 0 to 32.
            limits: How often, how fast and how much, for the task and all that is delegated from it together; at
                most 64, of tools that are in the scope or of all.
            request: What the principal asks for, in their own words: where a policy asks about information flow,
                values in it count as the principal's. It is kept nowhere. Without it no one accounts for what the
                agent is told, so that the task begins with inputs of unknown integrity.

        Raises:
            TypeError: A party or the scope is of another type.
            ValueError: Purpose, ttl or max_depth is out of range, or a limit cannot hold: of a tool that is not in
                the scope, or twice over the same.
            Denied: On entry: inside the body of a guarded tool, for another principal (``task_in_body``), or with a
                request (``said_in_body``). The refusal is recorded.
            AttenuationError: On entry: inside the body of a guarded tool, and more than the tool has itself.
        """
        self._refuse_closed()
        purpose = folded_purpose(purpose)
        if request is not None:
            checked_text(request, "request")

        def make() -> Task:
            if request is not None:
                self._forbid("task.request", "flow", "said_in_body")
            begin, tasks = self._nesting.begin, self._tasks
            return begin(tasks, purpose, principal, agent, scope, ttl=ttl, max_depth=max_depth, limits=limits)

        return Opening(self._enforcement, purpose, make, request=request)

    def job(
        self,
        purpose: str,
        *,
        principal: Principal,
        agent: Agent,
        scope: Scope,
        to: PublicKey,
        audience: str | None = None,
        ttl: timedelta = DEFAULT_TTL,
        limits: Sequence[Limit] = (),
        request: str | None = None,
    ) -> Grants:
        """Return the authority of a task that a worker does later, such as a job in a queue.

        The task is opened and recorded here, handed over to the worker's key, and ends here at once. The worker goes
        on with it until ``ttl`` is over, or until a block of ``accept(..., once=True)`` ends without an error.
        Revocations stop it before, also while it waits.

        Args:
            purpose: As for :meth:`task`, as are the others that are not named here.
            principal: See above.
            agent: Who acts in the worker.
            scope: See above.
            to: The public key of the worker, without whose private key the grants are worth nothing.
            audience: The name of the worker; then it accepts the grants under no other name.
            ttl: How long the job may wait and run together; from 1 second to 1 day.
            limits: See above.
            request: See above.

        Raises:
            Denied: A guarded body calls it (``task_in_body``), the agent may not act, or something is revoked. The
                refusal is recorded.
            EvidenceError: The job could not be recorded: nothing was handed over.
            TypeError: As for :meth:`task`.
            ValueError: As for :meth:`task`.
        """
        self._refuse_closed()
        self._forbid("job", "task", "task_in_body")
        opening = self.task(
            purpose, principal=principal, agent=agent, scope=scope, ttl=ttl, limits=limits, request=request
        )
        with opening as task:
            return Outbound(self._tasks).job(task, to, audience)

    def delegate(
        self,
        agent: Agent,
        *,
        scope: Scope,
        purpose: str | None = None,
        ttl: timedelta | None = None,
        isolated: bool = False,
    ) -> Opening:
        """Return a context manager that hands a part of the current task to another agent.

        Args:
            agent: The agent that acts inside the block.
            scope: A narrower or equal scope.
            purpose: What this part is for, as for :meth:`task`; by default the purpose of the current task.
            ttl: A shorter life; by default what is left of the current task's.
            isolated: What the agent reads inside the block lowers a mark of its own, which begins at that of the
                current task. The task joins it when the block ends, and before it gets a result of its own. For agents
                whose answers reach the task in no other way; without information flow it changes nothing.

        Raises:
            NoTask: On entry: there is no live task to delegate from.
            AttenuationError: On entry: the scope is wider, or the depth is used up.
            TypeError: Agent or scope is of another type.
        """
        self._refuse_closed()
        purpose = None if purpose is None else folded_purpose(purpose)

        def make() -> Task:
            parent = current_or_refuse(self._enforcement)
            return self._tasks.open_child(parent, purpose or parent.purpose, agent, scope, ttl=ttl, isolated=isolated)

        return Opening(self._enforcement, purpose, make)

    def present(self, peer: Peer, *, tool: str, arguments: Mapping[str, object]) -> Presentation:
        """Return the authority to send with one call to another service; it counts there and for this call alone.

        The grant in it is made for the peer, lives at most five minutes and ends with the task. HTTP clients use
        :mod:`agent_identity.integrations.http.client` instead.

        Args:
            peer: The service.
            tool: The name of what is called.
            arguments: The arguments of the call, values of JSON only.

        Raises:
            Denied: There is no live task.
            AttenuationError: The task may not be delegated on, or its key is elsewhere (``not_the_holder``).
            EvidenceError: The grant could not be recorded.
        """
        self._refuse_closed()
        return Outbound(self._tasks).present(peer, tool, arguments)

    def receive(
        self,
        presentation: Presentation,
        *,
        tool: str,
        arguments: Mapping[str, object],
        audience: str,
        holder: Signer | None = None,
        agent: Agent | None = None,
        purpose: str | None = None,
        traceparent: str | None = None,
    ) -> Opening:
        """Return a context manager that opens the task of a call that another service presented.

        It is the same task, under this enforcer's trust store and policy, with records in its own ledger. It
        ends with the block, and no later than the task where it was opened.

        Args:
            presentation: What came with the call.
            tool: The name of what is called.
            arguments: The arguments of the call as they came.
            audience: The name of this service.
            holder: The key of this service, with which it can go on with a grant that was made for it. Without
                it, delegation is refused (``not_the_holder``).
            agent: Who acts here; a grant for another agent is refused.
            purpose: What the task is for here.
            traceparent: The trace of the caller (W3C Trace Context), for correlation only.

        Raises:
            Denied: On entry: chain, audience or proof do not hold, or the proof was used before. The refusal
                is recorded.
            EvidenceError: On entry: it could not be recorded.
        """
        self._refuse_closed()
        inbound, what = self._inbound, folded_purpose(purpose or f"call of {audience}"[:256])

        def make() -> Task:
            return inbound.receive(
                presentation, tool, arguments, audience=audience, holder=holder, agent=agent, purpose=what
            )

        return inbound.opening(self.guard(tool, kind="remote"), arguments, make, what, traceparent)

    def accept(
        self,
        received: DelegationBundle | Grants,
        *,
        holder: Signer | None = None,
        audience: str | None = None,
        purpose: str | None = None,
        once: bool = False,
    ) -> Opening:
        """Return a context manager that continues a task of another process here, while the task lives.

        Args:
            received: What :meth:`Task.export` or :meth:`job` returned there.
            holder: The key that grants are made for; a bundle has its own.
            audience: The name of this process, if the chain is made for one.
            purpose: Purpose of the task here; by default its purpose there.
            once: The work is done when the block ends without an error: with a shared state, what was received is
                refused everywhere from then on (``task_ended``). After an error it can be accepted again.

        Raises:
            TypeError: An argument has another type.
            ConfigurationError: A bundle comes with a ``holder``.
            Denied: On entry: the chain does not hold here, or the key is another one (``not_the_holder``). The
                refusal is recorded.
            EvidenceError: On entry: it could not be recorded.
        """
        self._refuse_closed()
        if isinstance(received, DelegationBundle) and holder is not None:
            raise ConfigurationError("holder= is for Grants; a DelegationBundle has its key")
        inbound, what = self._inbound, folded_purpose(purpose or received.purpose)

        def make() -> Task:
            return inbound.accept(received, holder, audience, what)

        return inbound.opening(self.guard("resume", kind="task"), {}, make, what, received.traceparent, once=once)

    def no_task(self) -> AbstractContextManager[None]:
        """Return a context manager that hides the current task, for work that is on no one's behalf.

        A server that was started inside a task runs requests without a task of their own in it.
        """
        return self._enforcement.task_context.hidden()

    @property
    def current_task(self) -> Task | None:
        """The task of the current context, alive or not; ``None`` outside any."""
        return self._enforcement.task_context.current()

    def guard(
        self,
        name: str,
        *,
        kind: str = "function",
        server: str | None = None,
        labels: Sequence[str] | None = None,
        data: Sequence[str] | None = None,
        claims: Claims | None = None,
        lazy: Lazy | None = None,
        suspends: Leaving = (),
        returns: Leaving = (),
        place: Callable[[], str] | None = None,
        touches: Touches | None = None,
        workflow: Workflow | None = None,
        thread: Workflow | None = None,
        flow: DeclaredFlow | None = None,
        spans: SpanOptions | None = None,
    ) -> GuardedCall:
        """Return the guard of one tool, for adapters that reach the body in their own way.

        Args:
            name: The name that scopes and policies know the tool by; ``server/tool`` for a tool of a server.
            kind: ``function``, ``mcp``, ``http``, …; ``model`` for calls of a model, and ``streamed_model`` where the
                answer may be read before it is inspected.
            server: The server that offers the tool, as policies read it in ``tool.server``.
            labels: Labels of the tool for the policy; ``[]`` states that it has none, ``None`` leaves it open.
            data: Labels of the data that it touches, likewise.
            claims: Labels of unknown origin; they can only make decisions stricter.
            lazy: See :meth:`tool`.
            suspends: Exceptions by which a body leaves to be called again with the same id, such as an interrupt: a
                tuple of classes, or a predicate.
            returns: Exceptions that carry a result and are no errors, such as a handoff, likewise.
            place: Names the place in which a call is made, for calls that are suspended and made again there:
                two with the same id in two places are two calls.
            touches: See :meth:`tool`; here no one knows the parameters, so that a name of a resource is recorded
                without its digest where no argument fills it.
            workflow: Names the run, thread or conversation of the framework in which a call is made.
            thread: Names the thread of the framework that goes on in later tasks, such as a conversation that is kept.
                A suspended call is known again by it, and with information flow the mark goes on in the thread. Begin
                it with the name of the framework.
            flow: What the results of the tool are and which arguments decide where a call leads, as an
                :class:`agent_identity.adapters.DeclaredFlow`; see ``returns``, ``destination``, ``endorses`` and
                ``restores`` of
                :meth:`tool`.
            spans: What spans of its calls show beside their records, as :class:`agent_identity.adapters.SpanOptions`.

        Raises:
            TypeError: The name, kind or server is no ``str``, labels are no list of texts, what is touched is no
                :class:`~agent_identity.policy.Touch`, exceptions are neither, or ``flow`` or ``spans`` is something
                else.
            ValueError: It has not 1 to 256 visible characters, so that no record could hold it.
            ConfigurationError: A tool of a server is named without it.
        """
        self._refuse_closed()
        parts.check_declared(flow, spans)
        fixed, by_call = parted_touches(check_touches(touches))
        tool = parts.tool_of(name, kind, server, labels, claims, touches=fixed)
        known = with_data_of(check_labels(data, "data"), tool.touches)
        guard = Guard(
            self._enforcement,
            tool,
            data=known,
            suspends=suspends,
            returns=returns,
            place=place,
            workflow=workflow,
            thread=thread,
            flow=flow,
            touching=by_call,
            spans=spans,
        )
        return GuardedCall(guard, lazy=check_lazy(lazy))

    @overload
    def tool(self, function: Callable[P, R], /) -> Callable[P, R]: ...

    @overload
    def tool(
        self,
        /,
        *,
        name: str | None = None,
        data: Sequence[str] | None = None,
        kind: str = "function",
        labels: Sequence[str] | None = None,
        lazy: Lazy | None = None,
        touches: Touches | None = None,
        returns: Returns | None = None,
        destination: str | Sequence[str] | None = None,
        endorses: bool = False,
        restores: Restores | None = None,
        content_on_spans: bool | None = None,
    ) -> Callable[[Callable[P, R]], Callable[P, R]]: ...

    def tool(
        self,
        function: object = None,
        /,
        *,
        name: str | None = None,
        data: Sequence[str] | None = None,
        kind: str = "function",
        labels: Sequence[str] | None = None,
        lazy: Lazy | None = None,
        touches: Touches | None = None,
        returns: Returns | None = None,
        destination: str | Sequence[str] | None = None,
        endorses: bool = False,
        restores: Restores | None = None,
        content_on_spans: bool | None = None,
    ) -> object:
        """Guard a function; a decorator with and without arguments.

        Works on functions, coroutine functions, generator functions and async generator functions;
        signature and types stay. A generator is judged when it is first advanced, under the task in
        which it was created, and again at every step. Iterators, awaitables and context managers that a
        function returns run in the same way; a result that would go on by itself is withheld.

        Args:
            function: The function.
            name: The tool's name; by default the function's.
            data: Labels of the data that the tool touches, for the policy; ``[]`` says that there are none. Without
                any, and without an entry in the policy file, a rule that blocks by them blocks every call.
            kind: What the tool is, for the policy.
            labels: Labels of the tool, for the policy; likewise.
            lazy: ``"resource"`` for a tool whose results live on by themselves, such as a connection, an open file or
                a future: they are handed over as they are, and the end of the task does not stop them. Generators and
                coroutines are driven in any case.
            touches: The resources that the tool touches, each a :class:`~agent_identity.policy.Touch`, or functions
                of the arguments that return them for one call, such as ``agent_identity.policy.file_touches("path")``.
                Labels of their data count as ``data``, if that
                is stated. The resource of a function that fails is unknown, and the labels are unknown as well.
            returns: Who can have written what the tool returns, for policies that ask about information flow:
                ``"trusted"`` only if no one outside can, ``"untrusted"``, or ``"unknown"``; a
                :class:`agent_identity.inspection.Label` to restrict the readers as well; or these by JSON pointer,
                ``{"": "trusted", "/items/*/note": "untrusted"}``. By default ``unknown``. Whatever is declared, a
                result is no better than the inputs of the task before the call.
            destination: Names of the arguments that decide where a call leads: a recipient, an account, a URL. A tool
                without any is never spared a question. ``"cc?"`` is optional: a call without a value of it leads
                nowhere by it.
            endorses: Results have the declared label whatever the inputs of the task were: for a tool that checks, or
                that reads what no one outside can influence by arguments either.
            restores: By argument the categories of findings, or ``quarantine``, whose kept values the tool gets in the
                place of handles: ``{"iban": "pii.iban"}``. The call is judged with these values. Handles in other
                arguments, and for other tools, stay what they are.
            content_on_spans: Whether the spans of calls show arguments and results, which the ledger never does; by
                default only if ``OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT`` asks for it. What inspectors
                find in them is replaced, and withheld results are never shown.

        Raises:
            ValueError: ``returns`` or ``destination`` is malformed.
            TypeError: Labels are no list of texts, or ``touches`` is something else.
            ConfigurationError: The function is guarded already, by this or another enforcer; ``touches`` or
                ``destination`` names an argument that is no parameter; or, with code ``lazy_result``, its annotation
                shows results that would be withheld.
        """
        flow = DeclaredFlow(returns, destination, endorses=endorses, restores=restores)

        def decorate(bare: object) -> Callable[..., object]:
            inner = parts.check_bare(bare)
            named = name or parts.name_of(inner)
            parameters, declared = parts.parameters_of(inner), check_touches(touches)
            flow.check_parameters(named, parameters)
            check_parameters(named, parted_touches(declared)[1], parameters)
            made = flow.of_tool(parts.parameter_names(inner), choices_of_hints(hints_of(inner)))
            shown = SpanOptions(parts.description_of(inner), content_on_spans)
            guard = self.guard(
                named, kind=kind, labels=labels, data=data, lazy=lazy, touches=declared, flow=made, spans=shown
            )
            guard.declare(inner)
            return parts.marked(known_as_guarded(guarded(guard, inner), guard))

        return decorate if function is None else decorate(function)

    def action(self, name: str, /, **arguments: object) -> Action:
        """Return a guarded block: ``with enforcer.action("http_get", url=url) as call: ...``.

        The block uses ``call.arguments`` (the checked snapshot) and sets ``call.result``. A refused or
        routed call raises before the block. Its labels stand in the policy file; what it
        touches is said with :meth:`guard`, whose ``block`` is the same.

        Args:
            name: The tool's name.
            arguments: What the block is about to use.
        """
        return self.guard(name).block(CallRequest(arguments))

    @property
    def mode(self) -> Mode:
        """``"enforce"`` or ``"monitor"``, fixed when the enforcer was opened."""
        return self._enforcement.mode

    @property
    def clock(self) -> Clock:
        """Source of time of the enforcer."""
        return self._enforcement.clock

    @property
    def inventory(self) -> Inventory:
        """Pinned tool definitions of remote servers."""
        return self._inventory

    @property
    def revocations(self) -> Revocations:
        """Revocations and suspensions: list them, hand them on, or take them from elsewhere."""
        return self._enforcement.revocations

    @property
    def approvals(self) -> Approvals:
        """Requests that wait for a person, and their approval or rejection."""
        return self._enforcement.approvals

    def revoke(
        self,
        what: Task | Grant | Agent | Principal | RevokedKind,
        name: str | None = None,
        /,
        *,
        reason: str | None = None,
        suspend: bool = False,
    ) -> None:
        """Stop a task, a grant, an agent, all agents of an owner, a principal, an issuer key, or everything.

        It takes hold at the very next call of every process that shares the state, also under whatever was
        delegated, survives restarts and is recorded. ``enforcer.revoke(alice)`` and
        ``enforcer.revoke("human", "alice@example.com")`` say the same.

        Args:
            what: A task, grant, agent or principal; or one of the words ``task``, ``grant`` (by the hash in
                records), ``agent``, ``owner``, ``human``, ``service``, ``key`` (by thumbprint), ``everything``.
            name: Which one, where ``what`` is a word.
            reason: Why, for people; 1 to 256 characters.
            suspend: Only until :meth:`reinstate`. Everything is always only suspended.

        Raises:
            StateError: The shared state cannot be asked: nothing is revoked.
            EvidenceError: It is revoked, and that could not be recorded.
            TypeError: Something else was given.
            ValueError: The name or the reason breaks the rules of ids.
        """
        self._refuse_closed()
        self._enforcement.revocations.revoke(
            *self._enforcement.revocable(*named(what, name)), reason=reason, suspend=suspend
        )

    def reinstate(self, what: Task | Grant | Agent | Principal | RevokedKind, name: str | None = None, /) -> None:
        """Lift a suspension; what was revoked for good stays revoked.

        Args:
            what: As for :meth:`revoke`.
            name: As for :meth:`revoke`.

        Raises:
            StateError: The shared state cannot be asked.
            EvidenceError: It is lifted, and that could not be recorded.
            ValueError: It is not suspended.
        """
        self._refuse_closed()
        self._enforcement.revocations.reinstate(*self._enforcement.revocable(*named(what, name)))

    @property
    def degraded(self) -> Mapping[str, str]:
        """Current problems, by component, each with its reason, for a probe; empty if all is well.

        While one of the first four is there, calls are refused or their records stay unsealed; the others warn.

        ``ledger``: it is closed, its files are not in place, the last append or seal failed, or seals are late:
        records wait, or calls are refused. ``state``: the shared state does not answer, and calls are refused; on an
        event loop, a store that may block is not asked. ``revocations``: the list is unreadable, or everything is
        suspended. ``tasks``: the last one, of the last minute, could not be opened, for example without the key of the
        issuer or of its digests. ``on_record``: one of its functions raised. ``export``: the receiver of
        ``Telemetry(otlp=...)`` takes nothing. ``disk``: little room is left for the ledger. ``certificate``: the
        certifier gave none when it was asked last. ``keys``: a key or the certificate ends in two weeks, or in the
        last fourth of its time. ``limits``: limits of open tasks are spent by
        more than nine tenths. Others: a witness, or a function of ``checkpoints``, lacks the last checkpoint.
        """
        found = dict(self._enforcement.faults())
        if self._exporter is not None and self._exporter.fault is not None:
            found["export"] = self._exporter.fault
        return found if self._closed else {**found, **self._warnings.current(asks="state" not in found)}

    def probe(self) -> tuple[bool, Mapping[str, str]]:
        """Return whether calls can run and be sealed, and what :attr:`degraded` says, for a probe."""
        found = self.degraded
        return STOPS.isdisjoint(found), found

    def bind(self, function: Callable[P, R]) -> Callable[P, R]:
        """Return the function bound to the current task, for threads, executors and callbacks.

        Authority does not enter threads by itself. It still ends with the task.
        """
        return self._enforcement.task_context.bind(function)

    def close(self, *, flush: float | None = None) -> None:
        """End all tasks, drop their tokens, seal the ledger and close it; idempotent.

        Args:
            flush: Wait at most so many seconds for the tracer provider to export the spans that ended with the seal.
                Give it where the process ends without ``atexit``, as under Uvicorn; by default a provider exports
                them when the interpreter exits.
        """
        self._closed = True
        self._tasks.end_all()
        self._tasks.drop_tokens()
        self._enforcement.approvals.end()
        try:
            self._enforcement.ledger.close()
        finally:
            if self._exporter is not None:
                self._exporter.close()
            if self._own_state is not None:
                self._own_state.close()
            if flush is not None:
                flush_spans(self._enforcement.spans.provider, flush)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def after_fork_in_child(self) -> None:
        """Leave the tasks to the parent. Called by the interpreter in each forked child."""
        # A fresh registry, and fresh locks for what is left of the old one, because another thread of the
        # parent may have held them.
        self._registry.after_fork_in_child()
        self._registry = TaskRegistry()
        self._tasks = replace(self._tasks, registry=self._registry)
        self._inbound = replace(self._inbound, tasks=self._tasks)
        self._enforcement.after_fork_in_child()
        if self._exporter is not None:
            self._exporter.after_fork_in_child()

    def _forbid(self, act: str, kind: str, code: str) -> None:
        self._nesting.forbid(act, kind, code)

    def _refuse_closed(self) -> None:
        if self._closed:
            raise ConfigurationError("the enforcer is closed; open another one and guard with it")


class Running(NamedTuple):
    """The parts of an enforcer that metrics read.

    Attributes:
        enforcement: The parts that guards share.
        tasks: The open tasks.
        exporter: Sends copies of records, if anything does.
        warnings: What may soon refuse calls.
        closed: Whether the enforcer was closed.
    """

    enforcement: EnforcementContext
    tasks: TaskRegistry
    exporter: "LedgerExporter | None"
    warnings: Warnings
    closed: bool


def running(enforcer: Enforcer) -> Running:
    """Return the parts of an enforcer as they are now; a forked child has others."""
    enforcement, tasks = enforcer._enforcement, enforcer._registry  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    exporter, closed = enforcer._exporter, enforcer._closed  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    warnings = enforcer._warnings  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    return Running(enforcement, tasks, exporter, warnings, closed)


def open_enforcers() -> list[tuple[Enforcer, EnforcementContext]]:
    """Return the open enforcers of this process with their parts, for diagnosis."""
    found = list(_ENFORCERS)
    return [(one, one._enforcement) for one in found if not one._closed]  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]


def _after_fork_in_child() -> None:
    for enforcer in list(_ENFORCERS):
        enforcer.after_fork_in_child()


if hasattr(os, "register_at_fork"):  # pragma: no branch  Absent on Windows, where nothing forks.
    os.register_at_fork(after_in_child=_after_fork_in_child)


def _end_all() -> None:
    """Close the enforcers of a process that is about to leave without ``atexit``."""
    each_in_order(partial(enforcer.close, flush=GRACE) for enforcer in list(_ENFORCERS))
