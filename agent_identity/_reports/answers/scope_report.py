"""Granted and used: per agent and tool, with what was refused, three ceilings, and a smaller scope as a suggestion."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice, pairwise
from typing import Final, Literal, TypeAlias, cast, final

from agent_identity._authority.registries.agents import Registration
from agent_identity._common.typed_calls import typed
from agent_identity._reports.answers._scope_usage import BUSY, MIN_WEEKS, ScopeUsage, ToolUsage
from agent_identity._reports.answers.declared import declared_in
from agent_identity._reports.answers.reading import Evidence, Reading, read
from agent_identity._reports.answers.report_frame import Frame, Proof
from agent_identity._verify.report.plurals import counted
from agent_identity.canonical import JSON, decode
from agent_identity.errors import ConfigurationError

Confidence: TypeAlias = Literal["high", "medium", "low", "not judged"]
"""Confidence of a suggestion. ``high``: from 30 grants over 30 days, and all records are there; ``medium``: from 10
grants; ``low``: fewer; ``not judged``: the evidence covers less than 7 days."""

GapCode: TypeAlias = Literal["never_used", "used_by_descendants_only", "open_tool", "beyond_maximum", "never_granted"]
"""Code of a noteworthy fact about an agent and a tool."""

_DAY: Final = 86_400 * 1_000_000_000
_YOUNG: Final = 7 * _DAY
_HIGH: Final = 30
_MEDIUM: Final = 10
_MAX_EVENTS: Final = 10_000


@final
@dataclass(frozen=True, slots=True)
class Refusals:
    """Refused calls of one agent and tool, for one reason.

    Attributes:
        reason: The code of the decision.
        rule: The rule, if one matched.
        argument: The argument that the refusal is about.
        count: How many.
    """

    reason: str
    rule: str | None
    argument: str | None
    count: int


@final
@dataclass(frozen=True, slots=True)
class ScopeRow:
    """One agent and one tool.

    Attributes:
        agent: The agent.
        tool: The tool.
        registered: Whether the maximum of the registration has the tool; ``None`` without a registration.
        root_grants: Root grants of the tool to the agent.
        delegations: Delegations of it to the agent.
        grants_used: Grants under which the agent called it itself.
        grants_used_by_descendants: Grants under which only descendants called it.
        open_grants: Grants that name no argument of the tool.
        calls: Calls of the agent whose bodies began.
        succeeded: How many of these ended without an error.
        calls_by_descendants: Calls of descendants under these grants whose bodies began.
        calls_of_open_tool: Calls of the agent whose arguments no constraint bounds.
        warned: Calls of the agent for which a warning was decided.
        would_be_refused: Calls that went on in monitor mode only.
        revoked_calls: Calls of the agent under grants of an issuer key that was revoked; they are no use of the scope.
        revoked_calls_by_descendants: The same of calls of descendants.
        refused: Refused calls of the agent.
        refusals: These by reason, rule and argument, most frequent first.
        first_granted_ns: When the first grant began; 0 without any.
        last_granted_ns: When the last one began.
        first_used_ns: When the first use began, by the agent or by a descendant; 0 without any.
        last_used_ns: When the last one began.
        principals: The number of principals on whose behalf the agent called it, counted up to 1,000.
        records: The ids of up to three calls that ended without an error.
        proof: The weight of all that.
    """

    agent: str
    tool: str
    registered: bool | None
    root_grants: int
    delegations: int
    grants_used: int
    grants_used_by_descendants: int
    open_grants: int
    calls: int
    succeeded: int
    calls_by_descendants: int
    calls_of_open_tool: int
    warned: int
    would_be_refused: int
    revoked_calls: int
    revoked_calls_by_descendants: int
    refused: int
    refusals: tuple[Refusals, ...]
    first_granted_ns: int
    last_granted_ns: int
    first_used_ns: int
    last_used_ns: int
    principals: int
    records: tuple[str, ...]
    proof: Proof

    @property
    def grants(self) -> int:
        """The number of grants of the tool to the agent."""
        return self.root_grants + self.delegations


@final
@dataclass(frozen=True, slots=True)
class Gap:
    """A noteworthy fact about an agent and a tool.

    Attributes:
        code: What.
        agent: The agent.
        tool: The tool.
        count: Grants, or calls where there was no grant.
    """

    code: GapCode
    agent: str
    tool: str
    count: int


@final
@dataclass(frozen=True, slots=True)
class SuggestedTool:
    """A line of a suggestion.

    Attributes:
        tool: The tool.
        change: ``keep`` or ``drop``.
        why: The reason, in words.
        grants: Grants of the tool.
        used: Grants under which it was used successfully, by the agent or by descendants.
        calls: Successful calls.
        last_used_ns: When it was used last; 0 if never.
        constraints: The constraints of the grants, which are kept as they are; ``None`` if they differ by grant.
        records: The ids of up to three successful calls.
    """

    tool: str
    change: Literal["keep", "drop"]
    why: str
    grants: int
    used: int
    calls: int
    last_used_ns: int
    constraints: Mapping[str, JSON] | None
    records: tuple[str, ...]


@final
@dataclass(frozen=True, slots=True)
class Suggestion:
    """A smaller scope for one agent, as a diff. Nothing applies it.

    Attributes:
        agent: The agent.
        confidence: How sure it is.
        grants: The grants that it rests on.
        days: The days that the evidence covers.
        tools: The tools that were granted, each kept or dropped.
        would_refuse: Calls in the evidence, whose bodies began, that it would have refused.
        refused_records: The ids of up to three of these for each tool.
        proof: The weight of it.
    """

    agent: str
    confidence: Confidence
    grants: int
    days: int
    tools: tuple[SuggestedTool, ...]
    would_refuse: int
    refused_records: tuple[str, ...]
    proof: Proof


@final
@dataclass(frozen=True, slots=True)
class VersionChange:
    """The behavior of a version of an agent that the version before did not show.

    Attributes:
        agent: The agent.
        version: The version.
        before: The version that was first seen before it.
        since_ns: When it was first seen.
        added: Tools that only the later one called.
        gone: Tools that only the earlier one called.
    """

    agent: str
    version: str
    before: str
    since_ns: int
    added: tuple[str, ...]
    gone: tuple[str, ...]


@final
@dataclass(frozen=True, slots=True)
class Event:
    """Two parties were seen together for the first time.

    Attributes:
        relation: ``calls``, ``active at``, ``uses server``, ``acts for``, ``delegates to``, ``passes``, of resources
            ``reads``, ``writes``, ``deletes``, ``executes`` or ``sends to``, or of an MCP server ``offers``.
        agent: The agent, or the server that offers a definition.
        other: The tool, hour of the week, server, principal, agent, tool with the names of its arguments, resource, or
            tool with the digest of its definition.
        since_ns: When.
        count: How often since.
        record: The first record.
        proof: The weight of it.
    """

    relation: str
    agent: str
    other: str
    since_ns: int
    count: int
    record: str
    proof: Proof


@final
@dataclass(frozen=True, slots=True)
class RateChange:
    """An hour in which an agent called a tool, or was refused, far more often than in the same hour of earlier weeks.

    Attributes:
        agent: The agent.
        tool: The tool.
        what: ``calls`` whose bodies began, or ``refusals``.
        at_ns: The beginning of the hour.
        count: How many.
        median: The lower median of the same hour of the week in the weeks before, at most 8.
        weeks: The number of these weeks; hours with fewer than 4 are not judged.
        proof: The weight of it.
    """

    agent: str
    tool: str
    what: str
    at_ns: int
    count: int
    median: int
    weeks: int
    proof: Proof


@final
@dataclass(frozen=True, slots=True)
class ScopeReport:
    """The answer.

    Attributes:
        frame: Sources, verdicts, keys, period, and what is not shown.
        rows: By agent and tool.
        gaps: What is noteworthy, by code.
        suggestions: By agent, where the evidence is proved.
        versions: By agent, in the order of time.
        events: The latest first.
        rates: Hours far above their baseline, by agent, tool and time.
    """

    frame: Frame
    rows: tuple[ScopeRow, ...]
    gaps: tuple[Gap, ...]
    suggestions: tuple[Suggestion, ...]
    versions: tuple[VersionChange, ...]
    events: tuple[Event, ...]
    rates: tuple[RateChange, ...]


@typed
def scope(evidence: Evidence, *, since_ns: int | None = None, least: int = 1) -> ScopeReport:
    """Compare what agents were granted with what they used.

    Args:
        evidence: What is read.
        since_ns: Only list what was first seen together from this moment on.
        least: A suggestion keeps a tool that was used successfully under so many grants.

    Raises:
        ConfigurationError: A source or the trust file cannot be read, or ``least`` is less than 1.
    """
    question = ScopeQuestion(since_ns, least)
    return question.answer(read(evidence, question), evidence)


@final
class ScopeQuestion:
    """The comparison as a consumer of a pass that other questions may share.

    Args:
        since_ns: As for :func:`scope`.
        least: As for :func:`scope`.

    Raises:
        ConfigurationError: ``least`` is less than 1.
    """

    def __init__(self, since_ns: int | None, least: int) -> None:
        if least < 1:
            raise ConfigurationError(f"least is {least}; give 1 or more grants")
        self._usage, self._since_ns, self._least = ScopeUsage(), since_ns, least
        self.take = self._usage.take

    def answer(self, reading: Reading, evidence: Evidence) -> ScopeReport:
        """Return the answer at the end of the pass."""
        usage = self._usage
        usage.finish()
        maxima, problems = _maxima(reading)
        frame = reading.frame("scope", evidence, ())
        rows = tuple(_row(key, usage.rows[key], maxima, frame) for key in sorted(usage.rows))
        suggestions = [*_suggestions(rows, usage, frame, self._least)]
        proved = tuple(one for one in suggestions if one.proof == "proved")
        left_out = _not_suggested(len(suggestions) - len(proved))
        notes = (*_not_shown(usage, registered=bool(maxima)), *left_out, *problems)
        frame = replace(frame, not_shown=notes)
        return ScopeReport(
            frame=frame,
            rows=rows,
            gaps=tuple(_gaps(rows)),
            suggestions=proved,
            versions=tuple(_versions(usage)),
            events=tuple(_events(usage, self._since_ns, frame)),
            rates=tuple(_rates(usage, frame)),
        )


def _not_shown(usage: ScopeUsage, *, registered: bool) -> Iterator[str]:
    yield "values of arguments: records have keyed digests of them, so constraints cannot be narrowed from evidence"
    yield (
        f"hours that are not {BUSY}, those of fewer than {MIN_WEEKS} weeks of evidence, and rates of principals and "
        "resources"
    )
    if not registered:
        yield "the registered maximum: there is no registry of agents"
    revoked = sum(row.revoked for row in usage.rows.values())
    if revoked:
        yield f"a use of {counted(revoked, 'call')}: they ran under grants of issuer keys that are revoked"
    if usage.ungranted:
        yield f"the grants of {counted(usage.ungranted, 'call')}: no record has them"
    omitted = usage.omitted + usage.rates.omitted
    if omitted:
        yield f"{counted(omitted, 'fact')} about further agents and tools"


def _not_suggested(agents: int) -> Iterator[str]:
    if agents:
        yield f"the suggested scope of {counted(agents, 'agent')}, whose evidence is not proved"


def _rates(usage: ScopeUsage, frame: Frame) -> Iterator[RateChange]:
    for burst in islice(usage.rates.bursts(), _MAX_EVENTS):
        agent, tool, what = burst.key
        proof = frame.proof(usage.rows[agent, tool].sources)
        yield RateChange(agent, tool, what, burst.at_ns, burst.count, burst.median, burst.weeks, proof)


def _maxima(reading: Reading) -> tuple[dict[str, frozenset[str]], tuple[str, ...]]:
    """Return the tools of the maximum of each registered agent, and what could not be used."""
    current: dict[str, Registration] = {}
    problems: list[str] = []
    for place, trust in zip(reading.places, reading.trusts, strict=True):
        declared = declared_in(place, trust)
        problems += [problem for problem in declared.problems if "agents.jsonl" in problem]
        current.update((entry.agent.id, entry) for entry in declared.registrations)
    return {agent: frozenset(entry.maximum.tools) for agent, entry in current.items()}, tuple(problems)


def _row(key: tuple[str, str], usage: ToolUsage, maxima: Mapping[str, frozenset[str]], frame: Frame) -> ScopeRow:
    agent, tool = key
    refusals = sorted(usage.refused.items(), key=lambda item: (-item[1], item[0]))
    return ScopeRow(
        agent=agent,
        tool=tool,
        registered=tool in maxima[agent] if agent in maxima else None,
        root_grants=usage.roots,
        delegations=usage.delegations,
        grants_used=usage.used,
        grants_used_by_descendants=usage.used_below,
        open_grants=usage.open,
        calls=usage.calls,
        succeeded=usage.succeeded,
        calls_by_descendants=usage.calls_below,
        calls_of_open_tool=usage.calls_open,
        warned=usage.warned,
        would_be_refused=usage.monitored,
        revoked_calls=usage.revoked,
        revoked_calls_by_descendants=usage.revoked_below,
        refused=sum(usage.refused.values()),
        refusals=tuple(Refusals(reason, rule or None, arg or None, count) for (reason, rule, arg), count in refusals),
        first_granted_ns=usage.first_granted,
        last_granted_ns=usage.last_granted,
        first_used_ns=usage.first_used,
        last_used_ns=usage.last_used,
        principals=len(usage.principals),
        records=tuple(usage.records),
        proof=frame.proof(usage.sources),
    )


def _gaps(rows: Sequence[ScopeRow]) -> Iterator[Gap]:
    found = [Gap(code, row.agent, row.tool, count) for row in rows for code, count in _codes(row)]
    order = {code: number for number, code in enumerate(_CODES)}
    yield from sorted(found, key=lambda gap: (order[gap.code], -gap.count, gap.agent, gap.tool))


_CODES: Final[tuple[GapCode, ...]] = (
    "beyond_maximum",
    "never_granted",
    "never_used",
    "used_by_descendants_only",
    "open_tool",
)


def _codes(row: ScopeRow) -> Iterator[tuple[GapCode, int]]:
    if row.grants and row.registered is False:
        yield "beyond_maximum", row.grants
    if not row.grants and (row.refused or row.calls):
        yield "never_granted", row.refused + row.calls
    used, used_below = row.calls > row.revoked_calls, row.calls_by_descendants > row.revoked_calls_by_descendants
    if row.grants and not used and not used_below:
        yield "never_used", row.grants
    if row.grants and not used and used_below:
        yield "used_by_descendants_only", row.grants
    if row.open_grants:
        yield "open_tool", row.open_grants


def _suggestions(rows: Sequence[ScopeRow], usage: ScopeUsage, frame: Frame, least: int) -> Iterator[Suggestion]:
    agents: dict[str, list[ScopeRow]] = {}
    for row in rows:
        if row.grants:
            agents.setdefault(row.agent, []).append(row)
    for agent, granted in sorted(agents.items()):
        yield _suggestion(agent, granted, usage, frame, least)


def _suggestion(agent: str, granted: Sequence[ScopeRow], usage: ScopeUsage, frame: Frame, least: int) -> Suggestion:
    grants = max(row.grants for row in granted)
    covered = max(_covered(row, usage, frame) for row in granted)
    confidence = _confidence(grants, covered, complete=_is_complete(frame))
    judged = confidence != "not judged"
    tools = tuple(
        _tool(row, usage, least=least, judged=judged, young=_covered(row, usage, frame) < _YOUNG) for row in granted
    )
    refused = [row for row, line in zip(granted, tools, strict=True) if line.change == "drop"]
    return Suggestion(
        agent=agent,
        confidence=confidence,
        grants=grants,
        days=covered // _DAY,
        tools=tools,
        would_refuse=sum(row.calls + row.calls_by_descendants for row in refused),
        refused_records=tuple(id_ for row in refused for _, id_ in usage.rows[agent, row.tool].ran),
        proof=frame.proof({source for row in granted for source in usage.rows[agent, row.tool].sources}),
    )


def _is_complete(frame: Frame) -> bool:
    return all(source.proved and source.verdict == "verified" for source in frame.sources if source.records)


def _covered(row: ScopeRow, usage: ScopeUsage, frame: Frame) -> int:
    """Return how long the evidence watches the grants of a row."""
    return max(0, usage.last_ns - max(row.first_granted_ns, frame.from_ns or 0))


def _confidence(grants: int, covered: int, *, complete: bool) -> Confidence:
    if covered < _YOUNG:
        return "not judged"
    if grants >= _HIGH and covered >= _HIGH * _DAY and complete:
        return "high"
    return "medium" if grants >= _MEDIUM else "low"


def _tool(row: ScopeRow, usage: ScopeUsage, *, least: int, judged: bool, young: bool) -> SuggestedTool:
    own = usage.rows[row.agent, row.tool]
    used = row.grants_used + row.grants_used_by_descendants
    successes = own.succeeded + own.succeeded_below - own.succeeded_revoked
    kept, why = _verdict(used, successes, least, young=young, judged=judged, below=row.calls <= row.revoked_calls)
    constraints = next(iter(own.constraints)) if len(own.constraints) == 1 else None
    return SuggestedTool(
        tool=row.tool,
        change="keep" if kept else "drop",
        why=why,
        grants=row.grants,
        used=used,
        calls=successes,
        last_used_ns=row.last_used_ns,
        constraints=None if constraints is None else cast("Mapping[str, JSON]", decode((constraints or "{}").encode())),
        records=row.records,
    )


def _verdict(used: int, successes: int, least: int, *, young: bool, judged: bool, below: bool) -> tuple[bool, str]:
    if not judged:
        return True, "the evidence covers less than 7 days"
    if young:
        return True, "granted for less than 7 days"
    if successes and used >= least:
        return True, "used by descendants" if below else "used"
    if not used:
        return False, "never used"
    return False, "never used successfully" if not successes else f"used under fewer than {counted(least, 'grant')}"


def _versions(usage: ScopeUsage) -> Iterator[VersionChange]:
    by_agent: dict[str, list[tuple[int, str, set[str]]]] = {}
    for (agent, version), (first, tools) in usage.versions.items():
        by_agent.setdefault(agent, []).append((first, version, tools))
    for agent, seen in sorted(by_agent.items()):
        ordered = sorted(seen, key=lambda one: (one[0], one[1]))
        for (_, before, old), (since, version, new) in pairwise(ordered):
            yield VersionChange(agent, version, before, since, tuple(sorted(new - old)), tuple(sorted(old - new)))


def _events(usage: ScopeUsage, since_ns: int | None, frame: Frame) -> list[Event]:
    found = [
        Event(*key, since_ns=seen.at_ns, count=seen.count, record=seen.record, proof=frame.proof(seen.sources))
        for key, seen in usage.events.items()
        if since_ns is None or seen.at_ns >= since_ns
    ]
    found.sort(key=lambda event: (-event.since_ns, event.relation, event.agent, event.other))
    return found[:_MAX_EVENTS]
