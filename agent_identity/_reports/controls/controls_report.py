"""Controls: for each clause of a framework, the status that a named query over the evidence gives it, and why."""

from collections.abc import Iterator, Sequence, Sized
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, TypeVar, final

from agent_identity._common.typed_calls import typed
from agent_identity._identity.common.tool_names import server_of
from agent_identity._record.parts import Agent, Principal
from agent_identity._reports.answers.coverage_report import CoverageQuestion, CoverageReport, Share
from agent_identity._reports.answers.declared import declared_in
from agent_identity._reports.answers.facts import (
    ApprovalFact,
    CallFact,
    Fact,
    GrantFact,
    PolicyFact,
    RegistrationFact,
    RevocationFact,
    ServerFact,
    SpanFact,
    StreamFact,
    TaskFact,
)
from agent_identity._reports.answers.incident_report import IncidentQuestion, IncidentReport, RevocationEffect
from agent_identity._reports.answers.incident_seed import Seed
from agent_identity._reports.answers.reading import Distributor, Evidence, Reading, read
from agent_identity._reports.answers.report_frame import Frame, SourceFrame
from agent_identity._reports.controls._signals import IDS, QUERIES, Query, Signal, Signals
from agent_identity._reports.controls.control_rows import (
    FRAMEWORKS,
    ControlRow,
    ControlTable,
    FrameworkName,
    standard_tables,
)
from agent_identity._verify.report.plurals import counted

_SECOND: Final = 1_000_000_000
_MAX_NAMES: Final = 100_000
_MAX_ALIKE: Final = 5_000
_LATE: Final = 60 * _SECOND  # Clocks differ, and a registry takes a moment to arrive.
_ARGUMENTS: Final = frozenset(
    {
        *("argument_not_granted", "argument_missing", "argument_out_of_scope"),
        *("bad_arguments", "amount_missing", "amount_invalid"),
    }
)
_REVOKED: Final = frozenset({"revoked", "suspended", "agent_suspended", "agent_retired", "agent_orphaned"})
_ENDED: Final = ("suspended", "retired", "orphaned")
_Name = TypeVar("_Name")
OUTSIDE: Final = frozenset({"witness", "anchor"})
"""Roles of signatures of other parties, which state a time."""


