"""Who did what on whose behalf, through which chain, and what was refused and why: task by task.

A story tells what the evidence says, not that it is true: verify first. Memory holds the tasks that are
under way, each with a bounded number of calls.
"""

import os
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, cast, final

import orjson

from agent_identity.audit.attestations import ATTESTATION
from agent_identity.audit.bundle import is_bundle, unpacked
from agent_identity.audit.erasures import Erasures
from agent_identity.audit.sources import PathLike, Source, directory_of, opened, whole
from agent_identity.errors import VerificationError
from agent_identity.evidence.byte_reader import ByteLines
from agent_identity.evidence.envelope import Attestation
from agent_identity.evidence.otlp import SpanData
from agent_identity.evidence.records import check_record
from agent_identity.evidence.streams import open_ledger
from agent_identity.evidence.traces import read_spans
from agent_identity.identity import b64url_decode

__all__ = ["MAX_ACTIONS", "Action", "Delegation", "Story", "story"]

MAX_ACTIONS: Final = 1_000
"""Calls that a story tells; further ones are counted."""

_WITHHELD: Final = "content_blocked"
_MAX_UNDER_WAY: Final = 1_024
_MAX_REGISTRATIONS: Final = 4_096
_MAX_ENDED: Final = 64  # A task that has ended waits a while, for calls that were refused for this reason.


@final
@dataclass(frozen=True, slots=True)
class Action:
    """One call and how it ended.

    Attributes:
        record: The id of the record.
        at_ns: When it began, in nanoseconds since the Unix epoch.
        tool: The name of the tool; of an opening that was refused, ``invoke_agent`` and the agent.
        agents: The agents of the chain, root first; the last one acted.
        effect: What was decided: ``allow``, ``warn``, ``block`` or ``route``.
        outcome: How it ended; ``unknown`` if nothing says so.
        reason: The code of the decision.
        rule: The rule that matched.
        why: The rule's reason in words.
        argument: The argument that a refusal is about.
        route: Where it was routed to.
        error: The class of an error, or the code of a refusal.
        monitored: In monitor mode, where what was decided is recorded and not enforced.
        withheld: The call ran, and its result was kept from the caller.
        approver: The person who approved it, if one had to.
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


@final
@dataclass(frozen=True, slots=True)
class Delegation:
    """A part of a task that was handed on for a purpose of its own.

    Attributes:
        agents: The agents of the chain, root first; the last one got it.
        purpose: What for.
    """

    agents: tuple[str, ...]
    purpose: str


@final
@dataclass(frozen=True, slots=True)
class Story:
    """One task, or the calls outside any task.

    Attributes:
        task: The id of the task; ``None`` for calls outside any.
        purpose: What it was for, if the source says so; spans do not.
        principal: On whose behalf.
        principal_kind: ``human`` or ``service``.
        provenance: ``asserted``: the application named the principal; ``verified``: a signature was checked.
        agent: The agent that the principal trusted with it.
        owner: Who is accountable for that agent.
        started_ns: The earliest time in it, in nanoseconds since the Unix epoch.
        expires_ns: When its authority ends at the latest; ``None`` for calls outside any task.
        ended_ns: When the task ended; ``None`` if nothing says so.
        actions: The calls in their order, at most :data:`MAX_ACTIONS`.
        omitted: How many more there were.
        refused: How many calls were refused; those that ran and whose result was withheld are not among them.
        withheld: Of how many calls the result was withheld.
        delegations: The parts with a purpose of their own, each once, at most :data:`MAX_ACTIONS`; spans do not
            say any.
        registered_for: The purpose for which the agent was registered, if the source says that it was.
        registration: The hash of that registration.
        via: Who acted for the principal before the request came here, the current actor first.
        erased: The keys of its digests were erased: what its calls got and returned cannot be proved any more.
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


def story(source: Source) -> Iterator[Story]:
    """Return what happened, a task at a time, in the order in which the tasks ended.

    What cannot be read is left out: :func:`~agent_identity.audit.check` says what that is. Calls outside
    any task come last.

    Args:
        source: As for :func:`~agent_identity.audit.check`.

    Raises:
        ConfigurationError: The source cannot be opened, or a part of the ledger may not be read.
    """
    if is_bundle(source):
        with unpacked(cast("PathLike", source)) as evidence:
            yield from story(evidence)
        return
    teller = _Teller(Erasures(_erasures(source)))
    for record in _records(source):
        yield from teller.take(record)
    yield from teller.finish()


