"""Controls: for each clause of a framework, the status that a named query over the evidence gives it, and why."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, final

from agent_identity._common.typed_calls import typed
from agent_identity._reports.answers.coverage_report import CoverageQuestion, CoverageReport, Share
from agent_identity._reports.answers.incident_report import IncidentQuestion, IncidentReport
from agent_identity._reports.answers.incident_seed import Seed
from agent_identity._reports.answers.reading import Distributor, Evidence, Reading, read
from agent_identity._reports.answers.report_frame import Frame, SourceFrame
from agent_identity._reports.controls._queries import QUERIES, Query
from agent_identity._reports.controls._signal_collecting import OUTSIDE, SignalCollector
from agent_identity._reports.controls._signals import Signal, Signals
from agent_identity._reports.controls.control_rows import (
    FRAMEWORKS,
    ControlRow,
    ControlTable,
    FrameworkName,
    standard_tables,
)
from agent_identity._verify.report.plurals import counted

ControlStatus: TypeAlias = Literal["shown", "partly", "not shown", "contradicted", "out of scope"]
"""Status of a row.

``shown``: verified records answer it for the period. ``partly``: they answer a part of it. ``not shown``: they do not
answer it. ``contradicted``: they show the opposite, or do not verify. ``out of scope``: records cannot answer it.
"""

STATUSES: Final[tuple[ControlStatus, ...]] = ("contradicted", "not shown", "partly", "shown", "out of scope")
"""The statuses, in the order in which they are listed."""

_SECOND: Final = 1_000_000_000
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