@final
class SignalCollector:
    """Takes facts, and counts signals.

    Args:
        from_ns: The first moment of the period; approvals, revocations and definitions from before it are handed over
            because they hold in it, and they did not happen in it.

    Attributes:
        signals: The signals; complete after :meth:`finish`.
        omitted: Names of agents, tools and policies without room.
        traced: True if traces of other libraries were among the sources.
    """

    def __init__(self, from_ns: int | None = None) -> None:
        self.signals = Signals()
        self._from_ns = from_ns or 0
        self.omitted = 0
        self.traced = False
        self._alike: dict[tuple[object, ...], _Alike] = {}
        self._services: dict[str, str] = {}
        self._agents: dict[str, tuple[int, str]] = {}
        self._acts_in: dict[str, set[str]] = {}
        self._versions: dict[str, set[str]] = {}
        self._granted: dict[tuple[str, str], tuple[int, str]] = {}
        self._used: set[tuple[str, str]] = set()
        self._policies: dict[str, set[str]] = {}
        self._registered: dict[str, tuple[int, str]] = {}
        self._last: dict[str, tuple[int, str]] = {}
        self._served: set[str] = set()
        self._pinned: set[str] = set()

    def take(self, fact: Fact) -> None:
        """Take a fact."""
        if isinstance(fact, CallFact):
            if not fact.opening:
                self._take_call(fact)
        elif isinstance(fact, GrantFact):
            self._take_grant(fact)
        elif isinstance(fact, ApprovalFact):
            self._take_approval(fact)
        elif isinstance(fact, TaskFact):
            if fact.status == "ended":
                self.signals.add("ended_tasks", fact.at_ns, fact.where.record)
        elif isinstance(fact, StreamFact):
            self._take_stream(fact)
        elif isinstance(fact, SpanFact):
            self.traced = True
        else:
            self._take_change(fact)

    def _take_stream(self, fact: StreamFact) -> None:
        resource = fact.resource
        placed = resource is not None and resource.service is not None and resource.host is not None
        if resource is not None and resource.service is not None:
            self._services[fact.where.stream] = resource.service
        self.signals.add("placed_streams" if placed else "unplaced_streams", fact.at_ns, fact.where.record)

    def _take_call(self, fact: CallFact) -> None:
        here = fact.at_ns, fact.where.record
        ran = fact.ran
        looks = _looks_of(fact)
        alike = self._alike.get(looks)
        if alike is None:
            if len(self._alike) >= _MAX_ALIKE:
                self._count_alike()
            alike = self._alike[looks] = _Alike(tuple(_signals_of(fact)))
        alike.add(here)
        if fact.agent is not None:
            self._see(fact, fact.agent, here, ran=ran)
        if ran:
            if fact.kind == "mcp":
                self._keep(self._served, fact.tool)
            for hop in fact.chain:
                self._keep(self._used, (hop.id, fact.tool))

    def _count_alike(self) -> None:
        """Count the signals of the calls so far."""
        for alike in self._alike.values():
            for name in alike.names:
                self.signals.add_all(name, alike.count, alike.earliest)
        self._alike.clear()

    def _see(self, fact: CallFact, agent: Agent, here: tuple[int, str], *, ran: bool) -> None:
        seen = self._agents.get(agent.id)
        if seen is None and not self._room(self._agents):
            return
        if seen is None or here < seen:
            self._agents[agent.id] = here
        if ran:
            last = self._last.get(agent.id)
            if last is None or here > last:
                self._last[agent.id] = here
        service = self._services.get(fact.where.stream)
        if service is not None:
            self._keep(self._acts_in.setdefault(agent.id, set()), service)
        if agent.version is not None:
            versions = self._versions.setdefault(agent.id, set())
            if agent.version not in versions and self._room(versions):
                versions.add(agent.version)
                if len(versions) > 1:
                    self.signals.add("changes", fact.at_ns, fact.where.record)

    def _take_grant(self, fact: GrantFact) -> None:
        at, record = fact.issued_ns, fact.where.record
        self.signals.add("bounded_grants", at, record)
        if fact.expires_ns - fact.issued_ns > _DAY:
            self.signals.add("long_grants", at, record)
        if fact.depth:
            self.signals.add("delegations", at, record)
        for tool, arguments in fact.tools.items():
            if not arguments:
                self.signals.add("open_grants", at, record)
            key = (fact.agent.id, tool)
            if key not in self._granted and self._room(self._granted):
                self._granted[key] = (at, record)

    def _take_approval(self, fact: ApprovalFact) -> None:
        status, here = fact.approval.status, (fact.at_ns, fact.where.record)
        if status not in ("approved", "rejected") or fact.at_ns < self._from_ns:
            return
        if not _is_verified(fact.approval.approver):
            self.signals.add("asserted_decisions", *here)
            return
        self.signals.add("human_decisions", *here)
        if status == "rejected":
            self.signals.add("rejections", *here)

    def _take_change(self, fact: Fact) -> None:
        if isinstance(fact, RevocationFact):
            if fact.change.status != "reinstated" and fact.at_ns >= self._from_ns:
                self.signals.add("revocations", fact.at_ns, fact.where.record)
            self._change(fact.at_ns, fact.where.record)
        elif isinstance(fact, PolicyFact):
            self._take_policy(fact)
        elif isinstance(fact, RegistrationFact):
            self._register(fact.agent.id, fact.at_ns, fact.registration.status)
        elif isinstance(fact, ServerFact):
            self._keep(self._pinned, fact.server.name)
            if fact.server.status != "pinned" or any(tool.status != "pinned" for tool in fact.tools):
                self._change(fact.at_ns, fact.where.record)

    def _register(self, agent: str, at_ns: int, status: str) -> None:
        """Keep the latest status of an agent."""
        known = self._registered.get(agent)
        if known is not None or self._room(self._registered):
            self._registered[agent] = (at_ns, status) if known is None else max(known, (at_ns, status))

    def _take_policy(self, fact: PolicyFact) -> None:
        if fact.policy.name not in self._policies and not self._room(self._policies):
            return
        digests = self._policies.setdefault(fact.policy.name, set())
        if fact.policy.digest not in digests and self._room(digests):
            digests.add(fact.policy.digest)
            if len(digests) > 1:
                self._change(fact.at_ns, fact.where.record)

    def _change(self, at_ns: int, record: str) -> None:
        """Count a change in the period."""
        if at_ns >= self._from_ns:
            self.signals.add("changes", at_ns, record)

    def _room(self, names: Sized) -> bool:
        if len(names) < _MAX_NAMES:
            return True
        self.omitted += 1
        return False

    def _keep(self, names: set[_Name], name: _Name) -> None:
        if name not in names and self._room(names):
            names.add(name)

    def finish(self, reading: Reading, calls: int, revocations: Sequence[RevocationEffect]) -> None:
        """Count what is known at the end of the pass only.

        Args:
            reading: The end of the pass.
            calls: The number of tool calls, those that only traces show included.
            revocations: The calls that each revocation concerns.
        """
        self._count_alike()
        recorded = self.signals.get("recorded_calls").count
        self.signals.add("traced_only_calls", count=max(0, calls - recorded))
        self._take_declared(reading)
        self._count_names()
        for effect in revocations:
            for record in effect.records:
                self.signals.add("calls_after_revocation", effect.at_ns, record, count=0)
            self.signals.add("calls_after_revocation", count=effect.after)
        for source in reading.sources:
            self._take_source(source)

    def _take_declared(self, reading: Reading) -> None:
        for place, trust in zip(reading.places, reading.trusts, strict=True):
            declared = declared_in(place, trust)
            for entry in declared.registrations:  # Oldest first: the last one of an agent holds.
                self._registered[entry.agent.id] = entry.issued_at * _SECOND, entry.status
            self._pinned.update(server.name for server in declared.servers)

    def _count_names(self) -> None:
        signals = self.signals
        for agent, (at, record) in self._agents.items():
            signals.add("agents", at, record)
            if agent not in self._registered:
                signals.add("unregistered_agents", at, record)
            if len(self._acts_in.get(agent, ())) > 1:
                signals.add("shared_agents", at, record)
        for key, (at, record) in self._granted.items():
            signals.add("used_tools" if key in self._used else "unused_tools", at, record)
        signals.add("registered_agents", count=len(self._registered))
        for agent, (ended, status) in self._registered.items():
            if status in _ENDED:
                signals.add("retired_agents")
                at, record = self._last.get(agent, (0, ""))
                if at > ended + _LATE:
                    signals.add("agents_after_their_end", at, record)
        signals.add("pinned_servers", count=len(self._pinned))
        unpinned = [tool for tool in self._served if server_of(tool, self._pinned) is None]
        signals.add("unpinned_tools", count=len(unpinned))

    def _take_source(self, source: SourceFrame) -> None:
        report = source.report
        if report is None or not source.records:
            return
        outside = any(signature.role in OUTSIDE for signature in report.signatures)
        self.signals.add("witnessed_sources" if outside else "unwitnessed_sources")
        self.signals.add("pruned_records", count=report.counts.get("pruned", 0))
        self.signals.add(
            "examinations" if outside else "undated_examinations", count=report.kinds.get("examination", 0)
        )


