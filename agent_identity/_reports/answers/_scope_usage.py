"""Counts what was granted and what was done under it, per agent, tool and hour, with bounded memory."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from itertools import islice
from typing import Final, NamedTuple, TypeAlias, TypeVar, final

from agent_identity._identity.common.tool_names import server_of
from agent_identity._reports.answers.facts import CallFact, Fact, GrantFact, RevocationFact, ServerFact
from agent_identity._verify.store.spill_store import spilled
from agent_identity.canonical import encode

WEEKS: Final = 8
"""Earlier weeks that a baseline looks at."""

MIN_WEEKS: Final = 4
"""Earlier weeks that the evidence has to cover for an hour to be judged."""

BUSY: Final = f"more than three times the median of the same hour of the {WEEKS} weeks before, and than 10 above it"
"""The threshold, in words."""

_HOUR: Final = 3_600 * 1_000_000_000
_WEEK: Final = 7 * 24
_MAX_HOURS: Final = 500_000
_FACTOR: Final = 3
_ABOVE: Final = 10

RateKey: TypeAlias = tuple[str, ...]
"""What is counted, such as an agent, a tool and a measure."""


@final
@dataclass(frozen=True, slots=True)
class Burst:
    """An hour with many more events than the same hour of earlier weeks.

    Attributes:
        key: What was counted.
        at_ns: The beginning of the hour.
        count: The events in it.
        median: The lower median of the same hour in earlier weeks.
        weeks: The number of these weeks.
    """

    key: RateKey
    at_ns: int
    count: int
    median: int
    weeks: int


@final
class HourlyRates:
    """Counts events by hour, with bounded memory.

    Attributes:
        omitted: Events that had no room.
    """

    def __init__(self) -> None:
        self._hours: dict[RateKey, dict[int, int]] = {}
        self._size = self.omitted = 0
        self._first: int | None = None

    def add(self, key: RateKey, at_ns: int) -> None:
        """Count an event."""
        hour = at_ns // _HOUR
        if self._first is None or hour < self._first:
            self._first = hour
        hours = self._hours.get(key)
        if hours is None or hour not in hours:
            if self._size >= _MAX_HOURS:
                self.omitted += 1
                return
            self._size += 1
            hours = self._hours.setdefault(key, {})
        hours[hour] = hours.get(hour, 0) + 1

    def bursts(self) -> Iterator[Burst]:
        """Yield the hours above the threshold, by key and time; an hour without events counts 0 in a baseline."""
        for key in sorted(self._hours):
            hours = self._hours[key]
            for hour in sorted(hours):
                weeks = min(WEEKS, (hour - (self._first or 0)) // _WEEK)
                if weeks < MIN_WEEKS:
                    continue
                before = sorted(hours.get(hour - week * _WEEK, 0) for week in range(1, weeks + 1))
                median = before[(weeks - 1) // 2]
                if hours[hour] > max(_FACTOR * median, median + _ABOVE):
                    yield Burst(key, hour * _HOUR, hours[hour], median, weeks)


_MAX_ROWS: Final = 100_000
_NEAR: Final = 4_096
_MAX_REASONS: Final = 256
_MAX_PRINCIPALS: Final = 1_000
_IDS: Final = 3
_CANDIDATES: Final = 32

_T = TypeVar("_T", tuple[int, str], tuple[int, str, str])

EventKey: TypeAlias = tuple[str, str, str]
"""Key of parties seen together: the relation, the agent or server, and the other party."""

_UNUSED: Final = (0,) * 8
"""Uses of the holder and of descendants; of these, the successful ones; calls of both that ran; first and last time."""


class _Grant(NamedTuple):
    """A grant; the constraints by tool are JSON, and a root has an issuer key."""

    agent: str
    tools: dict[str, str]
    depth: int
    issued_ns: int
    source: int
    root: str
    kid: str | None


@final
@dataclass(slots=True)
class ToolUsage:
    """Grants and usage of one tool by one agent.

    Attributes:
        roots: Root grants of the tool to the agent.
        delegations: Delegations of it.
        used: How many of these grants the agent used itself.
        used_below: How many descendants used, and the agent did not.
        open: How many grants name no argument of the tool.
        constraints: The different constraints in the grants, as JSON, at most two.
        calls: Calls of the agent whose bodies began.
        succeeded: How many of these came to an end without an error, and not by monitor mode only.
        succeeded_below: The same of calls of descendants.
        calls_below: Calls of descendants whose bodies began.
        calls_open: Calls of the agent that no argument of the grant bounds.
        warned: Calls of the agent for which a warning was decided.
        monitored: Calls that went on in monitor mode only.
        revoked: Calls of the agent that ran under grants of a revoked issuer key; they are no use.
        revoked_below: The same of calls of descendants.
        succeeded_revoked: Successful calls of both under such grants.
        refused: Refusals, by reason, rule and argument.
        first_granted: When the first grant began.
        last_granted: When the last one began.
        first_used: When the first use by the agent, or by a descendant, began; 0 without any.
        last_used: When the last one began.
        principals: On whose behalf the agent called it, at most 1,000.
        candidates: Times and records of calls by the agent or a descendant that ended without an error, each with the
            root grant of the call, the earliest first.
        records: The candidates whose root grant has no revoked issuer key, at most three.
        ran: Times and records of calls whose bodies began, the earliest first.
        sources: The sources of all that.
    """

    roots: int = 0
    delegations: int = 0
    used: int = 0
    used_below: int = 0
    open: int = 0
    constraints: set[str] = field(default_factory=set[str])
    calls: int = 0
    succeeded: int = 0
    succeeded_below: int = 0
    calls_below: int = 0
    calls_open: int = 0
    warned: int = 0
    monitored: int = 0
    revoked: int = 0
    revoked_below: int = 0
    succeeded_revoked: int = 0
    refused: Counter[tuple[str, str, str]] = field(default_factory=Counter[tuple[str, str, str]])
    first_granted: int = 0
    last_granted: int = 0
    first_used: int = 0
    last_used: int = 0
    principals: set[str] = field(default_factory=set[str])
    candidates: list[tuple[int, str, str]] = field(default_factory=list[tuple[int, str, str]])
    records: list[str] = field(default_factory=list[str])
    ran: list[tuple[int, str]] = field(default_factory=list[tuple[int, str]])
    sources: set[int] = field(default_factory=set[int])

    @property
    def grants(self) -> int:
        """The number of grants."""
        return self.roots + self.delegations

    def see(self, at_ns: int) -> None:
        """Count a use at a time."""
        self.first_used = min(self.first_used or at_ns, at_ns)
        self.last_used = max(self.last_used, at_ns)


@final
@dataclass(slots=True)
class FirstSeen:
    """The first sighting of two parties together.

    Attributes:
        at_ns: When.
        record: The record.
        count: How often since.
        sources: The sources.
    """

    at_ns: int
    record: str
    count: int = 0
    sources: set[int] = field(default_factory=set[int])


@final
class ScopeUsage:
    """Takes facts; :meth:`finish` settles what needs all of them.

    Attributes:
        rows: By agent and tool.
        events: What was first seen together.
        versions: By agent and version, when it was first seen, and the tools whose bodies began.
        last_ns: The time of the last fact.
        first_ns: The time of the first fact.
        omitted: Facts about rows that had no room.
        ungranted: Calls whose grant stands in no record.
        rates: Calls that ran and refusals, by agent and tool.
    """

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str], ToolUsage] = {}
        self.events: dict[EventKey, FirstSeen] = {}
        self.versions: dict[tuple[str, str], tuple[int, set[str]]] = {}
        self.first_ns = self.last_ns = self.omitted = self.ungranted = 0
        self.rates = HourlyRates()
        self._grants = spilled(_Grant, near=_NEAR)
        # The holder; by tool, the numbers of _UNUSED, and the sources.
        self._uses = spilled(tuple[str, dict[str, list[int]]], near=_NEAR)
        self._keys: dict[str, tuple[int, bool]] = {}
        self._servers: set[str] = set()

    def take(self, fact: Fact) -> None:
        """Take a fact."""
        if isinstance(fact, GrantFact):
            self._see_time(fact.issued_ns)
            self._take_grant(fact)
        elif isinstance(fact, CallFact):
            self._see_time(fact.at_ns)
            if not fact.opening:
                self._take_call(fact)
        elif isinstance(fact, RevocationFact):
            if fact.change.kind == "key" and (fact.change.name in self._keys or len(self._keys) < _MAX_ROWS):
                changed = (fact.at_ns, fact.change.status != "reinstated")
                self._keys[fact.change.name] = max(changed, self._keys.get(fact.change.name, changed))
        elif isinstance(fact, ServerFact):
            if fact.server.name in self._servers or len(self._servers) < _MAX_ROWS:
                self._servers.add(fact.server.name)
            for tool in fact.tools:
                key = ("offers", fact.server.name, f"{tool.name} {tool.offered or tool.pinned or '(no digest)'}")
                self._event(key, fact.at_ns, fact.where.record, fact.where.source)

    def _see_time(self, at_ns: int) -> None:
        self.first_ns = min(self.first_ns or at_ns, at_ns)
        self.last_ns = max(self.last_ns, at_ns)

    def _row(self, agent: str, tool: str, source: int) -> ToolUsage | None:
        row = self.rows.get((agent, tool))
        if row is None:
            if len(self.rows) >= _MAX_ROWS:
                self.omitted += 1
                return None
            row = self.rows[agent, tool] = ToolUsage()
        row.sources.add(source)
        return row

    def _take_grant(self, fact: GrantFact) -> None:
        spelled = {tool: encode(arguments).decode() if arguments else "" for tool, arguments in fact.tools.items()}
        source = fact.where.source
        grant = _Grant(fact.agent.id, spelled, fact.depth, fact.issued_ns, source, fact.root, fact.kid)
        self._grants.put(fact.hash.encode(), grant)
        if len(fact.chain) > 1:
            self._event(("delegates to", fact.chain[-2].id, fact.agent.id), fact.issued_ns, fact.where.record, source)

    def _take_call(self, fact: CallFact) -> None:
        agent, source = fact.agent, fact.where.source
        if agent is None:
            return
        row = self._row(agent.id, fact.tool, source)
        if row is not None:
            self._count(row, fact)
            if fact.ran or fact.refused:
                self.rates.add((agent.id, fact.tool, "calls" if fact.ran else "refusals"), fact.at_ns)
        if not fact.ran:
            return
        for number, hop in enumerate(fact.chain, 1):
            self._use(hop.grant, hop.id, fact, own=number == len(fact.chain))
        if fact.would_be_refused:
            return
        self._see_parties(fact, agent.id)
        if agent.version is not None:
            first, tools = self.versions.get((agent.id, agent.version), (fact.at_ns, set()))
            if (agent.id, agent.version) in self.versions or len(self.versions) < _MAX_ROWS:
                tools.add(fact.tool)
                self.versions[agent.id, agent.version] = (min(first, fact.at_ns), tools)

    def _count(self, row: ToolUsage, fact: CallFact) -> None:
        decision = fact.decision
        if fact.refused:
            key = (decision.reason, decision.rule or "", decision.argument or "")
            row.refused[key if key in row.refused or len(row.refused) < _MAX_REASONS else _OTHERS] += 1
        row.warned += decision.effect == "warn"
        row.monitored += fact.would_be_refused
        if fact.ran:
            row.calls += 1
            good = fact.succeeded and not fact.would_be_refused
            row.succeeded += good
            if fact.principal is not None and len(row.principals) < _MAX_PRINCIPALS:
                row.principals.add(fact.principal.id)
            _keep(row.ran, (fact.at_ns, fact.where.record), _IDS)
            if good:
                _keep(row.candidates, (fact.at_ns, fact.where.record, _root_of(fact)), _CANDIDATES)

    def _use(self, grant: str, holder: str, fact: CallFact, *, own: bool) -> None:
        """Count a call for one grant of its chain; what only monitor mode let through is no use of it."""
        key, used = grant.encode(), not fact.would_be_refused
        use = self._uses.hold(key)
        if use is None:
            use = (holder, dict[str, list[int]]())
            self._uses.put(key, use)
        counts = use[1].setdefault(fact.tool, [*_UNUSED])
        counts[not own] += used
        counts[2 + (not own)] += used and fact.succeeded
        counts[4 + (not own)] += own or used
        if own or used:
            counts[6], counts[7] = min(counts[6] or fact.at_ns, fact.at_ns), max(counts[7], fact.at_ns)
        if fact.where.source not in counts[8:]:
            counts.append(fact.where.source)
        row = None if own or not used else self._row(holder, fact.tool, fact.where.source)
        if row is not None:
            row.calls_below += 1
            row.succeeded_below += fact.succeeded
            if fact.succeeded:
                _keep(row.candidates, (fact.at_ns, fact.where.record, _root_of(fact)), _CANDIDATES)

    def _see_parties(self, fact: CallFact, agent: str) -> None:
        where, at = fact.where, fact.at_ns
        self._event(("calls", agent, fact.tool), at, where.record, where.source)
        self._event(("active at", agent, hour_of_week(at)), at, where.record, where.source)
        if fact.principal is not None:
            self._event(("acts for", agent, fact.principal.id), at, where.record, where.source)
        if fact.arguments:
            named = f"{fact.tool}({', '.join(sorted(fact.arguments))})"
            self._event(("passes", agent, named), at, where.record, where.source)
        for key in dict.fromkeys((one.access, f"{one.system} {one.name}") for one in (*fact.resources, *fact.observed)):
            self._event((_ACCESSES[key[0]], agent, key[1]), at, where.record, where.source)

    def _event(self, key: EventKey, at_ns: int, record: str, source: int) -> None:
        seen = self.events.get(key)
        if seen is None:
            if len(self.events) >= _MAX_ROWS:
                self.omitted += 1
                return
            seen = self.events[key] = FirstSeen(at_ns, record)
        elif (at_ns, record) < (seen.at_ns, seen.record):
            seen.at_ns, seen.record = at_ns, record
        seen.count += 1
        seen.sources.add(source)

    def finish(self) -> None:
        """Hold the grants against their use, now that all facts are there."""
        self._see_servers()
        for key, (agent, tools, depth, issued, source, root, kid) in self._grants.items():
            revoked = self._is_revoked(root, kid)
            _, used = self._uses.get(key) or ("", dict[str, list[int]]())
            for tool, constraints in tools.items():
                row = self._row(agent, tool, source)
                if row is not None:
                    _settle(row, constraints, depth, issued, used.get(tool, [*_UNUSED]), revoked=revoked)
        for key, (holder, used) in self._uses.items():
            grant = self._grants.get(key)
            self.ungranted += 0 if grant is not None else sum(counts[0] for counts in used.values())
            revoked = grant is not None and self._is_revoked(grant.root, grant.kid)
            for tool, counts in used.items():
                self._live(self.rows.get((holder, tool)), counts, revoked=revoked)
        for row in self.rows.values():
            live = (record for _, record, root in row.candidates if not self._is_revoked_root(root))
            row.records = list(islice(live, _IDS))

    def _see_servers(self) -> None:
        """See the agents together with the registered servers of the tools that they call."""
        for (relation, agent, tool), seen in list(self.events.items()):
            server = server_of(tool, self._servers) if relation == "calls" else None
            if server is not None:
                self._event(("uses server", agent, server), seen.at_ns, seen.record, min(seen.sources))
                both = self.events.get(("uses server", agent, server))
                if both is not None:
                    both.count += seen.count - 1
                    both.sources |= seen.sources

    def _is_revoked_root(self, root: str) -> bool:
        grant = self._grants.get(root.encode())
        return grant is not None and self._is_revoked(grant.root, grant.kid)

    def _is_revoked(self, root: str, kid: str | None) -> bool:
        """Return whether the issuer key of a root grant is revoked at the end; calls under it show no need."""
        if not self._keys:
            return False
        above = self._grants.get(root.encode()) if kid is None else None
        return self._keys.get((above.kid if above is not None else kid) or "", (0, False))[1]

    @staticmethod
    def _live(row: ToolUsage | None, counts: Sequence[int], *, revoked: bool) -> None:
        """Count when a tool was used, or the calls that are no use."""
        if row is None:
            return
        if revoked:
            row.revoked += counts[4]
            row.revoked_below += counts[5]
            row.succeeded_revoked += counts[2] + counts[3]
        elif counts[7]:
            row.see(counts[6])
            row.see(counts[7])


_ACCESSES: Final = {
    "read": "reads",
    "write": "writes",
    "delete": "deletes",
    "execute": "executes",
    "send": "sends to",
}

_OTHERS: Final = ("(other refusals)", "", "")


def _settle(row: ToolUsage, constraints: str, depth: int, issued: int, used: Sequence[int], *, revoked: bool) -> None:
    own, below = (0, 0) if revoked else used[:2]
    row.sources.update(used[8:])
    row.roots += depth == 0
    row.delegations += depth > 0
    row.used += own > 0
    row.used_below += own == 0 and below > 0
    if not constraints:
        row.open += 1
        row.calls_open += used[0]
    if len(row.constraints) < 2:
        row.constraints.add(constraints)
    row.first_granted = min(row.first_granted or issued, issued)
    row.last_granted = max(row.last_granted, issued)


def _root_of(fact: CallFact) -> str:
    return fact.chain[0].grant if fact.chain else ""


def _keep(calls: list[_T], call: _T, most: int) -> None:
    """Keep the earliest calls, so that the order of the facts does not matter."""
    if len(calls) < most:
        calls.append(call)
        calls.sort()
    elif call < calls[-1]:
        calls[-1] = call
        calls.sort()


def hour_of_week(at_ns: int) -> str:
    """Return the hour of the week in UTC, such as ``Monday 14:00 UTC``."""
    return _hour_of_week(at_ns // _HOUR % _WEEK)


@lru_cache(_WEEK)
def _hour_of_week(hour: int) -> str:
    return datetime.fromtimestamp(hour * 3_600, UTC).strftime("%A %H:00 UTC")
