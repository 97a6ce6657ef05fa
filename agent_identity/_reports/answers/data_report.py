"""Data: which systems and resources agents touched, with which access, for whom, and how many calls say so."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple, TypeAlias, final

from agent_identity._common.typed_calls import typed
from agent_identity._policy.decision.resources import UNKNOWN
from agent_identity._record.parts import Resource
from agent_identity._reports.answers.facts import CallFact, ErasureFact, Fact, SpanFact
from agent_identity._reports.answers.reading import Evidence, Reading, read
from agent_identity._reports.answers.report_frame import Frame, Proof
from agent_identity._verify.report.plurals import counted
from agent_identity._verify.store.spill_store import SpillStore

STATE_IT: Final = (
    "What is missing is the word of the owner of each tool: state it where the tool is guarded, "
    'touches=Touch("postgres://db.example.com:5432", "shop.invoices", "read") in @enforcer.tool(…), protect(…) or '
    "McpServer(…). Calls from then on are counted."
)
"""What tools lack that say nothing, and how to state it."""

Basis: TypeAlias = Literal["declared", "observed"]
"""``declared``: the owner of the tool says so. ``observed``: it was seen while the call ran."""

_MAX_ROWS: Final = 100_000
_MAX_TOUCHES: Final = 10_000
_MAX_NAMES: Final = 64
_NEAR: Final = 50_000


@final
@dataclass(frozen=True, slots=True)
class DataRow:
    """One agent and one resource, or the resources of one template.

    Attributes:
        agent: The agent; empty outside any task.
        system: The system.
        name: The name of the resource there, or its template.
        access: ``read``, ``write``, ``delete``, ``execute`` or ``send``.
        basis: How that is known.
        labels: The labels of the data.
        calls: Calls whose bodies began.
        refused: Refused calls.
        resources: Different resources of the template that calls touched whose bodies began; 0 if their names are
            not filled, if the key of the names was erased, or if several sources have keys of their own.
        tools: The tools.
        principals: On whose behalf, at most 64.
        first_ns: When the first contact began; 0 if all calls were refused.
        last_ns: When the last one began.
        record: The record of the first contact.
        proof: The weight of all that.
    """

    agent: str
    system: str
    name: str
    access: str
    basis: Basis
    labels: tuple[str, ...]
    calls: int
    refused: int
    resources: int
    tools: tuple[str, ...]
    principals: tuple[str, ...]
    first_ns: int
    last_ns: int
    record: str
    proof: Proof


@final
@dataclass(frozen=True, slots=True)
class SilentTool:
    """A tool whose calls say nothing about what they touch.

    Attributes:
        tool: The tool.
        calls: Its calls that say nothing, and whose bodies began.
    """

    tool: str
    calls: int


@final
@dataclass(frozen=True, slots=True, order=True)
class TouchedBy:
    """A call that touched the resource that was asked about.

    Attributes:
        at_ns: When it began.
        record: Its record.
        agent: Who acted.
        principal: On whose behalf.
        tool: The tool.
        access: What it did.
        outcome: How it ended.
        system: The system.
        name: The name of the resource, or its template.
        digest: The keyed digest of the filled name.
        basis: How that is known.
        proof: The weight of it.
    """

    at_ns: int
    record: str
    agent: str
    principal: str
    tool: str
    access: str
    outcome: str
    system: str
    name: str
    digest: str
    basis: Basis
    proof: Proof


@final
@dataclass(frozen=True, slots=True)
class DataHint:
    """Data that unsigned spans show.

    Attributes:
        name: The system, collection, file or store.
        what: What it is.
        service: The service that the spans came from.
        spans: How many.
    """

    name: str
    what: str
    service: str
    spans: int


@final
@dataclass(frozen=True, slots=True)
class DataReport:
    """The answer.

    Attributes:
        frame: Sources, verdicts, keys, period, and what is not shown.
        calls: Tool calls whose bodies began.
        declaring: How many of these say what they touch.
        rows: By agent, system, name and access.
        silent: Tools with calls that say nothing, most frequent first.
        resource: The resource that was asked about.
        touched: What touched it, by time.
        omitted: Rows and calls that had no room.
        hints: Data that spans of other libraries show.
    """

    frame: Frame
    calls: int
    declaring: int
    rows: tuple[DataRow, ...]
    silent: tuple[SilentTool, ...]
    resource: str | None
    touched: tuple[TouchedBy, ...]
    omitted: int
    hints: tuple[DataHint, ...]


@typed
def data(evidence: Evidence, *, resource: str | None = None) -> DataReport:
    """Say which data agents touched.

    Args:
        evidence: What is read.
        resource: Also list what touched this one: a name or template, system and name with a space between, or a
            keyed digest.

    Raises:
        ConfigurationError: A source or the trust file cannot be read.
    """
    question = DataQuestion(resource)
    return question.answer(read(evidence, question), evidence)


@final
class DataQuestion:
    """The question for data as a consumer of a pass that other questions may share.

    Args:
        resource: As for :func:`data`.
    """

    def __init__(self, resource: str | None = None) -> None:
        self._table, self._resource = _Table(resource), resource
        self.take = self._table.take

    def answer(self, reading: Reading, evidence: Evidence) -> DataReport:
        """Return the answer at the end of the pass."""
        table = self._table
        table.shorten()
        frame = reading.frame("data", evidence, list(_not_shown(table)))
        touched = tuple(TouchedBy(*one.facts, proof=frame.proof([one.source])) for one in table.touched)
        silent = sorted(table.silent.items(), key=lambda item: (-item[1], item[0]))
        return DataReport(
            frame=frame,
            calls=table.calls,
            declaring=table.declaring,
            rows=tuple(table.rows[key].row(key, frame, erased=table.erased) for key in sorted(table.rows)),
            silent=tuple(SilentTool(tool, count) for tool, count in silent),
            resource=self._resource,
            touched=touched,
            omitted=table.omitted,
            hints=tuple(DataHint(*key, spans) for key, spans in sorted(table.hints.items())),
        )


def _not_shown(table: "_Table") -> Iterator[str]:
    silent = table.calls - table.declaring
    calls = counted(table.calls, "tool call")
    yield f"what {silent:,} of {calls} touched, whose tools declare nothing"
    yield "values: names that arguments fill are templates with keyed digests"
    if table.erased:
        yield "how many resources of a template there are: the key of their names was erased, so templates are counted"
    if any(len(row.resources) > 1 for row in table.rows.values()):
        yield "how many resources of a template several sources touched: each has a key of its own for their names"
    if table.hints:
        yield "which agent touched what spans of other libraries show: they are unsigned hints"
    if table.omitted:
        yield f"{table.omitted:,} statements about further resources and calls"


_Key: TypeAlias = tuple[str, str, str, str, Basis]
"""Agent, system, name, access and basis."""


class _Touch(NamedTuple):
    """A call that touched the resource, and the number of its source."""

    facts: tuple[int, str, str, str, str, str, str, str, str, str, Basis]
    source: int


@final
@dataclass(slots=True)
class _CountedRow:
    """A row while it is counted."""

    calls: int = 0
    refused: int = 0
    first: int = 0
    last: int = 0
    record: str = ""
    resources: dict[int, int] = field(default_factory=dict[int, int])
    labels: set[str] = field(default_factory=set[str])
    tools: set[str] = field(default_factory=set[str])
    principals: set[str] = field(default_factory=set[str])
    sources: set[int] = field(default_factory=set[int])

    def add(self, fact: CallFact, resource: Resource) -> None:
        """Count a call."""
        self.sources.add(fact.where.source)
        self.labels.update(resource.data or ())
        if len(self.tools) < _MAX_NAMES:
            self.tools.add(fact.tool)
        if fact.principal is not None and len(self.principals) < _MAX_NAMES:
            self.principals.add(fact.principal.id)
        self.refused += fact.refused
        if fact.ran:
            self.calls += 1
            if not self.record or (fact.at_ns, fact.where.record) < (self.first, self.record):
                self.first, self.record = fact.at_ns, fact.where.record
            self.last = max(self.last, fact.at_ns)

    def distinct(self, erased: set[int]) -> int:
        """Return the number of different resources; 0 if digests of their names do not show it."""
        return 0 if len(self.resources) > 1 or erased & self.resources.keys() else sum(self.resources.values())

    def row(self, key: _Key, frame: Frame, *, erased: set[int]) -> DataRow:
        """Return the row."""
        agent, system, name, access, basis = key
        return DataRow(
            agent=agent,
            system=system,
            name=name,
            access=access,
            basis=basis,
            labels=tuple(sorted(self.labels)),
            calls=self.calls,
            refused=self.refused,
            resources=self.distinct(erased),
            tools=tuple(sorted(self.tools)),
            principals=tuple(sorted(self.principals)),
            first_ns=self.first,
            last_ns=self.last,
            record=self.record,
            proof=frame.proof(self.sources),
        )


@final
class _Table:
    """Takes facts."""

    def __init__(self, resource: str | None) -> None:
        self.rows: dict[_Key, _CountedRow] = {}
        self.silent: dict[str, int] = {}
        self.hints: dict[tuple[str, str, str], int] = {}
        self.touched: list[_Touch] = []
        self.calls = self.declaring = self.omitted = 0
        self.erased: set[int] = set()
        self._resource = resource
        self._distinct = SpillStore(bytes, bytes, near=_NEAR)

    def take(self, fact: Fact) -> None:
        """Take a fact."""
        if isinstance(fact, CallFact):
            if not fact.opening and not fact.of_model:
                self._take_call(fact)
        elif isinstance(fact, ErasureFact):
            if fact.key == _RESOURCES:
                self.erased.add(fact.where.source)
        elif isinstance(fact, SpanFact) and fact.kind == "data":
            key = (fact.name, fact.details.get("what", ""), fact.service or "")
            if key in self.hints or len(self.hints) < _MAX_ROWS:
                self.hints[key] = self.hints.get(key, 0) + 1
            else:
                self.omitted += 1

    def _take_call(self, fact: CallFact) -> None:
        silent = all(one.name == UNKNOWN for one in (*fact.resources, *fact.observed))
        if fact.ran:
            self.calls += 1
            self.declaring += not silent
            if silent and (fact.tool in self.silent or len(self.silent) < _MAX_ROWS):
                self.silent[fact.tool] = self.silent.get(fact.tool, 0) + 1
        for resource in fact.resources:
            self._touch(fact, resource, "declared")
        for resource in fact.observed:
            self._touch(fact, resource, "observed")

    def _touch(self, fact: CallFact, resource: Resource, basis: Basis) -> None:
        agent = "" if fact.agent is None else fact.agent.id
        key: _Key = (agent, resource.system, resource.name, resource.access, basis)
        row = self.rows.get(key)
        if row is None:
            if len(self.rows) >= _MAX_ROWS:
                self.omitted += 1
                return
            row = self.rows[key] = _CountedRow()
        row.add(fact, resource)
        if fact.ran and resource.digest is not None:
            seen = "\0".join((*key, resource.digest)).encode()
            if seen not in self._distinct:
                self._distinct.put(seen, b"")
                row.resources[fact.where.source] = row.resources.get(fact.where.source, 0) + 1
        if self._resource in (resource.digest, resource.name, f"{resource.system} {resource.name}"):
            self._list(fact, resource, basis)

    def _list(self, fact: CallFact, resource: Resource, basis: Basis) -> None:
        if self._resource is None:
            return
        principal = "" if fact.principal is None else fact.principal.id
        agent = "" if fact.agent is None else fact.agent.id
        parties = (fact.at_ns, fact.where.record, agent, principal, fact.tool)
        named = (resource.system, resource.name, resource.digest or "", basis)
        self.touched.append(_Touch((*parties, resource.access, fact.outcome, *named), fact.where.source))
        if len(self.touched) >= 2 * _MAX_TOUCHES:
            self.shorten()

    def shorten(self) -> None:
        """Keep the earliest calls that touched the resource, and count the others."""
        self.touched.sort()
        self.omitted += max(0, len(self.touched) - _MAX_TOUCHES)
        del self.touched[_MAX_TOUCHES:]


_RESOURCES: Final = "resources"
"""The name under which records of erasures speak of the key of the names of resources."""
