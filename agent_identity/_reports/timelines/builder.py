"""Tells who did what on whose behalf, through which chain, and what was refused and why, task by task.

A story repeats the evidence and does not verify it: verify first. Memory holds the open tasks, each with a bounded
number of calls.
"""

import os
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, TypeAlias, final

from agent_identity._identity.common.encoding import b64url_decode
from agent_identity._identity.common.ids import id_order
from agent_identity._ledger.reader import open_ledger
from agent_identity._record.codec import decode
from agent_identity._record.details import detail_of
from agent_identity._record.parts import AgentRegistration, ArgumentOrigin
from agent_identity._record.schema import (
    AnyRecord,
    Approval,
    Detail,
    Erasure,
    Intent,
    Mark,
    OfTask,
    Outcome,
    Record,
    Registration,
    TaskEnd,
    TaskStart,
)
from agent_identity._storage.byte_reader import ByteLines
from agent_identity._verify.inputs.sources import Source, directory_of, is_bundle, opened, whole
from agent_identity._verify.ledger.erasures import Erasures
from agent_identity.errors import VerificationError

_MAX_INPUTS: Final = 10_000


@final
@dataclass(frozen=True, slots=True)
class Destination:
    """An argument that decides where a call leads, and where its value came from.

    Attributes:
        argument: Its name.
        provenance: ``principal``, ``trusted``, ``unknown`` or ``untrusted``.
        source: The tool whose result had the value, or how else it came: ``request``, ``said``, ``received``; ``None``
            if nobody knows.
        source_ns: When, in nanoseconds since the Unix epoch as a decimal number.
    """

    argument: str
    provenance: str
    source: str | None = None
    source_ns: str | None = None


@final
class Inputs:
    """The inputs of one task by their records, at most 10,000."""

    __slots__ = ("_found",)

    def __init__(self) -> None:
        self._found: dict[str, tuple[str, str]] = {}

    def take(self, record: Record) -> None:
        """Keep a record that may be a source."""
        if len(self._found) >= _MAX_INPUTS:
            return
        if isinstance(record, Intent):
            self._found[record.id] = record.action.tool, record.time.start
        elif isinstance(record, Mark) and record.mark.sources is None:
            self._found[record.id] = record.mark.cause, record.time.start

    def destinations(self, origins: Sequence[ArgumentOrigin] | None) -> tuple[Destination, ...]:
        """Return the destinations among the origins of the arguments of a call."""
        return tuple(
            Destination(of.argument, of.provenance, *self._found.get(of.source or "", (None, None)))
            for of in origins or ()
            if of.destination is not None
        )


MAX_ACTIONS: Final = 1_000
"""Number of calls in a story; further calls are only counted."""

_UNINSPECTED: Final = "uninspected"
_WITHHELD: Final = frozenset({"content_blocked", "content_quarantined"})
_MAX_UNDER_WAY: Final = 1_024
_MAX_REGISTRATIONS: Final = 4_096
_MAX_ENDED: Final = 64  # Ended tasks are kept a while, for calls that were refused because of the end.


@final
@dataclass(frozen=True, slots=True)
class Action:
    """One call and its outcome.

    Attributes:
        record: The id of the record.
        at_ns: Its start, in nanoseconds since the Unix epoch.
        tool: The name of the tool; for a refused opening, ``invoke_agent`` and the agent.
        agents: The agents of the chain, root first; the last one acted.
        effect: The effect of the decision: ``allow``, ``warn``, ``block`` or ``route``.
        outcome: Its outcome; ``unknown`` if none was recorded.
        reason: The code of the decision.
        rule: The rule that matched.
        why: The rule's reason in words.
        argument: The argument that a refusal names.
        route: The target that it was routed to.
        error: The class of an error, or the code of a refusal.
        monitored: In monitor mode, where the decision is recorded and not enforced.
        withheld: The call ran, and its result was kept from the caller.
        approver: The person who approved it, if it needed an approval.
        destinations: The origins of the arguments that decide where the call leads, if they are on record.
        uninspected: Inspectors could not look at a part of its arguments or result.
        changed: A rule had its result, or the prompt of a model, changed before its delivery.
    """

    record: str
    at_ns: int
    tool: str
    agents: tuple[str, ...]
    effect: str
    outcome: str
    reason: str
    rule: str | None
    why: str | None
    argument: str | None
    route: str | None
    error: str | None
    monitored: bool = False
    withheld: bool = False
    approver: str | None = None
    destinations: tuple[Destination, ...] = ()
    uninspected: bool = False
    changed: bool = False