def _records(source: Source) -> Iterator[Mapping[str, object]]:
    directory = directory_of(source)
    if directory is not None:
        yield from _well_formed(_ledger_bytes(directory))
        return
    sources = [source] if isinstance(source, str | os.PathLike) or not isinstance(source, Sequence) else source
    for item in sources:
        with opened(item) as file:
            yield from _well_formed(_span_bytes(file))


def _erasures(source: Source) -> Iterator[Mapping[str, object]]:
    """Yield the records of erasures, which stand behind what they are about; spans carry none."""
    directory = directory_of(source)
    if directory is not None:
        found = (data for data in _ledger_bytes(directory) if b'"kind":"erasure"' in data)
        yield from (record for record in _well_formed(found) if record["kind"] == "erasure")


def _ledger_bytes(directory: str) -> Iterator[bytes]:
    reader = whole(open_ledger(directory), log=False)
    for stream in reader.streams():
        for line in reader.entries(stream):
            if line.record is not None:
                yield line.record


def _span_bytes(file: ByteLines) -> Iterator[bytes]:
    for item in read_spans(file):
        if isinstance(item, SpanData) and f"{ATTESTATION}payload" in item.attributes:
            try:
                yield b64url_decode(Attestation.from_attributes(item.attributes).payload)
            except VerificationError:
                continue


def _well_formed(documents: Iterable[bytes]) -> Iterator[Mapping[str, object]]:
    for document in documents:
        try:
            record: object = orjson.loads(document)
            if not isinstance(record, dict):
                continue
            check_record(cast("dict[str, object]", record))
        except ValueError:
            continue
        yield cast("dict[str, object]", record)


@final
class _Draft:
    """A story while it is being told."""

    def __init__(self, record: Mapping[str, object]) -> None:
        task = cast("Mapping[str, str]", record.get("task", {}))
        principal = cast("Mapping[str, str]", record.get("principal", {}))
        self.task = task.get("id")
        self.purpose: str | None = None
        self.principal, self.principal_kind = principal.get("id"), principal.get("kind")
        self.provenance = principal.get("provenance")
        self.via = tuple(cast("Sequence[str]", cast("object", principal.get("via", ()))))
        self.agent: str | None = None
        self.owner: str | None = None
        self.depth: int | None = None
        self.registration: Mapping[str, str] = {}
        self.started_ns = _start(record)
        self.expires_ns = int(task["expires"]) if "expires" in task else None
        self.ended_ns: int | None = None
        self.open: dict[str, Action] = {}
        self.actions: list[Action] = []
        self.omitted = 0
        self.refused = 0
        self.withheld = 0
        self.delegations: dict[Delegation, None] = {}
        self.approvers: dict[str, str] = {}

    def take(self, record: Mapping[str, object]) -> None:
        self.started_ns = min(self.started_ns, _start(record))
        agents = _agents(record)
        if len(agents) == 1:
            agent = cast("Mapping[str, str]", record["agent"])
            self.agent, self.owner = agent["id"], agent["owner"]
        kind = record["kind"]
        if kind == "approval":
            self._note_approver(cast("Mapping[str, object]", record["approval"]))
        elif kind == "task_start":
            self._begin(agents, cast("Mapping[str, str]", record["task"]).get("purpose"))
        elif kind == "intent" and len(self.open) < MAX_ACTIONS:
            self.open[cast("str", record["id"])] = _action(record, agents, self.approvers)
        elif kind == "outcome":
            self.open.pop(cast("str", record.get("intent", "")), None)
            action = _action(record, agents, self.approvers)
            self.withheld += action.withheld
            self.refused += action.outcome == "denied" and not action.withheld
            self._add(action)
        elif kind == "task_end" and len(agents) == (self.depth or 1):
            self.ended_ns = int(cast("Mapping[str, str]", record["time"]).get("end", self.started_ns))

    def _note_approver(self, approval: Mapping[str, object]) -> None:
        if approval["status"] == "approved" and "approver" in approval and len(self.approvers) < MAX_ACTIONS:
            approver = cast("Mapping[str, str]", approval["approver"])
            self.approvers[cast("str", approval["id"])] = approver["id"]

    def _begin(self, agents: tuple[str, ...], purpose: str | None) -> None:
        if self.depth is None or len(agents) < self.depth:
            # Where a task was opened elsewhere, the first to be trusted with it here is not the root.
            self.depth, self.purpose = len(agents), purpose
        elif purpose is not None and purpose != self.purpose and len(self.delegations) < MAX_ACTIONS:
            self.delegations[Delegation(agents, purpose)] = None

    def _add(self, action: Action) -> None:
        if len(self.actions) < MAX_ACTIONS:
            self.actions.append(action)
        else:
            self.omitted += 1

    def finish(self, erasures: Erasures) -> Story:
        for action in self.open.values():
            self._add(action)
        return Story(
            task=self.task,
            purpose=self.purpose,
            principal=self.principal,
            principal_kind=self.principal_kind,
            provenance=self.provenance,
            agent=self.agent,
            owner=self.owner,
            registered_for=self.registration.get("purpose"),
            registration=self.registration.get("hash"),
            via=self.via,
            started_ns=self.started_ns,
            expires_ns=self.expires_ns,
            ended_ns=self.ended_ns,
            actions=tuple(sorted(self.actions, key=lambda action: (action.at_ns, action.record))),
            omitted=self.omitted,
            refused=self.refused,
            withheld=self.withheld,
            delegations=tuple(self.delegations),
            erased=erasures.cover(self.task, self.principal, self.started_ns),
        )


