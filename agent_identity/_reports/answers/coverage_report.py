"""The share of all tool calls that a human answers for, over records and traces of any library; the others by name."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final, Literal, NamedTuple, TypeAlias, final

import msgspec
import orjson

from agent_identity._common.typed_calls import typed
from agent_identity._identity.common.tool_names import names_at_servers
from agent_identity._record.parts import Principal
from agent_identity._reports.answers.facts import CallFact, CallSpanFact, Fact, SpanFact, StreamFact
from agent_identity._reports.answers.reading import Evidence, Reading, read
from agent_identity._reports.answers.report_frame import Frame, Proof
from agent_identity._verify.report.plurals import counted
from agent_identity._verify.store.spill_store import SpillStore

Dimension: TypeAlias = Literal["agent", "service", "week"]
"""Key by which calls are grouped."""

Why: TypeAlias = Literal["outside any task", "for a service", "traced without a record", "human, asserted only"]
"""Reason that no verified human answers for a call."""

_NEAR: Final = 20_000
_DAY: Final = 86_400 * 1_000_000_000
_MAX_GROUPS: Final = 100_000
_MAX_ALIKE: Final = 5_000
_MAX_LIBRARIES: Final = 32
_OWN, _ABOVE, _TAKEN, _COPY, _OR = b"=", b"^", b"!", b"+", b"\0"


@final
@dataclass(frozen=True, slots=True)
class Share:
    """Numbers of tool calls; a call of which several sources or libraries tell counts once.

    Attributes:
        calls: All of them.
        attributed: Those whose record names a principal.
        human: Those whose principal is a human.
        verified_human: Those whose principal is a human whom an issuer verified.
        refused: Those that were refused.
    """

    calls: int
    attributed: int
    human: int
    verified_human: int
    refused: int


@final
@dataclass(frozen=True, slots=True)
class Group:
    """The share of some calls.

    Attributes:
        dimension: What they have in common.
        name: Its name; empty if it is unknown.
        share: The numbers.
    """

    dimension: Dimension
    name: str
    share: Share


@final
@dataclass(frozen=True, slots=True)
class OtherCalls:
    """Calls for which no verified human answers.

    Attributes:
        why: The reason.
        tool: The tool.
        agent: Who acted, if that is known.
        service: The service, if that is known.
        party: The service or asserted human on whose behalf, or the library that traced them.
        calls: How many.
        refused: How many of them were refused.
        first_ns: When the first one began.
        last_ns: When the last one began.
        example: The id of a record, or the trace and the span of a call without one.
    """

    why: Why
    tool: str
    agent: str
    service: str
    party: str
    calls: int
    refused: int
    first_ns: int
    last_ns: int
    example: str


@final
@dataclass(frozen=True, slots=True)
class CoverageReport:
    """The answer.

    Attributes:
        frame: Sources, verdicts, keys, period, and what is not shown.
        total: All tool calls.
        proof: The weight of the attributions.
        groups: By agent, service and week.
        others: Calls for which no verified human answers, most frequent first.
    """

    frame: Frame
    total: Share
    proof: Proof
    groups: tuple[Group, ...]
    others: tuple[OtherCalls, ...]


@typed
def coverage(evidence: Evidence) -> CoverageReport:
    """Say which share of all tool calls a human answers for.

    A span of another library is the copy of a call if the span right above or below it is that of a call with a
    record, and names no other tool; otherwise nobody answers for it.

    Args:
        evidence: What is read.

    Raises:
        ConfigurationError: A source or the trust file cannot be read.
    """
    question = CoverageQuestion()
    return question.answer(read(evidence, question), evidence)


@final
class CoverageQuestion:
    """The question for coverage as a consumer of a pass that other questions may share."""

    def __init__(self) -> None:
        self._table = CoverageTable()
        self.take = self._table.take

    def answer(self, reading: Reading, evidence: Evidence) -> CoverageReport:
        """Return the answer at the end of the pass."""
        table = self._table
        table.finish()
        frame = reading.frame("coverage", evidence, list(_not_shown(table)))
        others = sorted(
            (OtherCalls(*key, *row.numbers()) for key, row in table.others.items()),
            key=lambda one: (_WHYS.index(one.why), -one.calls, one.tool, one.agent, one.service, one.party),
        )
        return CoverageReport(
            frame=frame,
            total=table.total.share(),
            proof=frame.proof(table.sources),
            groups=tuple(Group(*key, counts.share()) for key, counts in sorted(table.groups.items())),
            others=tuple(others),
        )


_WHYS: Final[tuple[Why, ...]] = (
    "traced without a record",
    "outside any task",
    "for a service",
    "human, asserted only",
)


def _not_shown(table: "CoverageTable") -> Iterator[str]:
    yield "calls that neither passed a guard nor were traced"
    if table.traced:
        yield "spans that were sampled away or dropped"
    else:
        yield "calls without a guard: no traces of other libraries were given"
    if table.copies:
        yield f"{counted(table.copies, 'span')} of other libraries that are copies of calls with records"
    if table.omitted:
        yield f"{counted(table.omitted, 'call')} in groups beyond {_MAX_GROUPS:,}; the total has them"


@final
class _Counts:
    """The numbers of a share while they are counted."""

    __slots__ = ("attributed", "calls", "human", "refused", "verified")

    def __init__(self) -> None:
        self.calls = self.attributed = self.human = self.verified = self.refused = 0

    def share(self) -> Share:
        """Return the numbers."""
        return Share(self.calls, self.attributed, self.human, self.verified, self.refused)


@final
class _Other:
    """Calls that are counted together."""

    __slots__ = ("calls", "example", "first", "last", "refused")

    def __init__(self) -> None:
        self.calls = self.refused = self.first = self.last = 0
        self.example = ""

    def add(self, at_ns: int, example: str, *, refused: bool) -> None:
        """Count a call."""
        if not self.calls or (at_ns, example) < (self.first, self.example):
            self.first, self.example = at_ns, example
        self.last = max(self.last, at_ns)
        self.calls += 1
        self.refused += refused

    def join(self, other: "_Other") -> None:
        """Add the calls of another one."""
        self.first, self.example = min((self.first, self.example), (other.first, other.example))
        self.last = max(self.last, other.last)
        self.calls += other.calls
        self.refused += other.refused

    def numbers(self) -> tuple[int, int, int, int, str]:
        """Return the numbers, in the order of :class:`OtherCalls`."""
        return self.calls, self.refused, self.first, self.last, self.example


@final
class CoverageTable:
    """Takes facts, and counts tool calls."""

    def __init__(self) -> None:
        self.total = _Counts()
        self.groups: dict[tuple[Dimension, str], _Counts] = {}
        self.others: dict[tuple[Why, str, str, str, str], _Other] = {}
        self.sources: set[int] = set()
        self.traced = False
        self.copies = self.omitted = 0
        self._services: dict[str, str] = {}
        self._calls: dict[_Alike, _Other] = {}
        self._links = SpillStore(bytes, bytes, near=_NEAR)
        self._spans = SpillStore(bytes, bytes, near=_NEAR)

    def take(self, fact: Fact) -> None:
        """Take a fact."""
        if isinstance(fact, CallFact):
            if not fact.opening and not fact.of_model:
                self._take_call(fact)
        elif isinstance(fact, CallSpanFact):
            self._link(fact.trace, fact.span, fact.parent, fact)
        elif isinstance(fact, SpanFact):
            self.traced = True
            if fact.kind == "tool" and not fact.offered:
                span = _Span(fact.parent, fact.name, fact.service or "", fact.library, fact.at_ns, fact.serving)
                self._spans.put(_key(_OWN, fact.trace, fact.span), orjson.dumps(tuple(span)))
        elif isinstance(fact, StreamFact) and fact.resource is not None and fact.resource.service is not None:
            self._services[fact.where.stream] = fact.resource.service

    def _link(self, trace: str, span: str, above: str, call: CallFact | CallSpanFact) -> None:
        """Remember the span of a call with a record, and the one above it."""
        self._links.put(_key(_OWN, trace, span), _names(call))
        if above:
            self._links.put(_key(_ABOVE, trace, above), _names(call))

    def _take_call(self, fact: CallFact) -> None:
        where, agent, at_ns = fact.where, fact.agent, fact.at_ns
        self.sources.add(where.source)
        if fact.span is not None:
            self._link(*fact.span, fact.above or "", fact)
        service = self._services.get(where.stream, "")
        key = _Alike(fact.principal, "" if agent is None else agent.id, service, _week(at_ns), fact.tool)
        calls = self._calls.get(key)
        if calls is None:
            if len(self._calls) >= _MAX_ALIKE:
                self._count_calls()
            calls = self._calls[key] = _Other()
        calls.add(at_ns, where.record, refused=fact.refused)

    def _count_calls(self) -> None:
        """Count the calls so far."""
        for alike, calls in self._calls.items():
            principal, agent, service, tool = alike.principal, alike.agent, alike.service, alike.tool
            human = principal is not None and principal.kind == "human"
            verified = human and principal is not None and principal.provenance == "verified"
            for counts in self._counts(agent, service, alike.week, calls.calls):
                counts.calls += calls.calls
                counts.attributed += calls.calls * (principal is not None)
                counts.human += calls.calls * human
                counts.verified += calls.calls * verified
                counts.refused += calls.refused
            if not verified:
                why: Why = (
                    "outside any task" if principal is None else "human, asserted only" if human else "for a service"
                )
                self._other((why, tool, agent, service, "" if principal is None else principal.id), calls)
        self._calls.clear()

    def _counts(self, agent: str, service: str, week: str, calls: int) -> Iterator[_Counts]:
        """Yield the counts that calls add to."""
        yield self.total
        keys: tuple[tuple[Dimension, str], ...] = (("agent", agent), ("service", service), ("week", week))
        for key in keys:
            counts = self.groups.get(key)
            if counts is None:
                if len(self.groups) >= _MAX_GROUPS:
                    self.omitted += calls
                    continue
                counts = self.groups[key] = _Counts()
            yield counts

    def _other(self, key: tuple[Why, str, str, str, str], calls: _Other) -> None:
        row = self.others.get(key)
        if row is not None:
            row.join(calls)
        elif len(self.others) < _MAX_GROUPS:
            self.others[key] = calls
        else:
            self.omitted += calls.calls

    def finish(self) -> None:
        """Tell spans of other libraries that are copies of calls from those for which nobody answers."""
        self._count_calls()
        taken = SpillStore(bytes, bytes, near=_NEAR)
        calls = SpillStore(bytes, bytes, near=_NEAR)
        for key, span in self._spanned():
            call = self._call_of(key, span, taken)
            if self._is_copy(key, span, taken):
                calls.put(call, _COPY)
            elif call not in calls:
                calls.put(call, b"")
        for key, span in self._spanned():
            if calls.get(key) == b"":
                self._count_traced(key, span)
            else:
                self.copies += 1

    def _spanned(self) -> "Iterator[tuple[bytes, _Span]]":
        for key, packed in self._spans.items():
            yield key, _Span(*orjson.loads(packed))

    def _count_traced(self, key: bytes, span: "_Span") -> None:
        for counts in self._counts("", span.service, _week(span.at_ns), 1):
            counts.calls += 1
        example = f"{key[1:33].decode()}/{key[33:].decode()}"
        named: tuple[Why, str, str, str, str] = ("traced without a record", span.tool, "", span.service, span.library)
        calls = _Other()
        calls.add(span.at_ns, example, refused=False)
        self._other(named, calls)

    def _is_copy(self, key: bytes, span: "_Span", taken: SpillStore[bytes]) -> bool:
        """Return whether a span tells of a call that has a record; of each call, one span of each library does."""
        trace = key[1:33]
        for beside in (_ABOVE + key[1:], _OWN + trace + span.parent.encode(), key):
            used = _TAKEN + span.teller + beside
            if span.tool.encode() in (self._links.get(beside) or b"").split(_OR) and used not in taken:
                taken.put(used, b"")
                return True
        return False

    def _call_of(self, key: bytes, span: "_Span", taken: SpillStore[bytes]) -> bytes:
        """Return the key of the uppermost span of the same call.

        Several libraries, and client and server of one library, make spans of one call right above each other. A second
        span of the same library is that of another call.
        """
        line = [(key, span)]
        while span.parent and len(line) < _MAX_LIBRARIES:
            above = key[:33] + span.parent.encode()
            packed = self._spans.get(above)
            if packed is None:
                break
            key, span = above, _Span(*orjson.loads(packed))
            if span.tool != line[0][1].tool:
                break
            line.append((key, span))
        call, tellers = line[-1][0], set[bytes]()
        for below, told in reversed(line):
            if told.teller in tellers:
                call, tellers = below, set[bytes]()
            tellers.add(told.teller)
        used = _TAKEN + line[0][1].teller + b"<" + call
        if call != line[0][0] and used in taken:
            return line[0][0]
        taken.put(used, b"")
        return call


class _Alike(msgspec.Struct, frozen=True, gc=False):
    """What calls have in common that are counted together."""

    principal: Principal | None
    agent: str
    service: str
    week: str
    tool: str


class _Span(NamedTuple):
    """The span of a tool call by another library."""

    parent: str
    tool: str
    service: str
    library: str
    at_ns: int
    serving: bool

    @property
    def teller(self) -> bytes:
        """The library, and on which side of a request it stands: it tells of each call once."""
        return (b">" if self.serving else b"-") + self.library.encode("utf-8", "surrogatepass")


def _names(call: CallFact | CallSpanFact) -> bytes:
    """Return the names that a span of another library may give the tool of a call: its own, or that at a server."""
    return _OR.join(name.encode() for name in (call.tool, *names_at_servers(call.tool)))


def _key(kind: bytes, trace: str, span: str) -> bytes:
    return kind + trace.encode() + span.encode()


def _week(at_ns: int) -> str:
    """Return the week of ISO 8601 in UTC, such as ``2026-W48``."""
    return _week_of(at_ns // _DAY) if at_ns else ""


@lru_cache(4_096)
def _week_of(day: int) -> str:
    year, week, _ = datetime.fromtimestamp(day * 86_400, UTC).isocalendar()
    return f"{year}-W{week:02d}"