@final
class _Alike:
    """Calls that give the same signals."""

    __slots__ = ("count", "earliest", "names")

    def __init__(self, names: Sequence[str]) -> None:
        self.names = names
        self.count = 0
        self.earliest: list[tuple[int, str]] = []

    def add(self, here: tuple[int, str]) -> None:
        """Count a call."""
        self.count += 1
        earliest = self.earliest
        if len(earliest) < IDS or here < earliest[-1]:
            earliest.append(here)
            earliest.sort()
            del earliest[IDS:]


ControlStatus: TypeAlias = Literal["shown", "partly", "not shown", "contradicted", "out of scope"]
"""Status of a row.

``shown``: verified records answer it for the period. ``partly``: they answer a part of it. ``not shown``: they do not
answer it. ``contradicted``: they show the opposite, or do not verify. ``out of scope``: records cannot answer it.
"""

STATUSES: Final[tuple[ControlStatus, ...]] = ("contradicted", "not shown", "partly", "shown", "out of scope")
"""The statuses, in the order in which they are listed."""

_DAY: Final = 86_400 * _SECOND


@final
@dataclass(frozen=True, slots=True)
class EvidenceOf:
    """What a status rests on.

    Attributes:
        signal: The name of the signal.
        role: ``needs``, ``wants``, ``lacks`` or ``against``.
        count: How often the records say so.
        words: The same in words.
        records: The ids of up to three records, the earliest first.
    """

    signal: str
    role: Literal["needs", "wants", "lacks", "against"]
    count: int
    words: str
    records: tuple[str, ...]