@final
class _Teller:
    """Sorts records to the tasks that they are part of."""

    def __init__(self, erasures: Erasures) -> None:
        self._erasures = erasures
        self._under_way: OrderedDict[str, _Draft] = OrderedDict()
        self._ended: OrderedDict[str, _Draft] = OrderedDict()
        self._outside: _Draft | None = None
        self._registrations: OrderedDict[str, Mapping[str, str]] = OrderedDict()

    def take(self, record: Mapping[str, object]) -> Iterator[Story]:
        """Add a record, and return what is finished by it."""
        if "chain" not in record:
            self._take_outside(record)
            return
        task = cast("Mapping[str, str]", record["task"])["id"]
        draft = self._under_way.get(task) or self._ended.get(task)
        if draft is None:
            draft = self._under_way[task] = _Draft(record)
            # The first record of a task is its root grant, and the registration of its agent stands before that.
            draft.registration = self._registrations.get(_agents(record)[0], {})
        draft.take(record)
        if draft.ended_ns is not None and task in self._under_way:
            self._ended[task] = self._under_way.pop(task)
        if len(self._ended) > _MAX_ENDED:
            yield self._ended.popitem(last=False)[1].finish(self._erasures)
        if len(self._under_way) > _MAX_UNDER_WAY:
            yield self._under_way.popitem(last=False)[1].finish(self._erasures)

    def _take_outside(self, record: Mapping[str, object]) -> None:
        if record["kind"] == "registration" and "agent" in record:
            self._take_registration(record)
        if record["kind"] not in {"intent", "outcome"}:
            return
        if self._outside is None:
            self._outside = _Draft(record)
        self._outside.take(record)

    def _take_registration(self, record: Mapping[str, object]) -> None:
        agent = cast("Mapping[str, str]", record["agent"])["id"]
        self._registrations[agent] = cast("Mapping[str, str]", record.get("registration", {}))
        if len(self._registrations) > _MAX_REGISTRATIONS:
            self._registrations.popitem(last=False)

    def finish(self) -> Iterator[Story]:
        """Return what is left."""
        for drafts in (self._ended, self._under_way):
            for draft in drafts.values():
                yield draft.finish(self._erasures)
        if self._outside is not None:
            yield self._outside.finish(self._erasures)


def _start(record: Mapping[str, object]) -> int:
    return int(cast("Mapping[str, str]", record["time"])["start"])


def _agents(record: Mapping[str, object]) -> tuple[str, ...]:
    return tuple(link["id"] for link in cast("Sequence[Mapping[str, str]]", record.get("chain", ())))


def _action(record: Mapping[str, object], agents: tuple[str, ...], approvers: Mapping[str, str]) -> Action:
    action = cast("Mapping[str, str]", record["action"])
    decision = cast("Mapping[str, str]", record["decision"])
    return Action(
        record=cast("str", record["id"]),
        at_ns=_start(record),
        tool=_what(action),
        agents=agents,
        effect=decision["effect"],
        outcome=cast("str", record.get("outcome", "unknown")),
        reason=decision["reason"],
        rule=decision.get("rule"),
        why=decision.get("why"),
        argument=decision.get("argument"),
        route=action.get("route"),
        error=cast("str | None", record.get("error")),
        monitored=decision["mode"] == "monitor",
        withheld=record.get("outcome") == "denied" and record.get("error") == _WITHHELD,
        approver=approvers.get(decision.get("approval", "")) if decision["enforced"] == "allow" else None,
    )


def _what(action: Mapping[str, object]) -> str:
    tool, agent = cast("str", action["tool"]), cast("Mapping[str, str] | None", action.get("agent"))
    return tool if agent is None else f"{tool} {agent['id']}"