@final
@dataclass(frozen=True, slots=True)
class Delegation:
    """A part of a task that was delegated for its own purpose.

    Attributes:
        agents: The agents of the chain, root first; the last one got it.
        purpose: Its purpose.
    """

    agents: tuple[str, ...]
    purpose: str


@final
@dataclass(frozen=True, slots=True)
class TaskTimeline:
    """One task, or the calls outside any task.

    Attributes:
        task: The id of the task; ``None`` for calls outside any task.
        purpose: Its purpose, if the source states it; spans do not.
        principal: The party on whose behalf it ran.
        principal_kind: ``human`` or ``service``.
        provenance: ``asserted``: the application named the principal; ``verified``: a signature was checked.
        agent: The agent that received the root grant.
        owner: The accountable owner of that agent.
        started_ns: The earliest time in it, in nanoseconds since the Unix epoch.
        expires_ns: The latest end of its authority; ``None`` for calls outside any task.
        ended_ns: The end of the task; ``None`` if none was recorded.
        actions: The calls in order, at most :data:`MAX_ACTIONS`.
        omitted: Number of further calls.
        left_out: Number of calls that were not selected; no other number includes them.
        refused: Number of refused calls, without those that ran and whose result was withheld.
        withheld: Number of calls whose result was withheld.
        delegations: The parts with their own purpose, each once, at most :data:`MAX_ACTIONS`; spans have none.
        registered_for: The registered purpose of the agent, if the source has its registration.
        registration: The hash of that registration.
        via: The parties that acted for the principal before this application, the current actor first.
        erased: The keys of its digests were erased: arguments and results of its calls can no longer be proved.
    """

    task: str | None
    purpose: str | None
    principal: str | None
    principal_kind: str | None
    provenance: str | None
    agent: str | None
    owner: str | None
    started_ns: int
    expires_ns: int | None
    ended_ns: int | None
    actions: tuple[Action, ...]
    omitted: int
    refused: int
    withheld: int = 0
    delegations: tuple[Delegation, ...] = ()
    registered_for: str | None = None
    registration: str | None = None
    via: tuple[str, ...] = ()
    erased: bool = False
    left_out: int = 0


def story(source: Source, *, wanted: Callable[[Action], bool] | None = None) -> Iterator[TaskTimeline]:
    """Return the tasks of a source with their calls, in the order in which the tasks ended.

    Malformed records are left out; a :class:`~agent_identity.Verifier` reports them. Calls outside any task come last.

    Args:
        source: As for :func:`~agent_identity.verify`.
        wanted: Selects calls; the others are only counted. By default all are selected.

    Raises:
        ConfigurationError: The source cannot be opened, or a part of the ledger may not be read.
    """
    if is_bundle(source):
        from agent_identity._verify.proofs.bundle import unpacked  # Few sources are one.

        with unpacked(source) as evidence:
            yield from story(evidence, wanted=wanted)
        return
    teller = _TimelineBuilder(Erasures(_erasures(source)), wanted)
    for record, detail in _records(source):
        yield from teller.take(record, detail)
    yield from teller.finish()


def _records(source: Source) -> Iterator[tuple[AnyRecord, Detail | None]]:
    directory = directory_of(source)
    if directory is not None:
        yield from _well_formed(_ledger_bytes(directory))
        return
    sources = [source] if isinstance(source, str | os.PathLike) or not isinstance(source, Sequence) else source
    for item in sources:
        with opened(item) as file:
            yield from _well_formed(_span_bytes(file))


def _erasures(source: Source) -> Iterator[Erasure]:
    """Yield the records of erasures, which follow the records that they concern; spans carry none."""
    directory = directory_of(source)
    if directory is not None:
        documents = (both for both in _ledger_bytes(directory) if b'"kind":"erasure"' in both[0])
        yield from (record for record, _ in _well_formed(documents) if isinstance(record, Erasure))


def _ledger_bytes(directory: str) -> Iterator[tuple[bytes, bytes | None]]:
    reader = whole(open_ledger(directory), log=False)
    for stream in reader.streams():
        for line in reader.entries(stream):
            if line.record is not None:
                yield line.record, line.detail