@final
@dataclass(frozen=True, slots=True)
class RowResult:
    """A row with its status.

    Attributes:
        row: The row.
        status: Its status.
        why: The reasons, in words; the first one decides.
        coverage: What the status does not cover, where traces show calls without a record; empty otherwise.
        evidence: What it rests on.
    """

    row: ControlRow
    status: ControlStatus
    why: tuple[str, ...]
    coverage: str
    evidence: tuple[EvidenceOf, ...]


@final
@dataclass(frozen=True, slots=True)
class ControlsReport:
    """The answer.

    Attributes:
        frame: Sources, verdicts, keys, period, and what is not shown.
        share: The numbers of tool calls, those that only traces show included.
        recorded: Tool calls with a record.
        tables: The tables that were asked.
        rows: Their rows, in the order of the tables.
    """

    frame: Frame
    share: Share
    recorded: int
    tables: tuple[ControlTable, ...]
    rows: tuple[RowResult, ...]


@typed
def controls(
    evidence: Evidence,
    *,
    frameworks: Sequence[FrameworkName] = FRAMEWORKS,
    tables: Sequence[ControlTable] | None = None,
) -> ControlsReport:
    """Say for each clause of frameworks what the evidence shows.

    Args:
        evidence: What is read.
        frameworks: Only these.
        tables: Other tables than those of this release.

    Raises:
        ConfigurationError: A source or the trust file cannot be read.
    """
    question = ControlsQuestion(
        tuple(standard_tables(frameworks) if tables is None else tables), from_ns=evidence.from_ns
    )
    of_coverage, of_incident = CoverageQuestion(), IncidentQuestion(Seed("everything", ""))
    reading = read(evidence, Distributor((question.take, of_coverage.take, of_incident.take)))
    coverage, incident = of_coverage.answer(reading, evidence), of_incident.answer(reading, evidence)
    return question.answer(reading, evidence, coverage, incident)


@final
class ControlsQuestion:
    """The question for controls as a consumer of a pass that other questions may share.

    Args:
        tables: The rows; by default those of this release.
        from_ns: The first moment of the period, as in the evidence; decisions and changes from before it do not count.
    """

    def __init__(self, tables: Sequence[ControlTable] | None = None, *, from_ns: int | None = None) -> None:
        self._tables = tuple(standard_tables(FRAMEWORKS) if tables is None else tables)
        self._collector = SignalCollector(from_ns)
        self.take = self._collector.take

    def answer(
        self, reading: Reading, evidence: Evidence, coverage: CoverageReport, incident: IncidentReport
    ) -> ControlsReport:
        """Return the answer at the end of the pass.

        Args:
            reading: The end of the pass.
            evidence: What was read.
            coverage: The share of calls that a human answers for, of the same pass.
            incident: The incident of everything, of the same pass.
        """
        collector, share = self._collector, coverage.total
        collector.finish(reading, share.calls, incident.revocations)
        frame = reading.frame("controls", evidence, list(_not_shown(collector)))
        recorded = collector.signals.get("recorded_calls").count
        judge = _Judge(frame, collector.signals, _coverage(share, recorded))
        return ControlsReport(
            frame=frame,
            share=share,
            recorded=recorded,
            tables=self._tables,
            rows=tuple(judge.result(row) for table in self._tables for row in table.rows),
        )