def _span_bytes(file: ByteLines) -> Iterator[tuple[bytes, None]]:
    from agent_identity._spans.envelope import Attestation
    from agent_identity._spans.otlp_json import SpanData
    from agent_identity._spans.otlp_reader import read_spans
    from agent_identity._verify.spans.attestations import ATTESTATION

    for item in read_spans(file):
        if isinstance(item, SpanData) and f"{ATTESTATION}payload" in item.attributes:
            try:
                yield b64url_decode(Attestation.from_attributes(item.attributes).payload), None
            except VerificationError:
                continue


def _well_formed(documents: Iterable[tuple[bytes, bytes | None]]) -> Iterator[tuple[AnyRecord, Detail | None]]:
    for data, detail in documents:
        with suppress(ValueError):
            record = decode(data)
            yield record, detail_of(record, detail)[0]


_Wanted: TypeAlias = Callable[[Action], bool] | None


@final
class _Story:
    """A story under construction."""

    def __init__(self, record: OfTask | Intent | Outcome, wanted: _Wanted) -> None:
        self._wanted = wanted
        self.task = None if record.task is None else record.task.id
        self.purpose: str | None = None
        self.principal = record.principal
        self.agent: str | None = None
        self.owner: str | None = None
        self.depth: int | None = None
        self.registration: AgentRegistration | None = None
        self.started_ns = record.time.start_ns
        self.expires_ns: int | None = None
        self.ended_ns: int | None = None
        self.open: dict[str, Action] = {}
        self.actions: list[Action] = []
        self.omitted = 0
        self.left_out = 0
        self.refused = 0
        self.withheld = 0
        self.delegations: dict[Delegation, None] = {}
        self.approvers: dict[str, str] = {}
        self.inputs = Inputs()

    def take(self, record: OfTask | Intent | Outcome, detail: Detail | None = None) -> None:
        self.inputs.take(record)
        self.started_ns = min(self.started_ns, record.time.start_ns)
        if self.expires_ns is None and record.task is not None and record.task.expires is not None:
            self.expires_ns = int(record.task.expires)  # Not all records of a task state it.
        agents = _agents(record)
        if len(agents) == 1 and record.agent is not None:
            self.agent, self.owner = record.agent.id, record.agent.owner
        if isinstance(record, Approval):
            self._note_approver(record)
        elif isinstance(record, TaskStart):
            self._begin(agents, record.task.purpose)
        elif isinstance(record, Intent | Outcome):
            self._take_call(record, agents, detail)
        elif isinstance(record, TaskEnd) and len(agents) == (self.depth or 1):
            end = record.time.end_ns
            self.ended_ns = self.started_ns if end is None else end

    def _take_call(self, record: Intent | Outcome, agents: tuple[str, ...], detail: Detail | None) -> None:
        if isinstance(record, Intent):
            if len(self.open) < MAX_ACTIONS:
                led = self.inputs.destinations(record.provenance)
                self.open[record.id] = _action(record, agents, self.approvers, led)
            return
        intended = self.open.pop(record.intent or "", None)
        led = self.inputs.destinations(None if detail is None else detail.provenance)
        self._add(_action(record, agents, self.approvers, led or (intended.destinations if intended else ())))

    def _note_approver(self, record: Approval) -> None:
        approval = record.approval
        if approval.status == "approved" and approval.approver is not None and len(self.approvers) < MAX_ACTIONS:
            self.approvers[approval.id] = approval.approver.id

    def _begin(self, agents: tuple[str, ...], purpose: str | None) -> None:
        if self.depth is None or len(agents) < self.depth:
            # In a task that was opened elsewhere, the first agent here is not the root.
            self.depth, self.purpose = len(agents), purpose
        elif purpose is not None and purpose != self.purpose and len(self.delegations) < MAX_ACTIONS:
            self.delegations[Delegation(agents, purpose)] = None

    def _add(self, action: Action) -> None:
        if self._wanted is not None and not self._wanted(action):
            self.left_out += 1
            return
        self.withheld += action.withheld
        self.refused += action.outcome == "denied" and not action.withheld
        if len(self.actions) < MAX_ACTIONS:
            self.actions.append(action)
        else:
            self.omitted += 1

    def finish(self, erasures: Erasures) -> TaskTimeline:
        for action in self.open.values():
            self._add(action)
        principal, registration = self.principal, self.registration
        return TaskTimeline(
            task=self.task,
            purpose=self.purpose,
            principal=None if principal is None else principal.id,
            principal_kind=None if principal is None else principal.kind,
            provenance=None if principal is None else principal.provenance,
            agent=self.agent,
            owner=self.owner,
            registered_for=None if registration is None else registration.purpose,
            registration=None if registration is None else registration.hash,
            via=() if principal is None else principal.via or (),
            started_ns=self.started_ns,
            expires_ns=self.expires_ns,
            ended_ns=self.ended_ns,
            actions=tuple(sorted(self.actions, key=lambda action: (action.at_ns, id_order(action.record)))),
            omitted=self.omitted,
            refused=self.refused,
            withheld=self.withheld,
            delegations=tuple(self.delegations),
            left_out=self.left_out,
            erased=erasures.cover(self.task, None if principal is None else principal.id, self.started_ns),
        )