def _not_shown(collector: SignalCollector) -> Iterator[str]:
    yield "whether a law or a framework applies to you, and whether you meet it: a status is about these records only"
    yield "processes, training and decisions of people that leave no record"
    if collector.traced:
        yield "calls that neither passed a guard nor were traced, and spans that were sampled away"
    else:
        yield "calls without a guard: no traces of other libraries were given"
    if collector.omitted:
        yield f"{counted(collector.omitted, 'fact')} about further agents, tools and policies"


def _coverage(share: Share, recorded: int) -> str:
    if share.calls <= recorded:
        return ""
    return f"{recorded:,} of {share.calls:,} tool calls have a record; traces alone show the others"


@final
class _Judge:
    """Gives rows their status."""

    def __init__(self, frame: Frame, signals: Signals, coverage: str) -> None:
        self._frame, self._signals, self._coverage = frame, signals, coverage
        self._own_keys = any(source.trust != "given" for source in frame.sources if source.records)

    def result(self, row: ControlRow) -> RowResult:
        """Return a row with its status."""
        evidence = () if row.query is None else tuple(_ledger(QUERIES[row.query], self._signals))
        status, why = self._status(row, evidence)
        return RowResult(row, status, why, self._coverage if status in ("shown", "partly") else "", evidence)

    def _status(self, row: ControlRow, evidence: Sequence[EvidenceOf]) -> tuple[ControlStatus, tuple[str, ...]]:
        if self._frame.verdict == "contradicted":
            return "contradicted", ("the evidence contradicts itself or its keys, so nothing in it is proved",)
        if row.query is None:
            return "out of scope", ("records of calls cannot answer it",)
        against = [one.words for one in evidence if one.role == "against" and one.count]
        missing = list(self._missing(evidence))
        if self._frame.verdict not in ("verified", "incomplete"):
            return "not shown", ("nothing was proved: the verdict is " + self._frame.verdict.replace("_", " "),)
        if against:
            return "contradicted", tuple(against)
        if missing:
            return "not shown", (*missing, *(one.words for one in evidence if one.role == "lacks" and one.count))
        found = tuple(one.words for one in evidence if one.role in ("needs", "wants") and one.count)
        weak = tuple(self._weak(row, evidence))
        return ("partly", (*weak, *found)) if weak else ("shown", found)

    def _missing(self, evidence: Sequence[EvidenceOf]) -> Iterator[str]:
        if not self._signals.get("recorded_calls").count:
            yield "no tool call has a record"
        yield from (one.words for one in evidence if one.role == "needs" and not one.count)

    def _weak(self, row: ControlRow, evidence: Sequence[EvidenceOf]) -> Iterator[str]:
        """Yield why a row is not shown as a whole."""
        yield from (one.words for one in evidence if one.role == "lacks" and one.count)
        yield from (one.words for one in evidence if one.role == "wants" and not one.count)
        if row.days is not None and self._days() < row.days:
            yield f"the records reach over {counted(self._days(), 'day')} of the {row.days:,} asked for"
        elif row.days is not None and self._outside_days() < row.days:
            seen = f"outside parties saw the log over {counted(self._outside_days(), 'day')}"
            yield f"only the records themselves date them over {row.days:,} days; {seen}"
        if self._frame.verdict == "incomplete":
            yield "the evidence verifies, and something of it is missing"
        if self._own_keys:
            yield "the keys came from beside the evidence; give --trust with a copy kept elsewhere"
        if row.at_most == "partly":
            yield "the clause asks more than records can show"

    def _days(self) -> int:
        """Return the whole days from the first record to the last one."""
        times = [time for source in self._frame.sources for time in (source.first_ns, source.last_ns) if time]
        return (max(times) - min(times)) // _DAY if times else 0

    def _outside_days(self) -> int:
        """Return the days between the first and the last time at which outside parties saw each of the logs."""
        return min((_seen_over(source) for source in self._frame.sources if source.records), default=0)


def _seen_over(source: SourceFrame) -> int:
    signatures = () if source.report is None else source.report.signatures
    times = [one.time for one in signatures if one.role in OUTSIDE and one.time is not None and one.size]
    return (max(times) - min(times)) * _SECOND // _DAY if times else 0


def _ledger(query: Query, signals: Signals) -> Iterator[EvidenceOf]:
    yield from (_of(signals.get(name), "needs") for name in query.needs)
    yield from (_of(signals.get(name), "wants") for name in query.wants)
    yield from (_of(signals.get(name), "lacks") for name in query.lacks)
    yield from (_of(signals.get(name), "against") for name in query.against)


def _of(signal: Signal, role: Literal["needs", "wants", "lacks", "against"]) -> EvidenceOf:
    return EvidenceOf(signal.name, role, signal.count, signal.words, signal.records)


def _looks_of(fact: CallFact) -> tuple[object, ...]:
    """Return all of a call that its signals depend on; many calls have the same."""
    return (
        fact.of_model,
        fact.intent is None,
        fact.outcome,
        fact.withheld,
        fact.decision,
        fact.principal,
        fact.agent,
        len(fact.chain) > 1 if fact.approver is None else fact.chain,
        fact.approver,
        not fact.findings,
        fact.span is None,
        not (fact.resources or fact.observed),
    )


def _signals_of(fact: CallFact) -> Iterator[str]:
    """Yield the signals that a call gives."""
    principal, decision, reason = fact.principal, fact.decision, fact.decision.reason
    owner = None if fact.agent is None else fact.agent.owner
    ended = fact.outcome not in ("unknown", "suspended")
    notable = fact.refused or fact.withheld or bool(fact.findings) or fact.outcome == "error"
    yield "model_calls" if fact.of_model else "recorded_calls"
    signals = {
        "closed_calls": ended,
        "open_calls": fact.intent is not None and fact.outcome == "unknown",
        "linked_calls": fact.span is not None,
        "unlinked_calls": fact.span is None,
        "notable_calls": notable or decision.effect == "warn" or fact.would_be_refused,
        "attributed_calls": principal is not None and fact.agent is not None,
        "unattributed_calls": principal is None and not fact.refused,
        "verified_calls": principal is not None and principal.kind == "human" and principal.provenance == "verified",
        "asserted_calls": principal is not None and principal.kind == "human" and principal.provenance != "verified",
        "service_calls": principal is not None and principal.kind == "service",
        "delegated_calls": len(fact.chain) > 1,
        "refused_calls": fact.refused,
        "argument_refusals": fact.refused and reason in _ARGUMENTS,
        "limit_refusals": fact.refused and reason == "limit_exceeded",
        "revoked_refusals": fact.refused and reason in _REVOKED,
        "monitored_calls": fact.would_be_refused,
        "ruled_calls": decision.digest is not None,
        "unruled_calls": decision.digest is None and fact.ran,
        "finding_calls": bool(fact.findings),
        "approved_calls": fact.ran and _is_verified(fact.approver),
        "asserted_approvals": fact.ran and fact.approver is not None and not _is_verified(fact.approver),
        "self_approved_calls": fact.ran and _approved_by_itself(fact),
        "owner_approved_calls": fact.ran and fact.approver is not None and fact.approver.id == owner,
        "resource_calls": bool(fact.resources or fact.observed),
        "undeclared_calls": fact.ran and not (fact.resources or fact.observed),
    }
    yield from (name for name, given in signals.items() if given)


def _is_verified(approver: Principal | None) -> bool:
    """Return whether an approver is a person whom an issuer verified; code may state anybody else."""
    return approver is not None and approver.kind == "human" and approver.provenance == "verified"


def _approved_by_itself(fact: CallFact) -> bool:
    """Return whether the approver is the principal or an agent of the chain."""
    if fact.approver is None:
        return False
    parties = {hop.id for hop in fact.chain}
    parties |= set() if fact.principal is None else {fact.principal.id, *(fact.principal.via or ())}
    return fact.approver.id in parties