@final
class _TimelineBuilder:
    """Assigns records to their tasks."""

    def __init__(self, erasures: Erasures, wanted: _Wanted = None) -> None:
        self._erasures, self._wanted = erasures, wanted
        self._under_way: OrderedDict[str, _Story] = OrderedDict()
        self._ended: OrderedDict[str, _Story] = OrderedDict()
        self._outside: _Story | None = None
        self._registrations: OrderedDict[str, AgentRegistration | None] = OrderedDict()

    def take(self, record: Record, detail: Detail | None = None) -> Iterator[TaskTimeline]:
        """Add a record with its detail, and yield the stories that it completes."""
        if not isinstance(record, OfTask | Intent | Outcome) or record.task is None:
            self._take_outside(record)
            return
        task = record.task.id
        told = self._under_way.get(task) or self._ended.get(task)
        if told is None:
            told = self._under_way[task] = _Story(record, self._wanted)
            # The first record of a task is its root grant, which follows the registration of its agent.
            told.registration = self._registrations.get(_agents(record)[0])
        told.take(record, detail)
        if told.ended_ns is not None and task in self._under_way:
            self._ended[task] = self._under_way.pop(task)
        if len(self._ended) > _MAX_ENDED:
            yield self._ended.popitem(last=False)[1].finish(self._erasures)
        if len(self._under_way) > _MAX_UNDER_WAY:
            yield self._under_way.popitem(last=False)[1].finish(self._erasures)

    def _take_outside(self, record: Record) -> None:
        if isinstance(record, Registration) and record.agent is not None:
            self._registrations[record.agent.id] = record.registration
            if len(self._registrations) > _MAX_REGISTRATIONS:
                self._registrations.popitem(last=False)
        if isinstance(record, Intent | Outcome):
            if self._outside is None:
                self._outside = _Story(record, self._wanted)
            self._outside.take(record)

    def finish(self) -> Iterator[TaskTimeline]:
        """Yield the remaining stories."""
        for stories in (self._ended, self._under_way):
            for told in stories.values():
                yield told.finish(self._erasures)
        if self._outside is not None:
            yield self._outside.finish(self._erasures)


def _agents(record: OfTask | Intent | Outcome) -> tuple[str, ...]:
    return tuple(hop.id for hop in record.chain or ())


def _action(
    record: Intent | Outcome,
    agents: tuple[str, ...],
    approvers: Mapping[str, str],
    destinations: tuple[Destination, ...] = (),
) -> Action:
    action, decision = record.action, record.decision
    outcome, error = (record.outcome, record.error) if isinstance(record, Outcome) else ("unknown", None)
    return Action(
        record=record.id,
        at_ns=record.time.start_ns,
        tool=action.tool if action.agent is None else f"{action.tool} {action.agent.id}",
        agents=agents,
        effect=decision.effect,
        outcome=outcome,
        reason=decision.reason,
        rule=decision.rule,
        why=decision.why,
        argument=decision.argument,
        route=action.route,
        error=error,
        monitored=decision.mode == "monitor",
        withheld=outcome == "denied" and error in _WITHHELD,
        approver=approvers.get(decision.approval or "") if decision.enforced in {"allow", "modify"} else None,
        destinations=destinations,
        uninspected=_UNINSPECTED in (record.findings or ()),
        changed=decision.enforced == "modify",
    )
